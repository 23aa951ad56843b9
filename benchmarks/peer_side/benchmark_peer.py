"""The contract between the driver and an adapter, for adapters written in Python.

An adapter runs in its peer's own environment, so this module imports the standard library only. An adapter is a
subclass of `Peer` and ends with `run(MyPeer())`, which gives it this command line:

    adapter.py work CONCURRENCY EXPECTED   run a worker until SIGTERM; after EXPECTED no-op jobs write the marker file
    adapter.py enqueue N                   queue N no-op jobs the fastest way the peer has
    adapter.py bulk N | gather N           the same, by the peer's bulk call | by concurrent single calls
    adapter.py sequential N                N no-op jobs, one awaited call after the other
    adapter.py latency N LIMIT_S           N jobs on an idle queue: enqueue to the first line of the job
    adapter.py result-latency N LIMIT_S    N jobs on an idle queue: enqueue to result in hand
    adapter.py ping-latency N LIMIT_S      N PINGs with the same idle gaps between them (ours only)
    adapter.py against-ping N              N sequential enqueues and N sequential PINGs on the same client, in turns
    adapter.py against-sync N              N sequential enqueues and N without asyncio, in turns (ours only)
    adapter.py chord N                     a chord of N no-op jobs and a body, on an idle queue: call to result in hand
    adapter.py batch N                     N no-op jobs in bulk, on an idle queue: call to the end of all (ours only)
    adapter.py enqueue-sleepers N SLEEP_S  N jobs that sleep (ours only)
    adapter.py enqueue-failing N           N jobs that count themselves and fail at their only try (ours only)
    adapter.py enqueue-featured N WHAT     N no-op jobs that use an option: limited, prior, unique, chained (ours only)
    adapter.py keep-filled BURST LIMIT S   no-op jobs in bursts for S seconds, LIMIT queued or running (ours only)
    adapter.py trickle BURST RATE S        RATE no-op jobs a second in bursts for S seconds (ours only)
    adapter.py idle-fleet N                N workers in one process until SIGTERM (ours only)
    adapter.py supervise C P N             P supervised processes of C slots, renewed after N jobs each (ours only)

Every command but the last two and `work` prints one line of JSON. The environment gives BENCH_REDIS_URL and
BENCH_MARKER, and BENCH_RESULT_WAITED=1 to worker and producer when results will be waited for. Standard input is a pipe
held open by the driver: when it closes the driver is gone, and the adapter ends.
"""

import asyncio
import itertools
import json
import logging
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

BULK_CHUNK = 1_000
GATHER_CHUNK = 500
TURN = 100
WARM_UP_JOBS = 5
ANSWER_TIMEOUT_S = 30.0
MARK_EVERY = 1_000
WARM_UP_S = 1.5
LOOK_S = 0.001

_job_numbers = itertools.count(1)
_datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
_marks_ns: list[int] = []
_expected = 0


class UnsupportedError(Exception):
    """The peer has no such operation; the table shows a dash."""


def redis_url() -> str:
    """Address of the run's server."""
    return os.environ["BENCH_REDIS_URL"]


def results_are_waited_for() -> bool:
    """Whether this measurement waits for results, for peers that must be told beforehand to announce them."""
    return os.environ.get("BENCH_RESULT_WAITED") == "1"


def count_job() -> None:
    """The body of the no-op job: count it, and after the last expected one write when the first and last ran.

    `next()` on a counter is atomic, so thread-based workers share it without a lock.
    """
    number = next(_job_numbers)
    if number % MARK_EVERY == 1 or number == _expected:
        _marks_ns.append(time.time_ns())
        if number == _expected:
            _write_marker()


def _write_marker() -> None:
    marker = Path(os.environ["BENCH_MARKER"])
    content = {"jobs": _expected, "first_ns": _marks_ns[0], "last_ns": _marks_ns[-1], "marks_ns": _marks_ns}
    unfinished = marker.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content))
    unfinished.replace(marker)


def answer_start(port: int) -> None:
    """The body of the stamp job: tell the producer by one datagram when the job's first line ran."""
    started_ns = time.time_ns()
    _datagrams.sendto(str(started_ns).encode(), ("127.0.0.1", port))


def noop(number: int) -> int:
    """The no-op job for peers with synchronous jobs."""
    count_job()
    return number


def stamp(port: int) -> int:
    """The stamp job for peers with synchronous jobs."""
    answer_start(port)
    return port


class Peer:
    """One queue library. A method left alone raises `UnsupportedError`, which the table shows as a dash."""

    is_asynchronous = True
    # The pause before each job of a latency measurement: long enough for a worker to write the result and go back to
    # waiting, and random. An adapter of a library that polls widens it to the period of the poll, or every job would
    # come just after one.
    idle_gap_s = (0.005, 0.015)

    async def open(self) -> None:
        """Connect as a producer."""

    async def close(self) -> None:
        """Disconnect."""

    async def enqueue_one(self) -> None:
        """Queue one no-op job, and return when Redis has it."""
        raise UnsupportedError

    def enqueue_one_without_asyncio(self) -> None:
        """Queue one no-op job by the client for code without asyncio."""
        raise UnsupportedError

    async def enqueue_stamp(self, port: int) -> None:
        """Queue one stamp job."""
        raise UnsupportedError

    async def enqueue_and_wait(self) -> None:
        """Queue one no-op job, and return when its result is here."""
        raise UnsupportedError

    async def run_chord(self, count: int) -> None:
        """Queue a job that waits for `count` no-op jobs, and return when its result is here."""
        raise UnsupportedError

    async def run_batch(self, count: int) -> None:
        """Queue `count` no-op jobs by the bulk call, and return when all have ended."""
        raise UnsupportedError

    async def enqueue_bulk(self, count: int) -> None:
        """Queue `count` no-op jobs by the peer's bulk call."""
        raise UnsupportedError

    async def enqueue_sleepers(self, count: int, sleep_s: float) -> None:
        """Queue `count` jobs that sleep for `sleep_s` seconds."""
        raise UnsupportedError

    async def enqueue_failing(self, count: int) -> None:
        """Queue `count` jobs that fail."""
        raise UnsupportedError

    async def enqueue_featured(self, feature: str, count: int) -> None:
        """Queue `count` no-op jobs that use an option of the queue."""
        raise UnsupportedError

    async def outstanding(self) -> int:
        """How many jobs are queued or running."""
        raise UnsupportedError

    async def ping(self) -> None:
        """One PING on the same client that enqueues."""
        raise UnsupportedError

    def work(self, concurrency: int) -> None:
        """Run a worker in this process until SIGTERM."""
        raise NotImplementedError

    def idle_fleet(self, workers: int) -> None:
        """Run this many workers in this process until SIGTERM."""
        raise NotImplementedError

    def supervise(self, concurrency: int, processes: int, jobs_a_child: int) -> None:
        """Run supervised worker processes until SIGTERM, each for so many jobs; 0: for good."""
        raise NotImplementedError


async def enqueue_in_bulk(peer: Peer, count: int) -> None:
    """`count` jobs by bulk calls of at most BULK_CHUNK."""
    for start in range(0, count, BULK_CHUNK):
        await peer.enqueue_bulk(min(BULK_CHUNK, count - start))


async def enqueue_concurrently(peer: Peer, count: int) -> None:
    """`count` jobs by single calls, GATHER_CHUNK of them at a time."""
    if not peer.is_asynchronous:
        raise UnsupportedError
    for start in range(0, count, GATHER_CHUNK):
        await asyncio.gather(*(peer.enqueue_one() for _ in range(min(GATHER_CHUNK, count - start))))


async def enqueue_sequentially(peer: Peer, count: int) -> None:
    """`count` jobs, each call awaited before the next."""
    for _ in range(count):
        await peer.enqueue_one()


async def enqueue_and_ping_in_turns(peer: Peer, count: int) -> dict[str, Any]:
    """Seconds of `count` enqueues and of `count` PINGs, in short turns, so that a busy moment strikes both alike."""
    seconds = {"enqueue_seconds": 0.0, "ping_seconds": 0.0}
    await enqueue_sequentially(peer, TURN)
    for _ in range(max(1, count // TURN)):
        for name, call in (("enqueue_seconds", peer.enqueue_one), ("ping_seconds", peer.ping)):
            started = time.perf_counter()
            for _ in range(TURN):
                await call()
            seconds[name] += time.perf_counter() - started
    return {"jobs": max(1, count // TURN) * TURN, **seconds}


async def enqueue_with_and_without_asyncio(peer: Peer, count: int) -> dict[str, Any]:
    """Seconds of `count` enqueues awaited one after the other, and of as many blocking ones, in short turns."""
    seconds = {"enqueue_seconds": 0.0, "sync_seconds": 0.0}
    await enqueue_sequentially(peer, TURN)
    for _ in range(TURN):
        peer.enqueue_one_without_asyncio()
    for _ in range(max(1, count // TURN)):
        started = time.perf_counter()
        await enqueue_sequentially(peer, TURN)
        between = time.perf_counter()
        for _ in range(TURN):
            peer.enqueue_one_without_asyncio()
        seconds["enqueue_seconds"] += between - started
        seconds["sync_seconds"] += time.perf_counter() - between
    return {"jobs": max(1, count // TURN) * TURN, **seconds}


async def enqueue_fastest(peer: Peer, count: int) -> None:
    """`count` jobs by the first of bulk, concurrent and sequential calls that the peer has."""
    for way in (enqueue_in_bulk, enqueue_concurrently, enqueue_sequentially):
        try:
            return await way(peer, count)
        except UnsupportedError:
            continue


async def start_latencies(peer: Peer, count: int, limit_s: float) -> list[int]:
    """Nanoseconds from the enqueue call to the first line of the job, for up to `count` jobs or `limit_s` seconds."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answers:
        answers.bind(("127.0.0.1", 0))
        answers.setblocking(False)
        port = answers.getsockname()[1]

        async def once() -> int:
            sent_ns = time.time_ns()
            await peer.enqueue_stamp(port)
            started_ns = await asyncio.wait_for(loop.sock_recv(answers, 64), ANSWER_TIMEOUT_S)
            return int(started_ns) - sent_ns

        return await _sample(peer, once, count, limit_s)


async def result_latencies(peer: Peer, count: int, limit_s: float) -> list[int]:
    """Nanoseconds from the enqueue call to the result in hand, for up to `count` jobs or `limit_s` seconds."""

    async def once() -> int:
        sent_ns = time.perf_counter_ns()
        await asyncio.wait_for(peer.enqueue_and_wait(), ANSWER_TIMEOUT_S)
        return time.perf_counter_ns() - sent_ns

    return await _sample(peer, once, count, limit_s)


async def ping_latencies(peer: Peer, count: int, limit_s: float) -> list[int]:
    """Nanoseconds of a PING on an idle machine: what one round trip costs here, whatever is in it."""

    async def once() -> int:
        sent_ns = time.perf_counter_ns()
        await peer.ping()
        return time.perf_counter_ns() - sent_ns

    return await _sample(peer, once, count, limit_s)


async def _sample(peer: Peer, once: Callable[[], Awaitable[int]], count: int, limit_s: float) -> list[int]:
    gaps = random.Random(7)
    for _ in range(WARM_UP_JOBS):
        await once()
    samples: list[int] = []
    deadline = time.monotonic() + limit_s
    while len(samples) < count and time.monotonic() < deadline:
        await asyncio.sleep(gaps.uniform(*peer.idle_gap_s))
        samples.append(await once())
    return samples


async def keep_filled(peer: Peer, burst: int, limit: int, seconds: float) -> dict[str, Any]:
    """Keep `limit` jobs queued or running, by bursts of `burst`: as many end as are enqueued.

    The first WARM_UP_S are not counted, of which `all_jobs` and `all_seconds` tell as well.
    """

    async def next_bursts(_: float) -> int:
        return (limit - await peer.outstanding()) // burst

    return await _enqueue_bursts(peer, burst, seconds, next_bursts)


async def trickle(peer: Peer, burst: int, jobs_per_s: float, seconds: float) -> dict[str, Any]:
    """`jobs_per_s` in bursts of `burst`, however many are waiting. A late burst is made up for."""
    sent = 0

    async def next_bursts(passed_s: float) -> int:
        nonlocal sent
        due = int(passed_s * jobs_per_s / burst) - sent
        sent += due
        return due

    return await _enqueue_bursts(peer, burst, seconds, next_bursts)


async def _enqueue_bursts(
    peer: Peer, burst: int, seconds: float, next_bursts: Callable[[float], Awaitable[int]]
) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    jobs = all_jobs = 0
    while (passed_s := loop.time() - began) < WARM_UP_S + seconds:
        count = await next_bursts(passed_s)
        if count <= 0:
            await asyncio.sleep(LOOK_S)
            continue
        await asyncio.gather(*(peer.enqueue_bulk(burst) for _ in range(count)))
        all_jobs += count * burst
        jobs += count * burst if passed_s >= WARM_UP_S else 0
    return {"jobs": jobs, "seconds": passed_s - WARM_UP_S, "all_jobs": all_jobs, "all_seconds": passed_s}


async def _timed(peer: Peer, way: Callable[[Peer, int], Awaitable[None]], count: int) -> dict[str, Any]:
    started = time.perf_counter()
    await way(peer, count)
    return {"jobs": count, "seconds": time.perf_counter() - started}


TIMED_WAYS = {
    "enqueue": enqueue_fastest,
    "bulk": enqueue_in_bulk,
    "gather": enqueue_concurrently,
    "sequential": enqueue_sequentially,
}


LATENCIES = {"latency": start_latencies, "result-latency": result_latencies, "ping-latency": ping_latencies}


async def _produce(peer: Peer, command: str, arguments: list[str]) -> dict[str, Any]:
    await peer.open()
    try:
        if command in LATENCIES:
            return {"samples_ns": await LATENCIES[command](peer, int(arguments[0]), float(arguments[1]))}
        if command == "enqueue-sleepers":
            await peer.enqueue_sleepers(int(arguments[0]), float(arguments[1]))
            return {"jobs": int(arguments[0])}
        if command == "enqueue-failing":
            await peer.enqueue_failing(int(arguments[0]))
            return {"jobs": int(arguments[0])}
        if command == "enqueue-featured":
            await peer.enqueue_featured(arguments[1], int(arguments[0]))
            return {"jobs": int(arguments[0])}
        if command in ("keep-filled", "trickle"):
            bursts = keep_filled if command == "keep-filled" else trickle
            return await bursts(peer, int(arguments[0]), int(arguments[1]), float(arguments[2]))
        if command == "against-ping":
            return await enqueue_and_ping_in_turns(peer, int(arguments[0]))
        if command == "against-sync":
            return await enqueue_with_and_without_asyncio(peer, int(arguments[0]))
        if command in ("chord", "batch"):
            run_once = peer.run_chord if command == "chord" else peer.run_batch
            await run_once(GATHER_CHUNK)
            started = time.perf_counter()
            await run_once(int(arguments[0]))
            return {"jobs": int(arguments[0]), "seconds": time.perf_counter() - started}
        way = TIMED_WAYS[command]
        if command != "enqueue":
            # Connections are opened and scripts loaded before the clock starts, for every peer alike.
            await way(peer, GATHER_CHUNK)
        return await _timed(peer, way, int(arguments[0]))
    except UnsupportedError:
        return {"unsupported": True}
    finally:
        await peer.close()


def _end_with_the_driver() -> None:
    # Not sys.stdin: its lock, held by this thread, would make the interpreter abort at exit.
    while os.read(0, 4096):
        pass
    os._exit(1)


def run(peer: Peer) -> None:
    """The adapter's command line."""
    global _expected
    logging.basicConfig(level=logging.WARNING)
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    command, *arguments = sys.argv[1:]
    if command == "work":
        _expected = int(arguments[1])
        return peer.work(int(arguments[0]))
    if command == "idle-fleet":
        return peer.idle_fleet(int(arguments[0]))
    if command == "supervise":
        return peer.supervise(*map(int, arguments))
    with asyncio.Runner(loop_factory=_fast_loop_factory()) as runner:
        print(json.dumps(runner.run(_produce(peer, command, arguments))), flush=True)


def _fast_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where the peer's environment has it."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
