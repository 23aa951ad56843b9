"""What looking costs by the dashboard: `make bench-dashboard`.

On a Redis with 1,000,000 queued jobs, 100,000 ended ones and 30 days of statistics:

- each page and each reading of the API, cold and then again, over HTTP from a process; and what Redis' SLOWLOG has over
  10 ms meanwhile;
- how long it is from the end of a job until an open page is told of it;
- what a worker does in a second, with and without an open page.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import redis
import uvloop

from arqestra import Pool, create_pool
from arqestra.embedded import EmbeddedRedis
from arqestra.protocol.clock import timestamp_ms
from arqestra.protocol.recent_jobs import Failure, encode_recent_job
from arqestra.protocol.serializers import SERIALIZERS
from arqestra.protocol.wire import JobEnd, Payload, encode_result
from arqestra.store.recent import EndedList, write_recent

QUEUE = "arq:queue"
FUNCTIONS = [f"shop.tasks.function_{number}" for number in range(20)]
SLOW_US = 10_000
ROUNDS = 5
NOOP = """
import sys, uvloop
from arqestra import Worker, func
async def noop(ctx): pass
async def main():
    worker = Worker(functions=[func(noop, name="noop")], redis_settings=sys.argv[1], serializer="msgpack", burst=True,
                    queue_name="bench", max_jobs=100, handle_signals=False, log_results=False)
    await worker.async_run()
uvloop.run(main())
"""


async def fill(pool: Pool, queued: int, ended: int) -> None:
    """Fill the Redis."""
    for first in range(0, queued, 50_000):
        specs = [(FUNCTIONS[number % 20], (number, "text")) for number in range(first, min(first + 50_000, queued))]
        await pool.enqueue_many(specs)
    now_ms = timestamp_ms()
    async with pool.pipeline(transaction=False) as pipe:
        for number in range(ended):
            payload = Payload(FUNCTIONS[number % 20], (number,), {}, None, now_ms - 9_000, {"x": now_ms + 86_400_000})
            end = JobEnd(payload, f"ended-{number}", QUEUE, 1, number % 5 > 0, number, now_ms - 8_000, now_ms - 7_000)
            data = encode_result(SERIALIZERS["msgpack"], end)
            assert data is not None
            pipe.set(pool.store.keys.result(end.job_id), data)
            if number % 5_000 == 0:
                await pipe.execute()
        await pipe.execute()
    for place, function in enumerate(FUNCTIONS):
        for state in ("complete", "failed", "retried"):
            failure = None if state == "complete" else Failure("ValueError", "no good", f"tasks.py:{place} in work")
            numbers = range(place, ended, 20)
            entries = [
                (
                    now_ms - number * 500,
                    encode_recent_job(
                        f"ended-{number}",
                        1,
                        enqueued_ms=1,
                        started_ms=2,
                        worker_id="worker",
                        function=function,
                        failure=failure,
                    ),
                )
                for number in numbers
            ]
            await write_recent(pool.store, QUEUE, [EndedList(state, function, entries)])
    await _count(pool)


async def _count(pool: Pool) -> None:
    keys = pool.store.keys
    figures = {"enqueued": 900, "complete": 870, "failed": 20, "retried": 40, "run_ms_total": 9_000, "run_ms_max": 90}
    figures |= {f"run_le_{place}": 80 for place in range(9)} | {f"wait_le_{place}": 90 for place in range(8)}
    fields = {f"{QUEUE}|{name}|{figure}": number for name in FUNCTIONS for figure, number in figures.items()}
    now_s = int(time.time())
    names = [keys.statistics(now_s // 60 - age) for age in range(1, 1500)]
    names += [keys.hourly_statistics(now_s // 3600 - age) for age in range(1, 720)]
    for first in range(0, len(names), 100):
        async with pool.pipeline(transaction=False) as pipe:
            for name in names[first : first + 100]:
                pipe.hset(name, mapping=fields)
            await pipe.execute()


@contextmanager
def dashboard(url: str) -> Iterator[str]:
    """A dashboard process; its address."""
    command = [sys.executable, "-m", "arqestra.cli", "dashboard", "--port", "0", "--redis-url", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip().removeprefix("dashboard: ").rstrip("/")
        finally:
            process.terminate()


def get(address: str, path: str) -> tuple[float, bytes]:
    """How long an answer took (ms), and the answer."""
    before_s = time.perf_counter()
    with urllib.request.urlopen(address + path, timeout=60) as answer:
        body = answer.read()
    return (time.perf_counter() - before_s) * 1000, body


def paths_of(address: str) -> list[str]:
    """All pages and readings, with the filters that cost most."""
    job = json.loads(get(address, "/api/jobs?limit=1")[1])["jobs"][0]["id"]
    found = ["/", *(f"/?range={each}" for each in ("15m", "6h", "24h", "7d", "30d"))]
    found += [f"/api/charts?range={each}" for each in ("1h", "6h", "24h", "7d", "30d")]
    found += [f"/jobs?state={state}" for state in ("queued", "running", "deferred", "failed", "complete", "dead")]
    found += ["/jobs?state=queued&function=nobody", "/jobs?state=failed&id=nobody", f"/jobs?state=queued&id={job}"]
    found += [f"/job?{urlencode({'id': job})}", "/job?id=ended-0", "/errors", "/errors?within=7d", "/queues"]
    found += [f"/queue?name={QUEUE}", "/workers", "/schedules", "/workflows", "/search?q=function_1", "/audit"]
    return [*found, f"/search?q={job}", "/metrics", "/healthz"]


def measure_pages(address: str, server: redis.Redis) -> None:
    """Print how long each page took, and what was slow in Redis."""
    paths = paths_of(address)
    server.config_set("slowlog-log-slower-than", SLOW_US)
    server.slowlog_reset()
    first = {path: get(address, path)[0] for path in paths}
    again: dict[str, list[float]] = {path: [] for path in paths}
    for _ in range(ROUNDS):
        time.sleep(1.1)  # what was read is shared for a second
        for path in paths:
            again[path].append(get(address, path)[0])
    print(f"{'page':44} {'first':>8} {'median':>8} {'longest':>8}  ms")
    for path in paths:
        print(f"{path[:44]:44} {first[path]:8.1f} {statistics.median(again[path]):8.1f} {max(again[path]):8.1f}")
    slow = server.slowlog_get(100)
    print(f"longest first {max(first.values()):.0f} ms, longest again {max(map(max, again.values())):.0f} ms")
    print(f"Redis: {len(slow)} commands over {SLOW_US / 1000:.0f} ms")
    for entry in slow[:10]:
        print("  ", entry["duration"], "us", entry["command"][:100])


class OpenPage:
    """What a browser does for an open overview: follows the events, and fetches the page every two seconds."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stopped = threading.Event()
        self.ended: list[tuple[float, float]] = []  # when it was told (s), jobs that had ended
        self._counts: dict[int, float] = {}  # minute -> jobs that have ended in it
        self._threads = [threading.Thread(target=self._follow), threading.Thread(target=self._fetch)]

    def __enter__(self) -> OpenPage:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _follow(self) -> None:
        with urllib.request.urlopen(f"{self._address}/live", timeout=60) as stream:
            while not self._stopped.is_set():
                line = stream.readline()
                if line.startswith(b"data: "):
                    told = json.loads(line.removeprefix(b"data: "))
                    latest, now_s = told["latest"], told["now_ms"] / 1000
                    for at_s, rate in zip(latest["at"], latest["ended"], strict=True):
                        self._counts[at_s] = rate * min(60.0, max(1.0, now_s - at_s))
                    self.ended.append((time.monotonic(), sum(self._counts.values())))

    def _fetch(self) -> None:
        while not self._stopped.wait(2.0):
            get(self._address, "/")


def run_worker(url: str, jobs: int) -> float:
    """Jobs a second of a worker process, its start left out."""

    async def enqueue() -> None:
        pool = await create_pool(url, serializer="msgpack", default_queue_name="bench")
        await pool.enqueue_many([("noop",)] * jobs)
        await pool.aclose()

    uvloop.run(enqueue())
    with redis.Redis.from_url(url) as server, subprocess.Popen([sys.executable, "-c", NOOP, url]) as process:
        while server.zcard("bench") == jobs:  # until the first has ended
            time.sleep(0.001)
        before_s = time.perf_counter()
        process.wait()
        return jobs / (time.perf_counter() - before_s)


def measure_lag(url: str, address: str) -> None:
    """Print how long it takes until an open page is told of what happened."""

    async def run() -> list[float]:
        from arqestra import Worker, func

        async def work(ctx: dict[Any, Any]) -> None:
            pass

        pool = await create_pool(url, serializer="msgpack", default_queue_name="lag")
        options: dict[str, Any] = {"handle_signals": False, "serializer": "msgpack", "queue_name": "lag"}
        worker = Worker(functions=[func(work, name="work")], redis_settings=url, **options)
        running = asyncio.ensure_future(worker.async_run())
        lags = []
        with OpenPage(address) as page:
            for number in range(20):
                await asyncio.sleep(2.2 + number * 0.037)
                known = len(page.ended)
                before = page.ended[-1][1] if page.ended else 0.0
                jobs = await pool.enqueue_many([("work",)] * 2_000)
                assert jobs[-1] is not None
                await jobs[-1].result(timeout=30)
                done_s = time.monotonic()
                while not any(count > before + 1_000 for _, count in page.ended[known:]):  # noqa: ASYNC110 - another process tells
                    await asyncio.sleep(0.005)
                lags.append(next(at_s for at_s, count in page.ended[known:] if count > before + 1_000) - done_s)
        await worker.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await pool.aclose()
        return lags

    lags = uvloop.run(run())
    print(f"lag of an open page: median {statistics.median(lags):.2f} s, longest {max(lags):.2f} s of {len(lags)}")


def measure_cost(url: str, address: str, jobs: int) -> None:
    """Print what a worker does with and without an open page, in turns."""
    without, beside = [], []
    for _ in range(6):
        without.append(run_worker(url, jobs))
        with OpenPage(address):
            beside.append(run_worker(url, jobs))
    low, high = min(without), max(without)
    print(
        f"a worker's jobs/s without an open page: median {statistics.median(without):,.0f} ({low:,.0f} to {high:,.0f})"
    )
    print(f"with one: median {statistics.median(beside):,.0f} ({min(beside):,.0f} to {max(beside):,.0f})")


def main() -> None:
    """Fill a throw-away Redis and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--ended", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=60_000, help="of each run of the worker")
    given = parser.parse_args()

    async def prepare(url: str) -> None:
        pool = await create_pool(url, serializer="msgpack")
        await fill(pool, given.queued, given.ended)
        await pool.aclose()

    with EmbeddedRedis(use_environment=False) as server, redis.Redis.from_url(server.url) as client:
        uvloop.run(prepare(server.url))
        print(f"{given.queued:,} queued, {given.ended:,} ended, {client.info()['used_memory_human']} of memory")
        with dashboard(server.url) as address:
            measure_pages(address, client)
            measure_lag(server.url, address)
            measure_cost(server.url, address, given.jobs)


if __name__ == "__main__":
    main()
