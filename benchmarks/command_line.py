"""What looking costs on a large Redis: `python -m benchmarks.command_line`.

It fills a throw-away server: finished jobs by a real worker that runs functions that fail and succeed, then queued ones
that nobody works on. Then each command is measured twice:

- its own work, from connected to printed, in this process (stdout goes nowhere): the median and the longest run;
- the wall time of the whole process, `python -m arqestra.cli ...`, with the start of the interpreter and all imports.

While it looks, Redis' slow log is asked for scripts and commands that took over 10 ms.
"""

import argparse
import asyncio
import contextlib
import io
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from arqestra import Pool, Worker, create_pool, func
from arqestra.cli.jobs import list_jobs
from arqestra.cli.output import Output
from arqestra.cli.queues import list_queues
from arqestra.cli.shell import Shell
from arqestra.cli.stats import stats
from arqestra.embedded import EmbeddedRedis

QUEUED, FINISHED = 1_000_000, 100_000
FUNCTIONS = 20
RUNS, PROCESS_RUNS = 20, 5
PIECE = 20_000
SLOW_MICROSECONDS = 10_000

Look = Callable[[Shell], Awaitable[None]]

LOOKS: dict[str, Look] = {
    "jobs list --function fail3 --state failed": lambda shell: list_jobs(shell, state="failed", function="fail3"),
    "jobs list --state failed": lambda shell: list_jobs(shell, state="failed"),
    "jobs list --state complete --since 1h": lambda shell: list_jobs(shell, state="complete", since="1h"),
    "jobs list --function fail3": lambda shell: list_jobs(shell, function="fail3"),
    "jobs list": list_jobs,
    "queues list": list_queues,
    "stats": stats,
}


async def fail(ctx: dict[Any, Any], number: int) -> None:
    """A job that fails."""
    raise ValueError(f"no good: {number}")


async def succeed(ctx: dict[Any, Any], number: int) -> int:
    """A job that does not."""
    return number


def functions() -> list[Any]:
    """Names for the same two functions: half of them fail."""
    return [
        func(fail if place % 2 else succeed, name=f"{'fail' if place % 2 else 'succeed'}{place}", max_tries=1)
        for place in range(FUNCTIONS)
    ]


async def fill(url: str, pool: Pool, *, queued: int, finished: int) -> None:
    """Finished jobs, then queued ones."""
    names = [each.name for each in functions()]

    async def enqueue(count: int, names: list[str]) -> None:
        for first in range(0, count, PIECE):
            calls = ((names[number % len(names)], (number,)) for number in range(first, min(count, first + PIECE)))
            await pool.enqueue_many(calls)

    started_s = time.perf_counter()
    await enqueue(finished, names)
    worker = Worker(
        functions(),
        redis_settings=url,
        serializer="msgpack",
        burst=True,
        max_jobs=200,
        keep_result=3600,
        handle_signals=False,
    )
    await worker.async_run()
    await worker.close()
    print(f"{finished:,} finished jobs in {time.perf_counter() - started_s:.0f} s")
    started_s = time.perf_counter()
    await enqueue(queued, ["succeed0"])  # of fail3 there is none: all that may be looked at is looked at
    print(f"{queued:,} queued jobs in {time.perf_counter() - started_s:.0f} s")


async def own_work_ms(url: str, look: Look) -> list[float]:
    """How long it takes from connected to printed, with a new connection each time."""
    found: list[float] = []
    for _ in range(RUNS):
        pool = await create_pool(url, serializer="msgpack")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            shell = Shell(pool, Output(as_json=False), url, None)
            started_s = time.perf_counter()
            await look(shell)
            found.append((time.perf_counter() - started_s) * 1000)
        assert printed.getvalue()
        await pool.aclose()
    return found


def process_ms(url: str, words: Iterable[str]) -> list[float]:
    """How long the whole process takes."""
    environment = {**os.environ, "REDIS_URL": url, "ARQESTRA_SERIALIZER": "msgpack"}
    found: list[float] = []
    for _ in range(PROCESS_RUNS):
        started_s = time.perf_counter()
        subprocess.run([sys.executable, "-m", "arqestra.cli", *words], env=environment, check=True, capture_output=True)
        found.append((time.perf_counter() - started_s) * 1000)
    return found


async def measure(*, queued: int, finished: int) -> None:
    """Fill a server and print a table."""
    with EmbeddedRedis(use_environment=False) as server:
        pool = await create_pool(server.url, serializer="msgpack")
        await fill(server.url, pool, queued=queued, finished=finished)
        await pool.config_set("slowlog-log-slower-than", SLOW_MICROSECONDS)
        await pool.slowlog_reset()
        print(f"{'command':<44}{'own work p50':>14}{'longest':>10}{'process p50':>14}")
        for name, look in LOOKS.items():
            own = await own_work_ms(server.url, look)
            whole = await asyncio.to_thread(process_ms, server.url, name.split())
            print(
                f"{name:<44}{statistics.median(own):>11.1f} ms{max(own):>7.0f} ms{statistics.median(whole):>11.0f} ms"
            )
        slow = await pool.slowlog_get(10)
        print(f"commands and scripts of over {SLOW_MICROSECONDS / 1000:.0f} ms: {len(slow)}")
        for each in slow:
            print(f"  {each['duration'] / 1000:.1f} ms: {each['command'][:60]!r}")
        await pool.aclose()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=QUEUED, help=f"default {QUEUED:,}")
    parser.add_argument("--finished", type=int, default=FINISHED, help=f"default {FINISHED:,}")
    parsed = parser.parse_args()
    logging.getLogger("arq.worker").setLevel(logging.CRITICAL)
    asyncio.run(measure(queued=parsed.queued, finished=parsed.finished))


if __name__ == "__main__":
    main()
