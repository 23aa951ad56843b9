"""What observation costs: no-op throughput with it and without, in turns, on one server (`make bench-observation`).

With it: counts and histograms, recent jobs, registry, enqueue counts, all written once a second, as every worker does.
Without it: a worker whose reporter counts and writes nothing. There is no such setting; it is made here. The two
take turns, so that a busy minute strikes both, and the median of the pairs' ratios counts.
"""

import asyncio
import logging
import statistics
import sys
import time
from typing import Any

import uvloop

import arqestra
from arqestra.embedded import EmbeddedRedis
from arqestra.worker.run import report

JOBS = 40_000
PAIRS = 12
CONCURRENCY = 100


class Load:
    """No-op jobs that count themselves."""

    def __init__(self) -> None:
        self.seen = 0
        self.began_s = self.ended_s = self.cpu_s = 0.0
        self.done = asyncio.Event()

    async def noop(self, ctx: dict[Any, Any], number: int) -> None:
        if self.seen == 0:
            self.began_s, self.cpu_s = time.perf_counter(), time.process_time()
        self.seen += 1
        if self.seen == JOBS:
            self.ended_s, self.cpu_s = time.perf_counter(), time.process_time() - self.cpu_s
            self.done.set()


class BlindWorker(arqestra.Worker):
    """A worker that observes nothing."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.reporter.start = lambda **_: None  # type: ignore[method-assign]
        self.slots._ended = lambda attempt: None


def _count_only(run: Any, attempt: Any, outcome: Any) -> None:
    run.counts.complete += 1


async def measure(url: str, *, observed: bool) -> tuple[float, float]:
    """Jobs a second, and microseconds of the worker's processor time a job."""
    load = Load()
    pool = await arqestra.create_pool(url)
    await pool.flushall()
    if not observed:
        pool.store.enqueued.add = lambda queue, function, number=1: None  # type: ignore[method-assign]
    await pool.enqueue_many([("noop", (number,)) for number in range(JOBS)])
    make = arqestra.Worker if observed else BlindWorker
    count = report._count
    if not observed:
        report._count = _count_only
    functions = [arqestra.func(load.noop, name="noop")]
    worker = make(functions, redis_settings=url, max_jobs=CONCURRENCY, handle_signals=False)
    running = asyncio.create_task(worker.async_run())
    try:
        await load.done.wait()
    finally:
        report._count = count
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)
        await pool.aclose()
    return JOBS / (load.ended_s - load.began_s), load.cpu_s / JOBS * 1e6


async def main(url: str) -> None:
    """Print a line for each pair, and the medians."""
    rates, cpus = [], []
    for number in range(PAIRS):
        first = number % 2 == 0
        one = await measure(url, observed=first)
        two = await measure(url, observed=not first)
        with_it, without = (one, two) if first else (two, one)
        rates.append(with_it[0] / without[0])
        cpus.append(with_it[1] / without[1])
        print(
            f"with {with_it[0]:7,.0f} jobs/s, {with_it[1]:4.1f} us   without {without[0]:7,.0f} jobs/s, "
            f"{without[1]:4.1f} us   {rates[-1]:.3f}",
            flush=True,
        )
    print(
        f"throughput with observation: {statistics.median(rates):.1%} of that without (median of {PAIRS} pairs); "
        f"processor time a job: {statistics.median(cpus):.1%}"
    )


if __name__ == "__main__":
    logging.disable(logging.INFO)
    with EmbeddedRedis(use_environment=False) as server:
        uvloop.run(main(server.url))
    sys.exit(0)
