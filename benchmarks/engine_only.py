"""Large loads on our own engine: a deep backlog, a fleet of workers, many jobs in flight (`--full`)."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from .measurements import NOT_COUNTED, measure_throughput
from .processes import AdapterProcess, Bench, MeasurementFailedError
from .server import BenchmarkServer

CONCURRENCY = 100
DEEP_BACKLOG = 1_000_000
SHALLOW_BACKLOG = 1_000
ORDINARY_BACKLOG = 20_000
SHALLOW_RUNS = 3
# The rate with a deep backlog is taken over the first jobs, while nearly all of it is still there.
DEEP_WINDOW_MARKS = 200
FLEET_BACKLOG = 200_000
# Not counted at either end: until the last worker has found the queue, and while there is not enough for all.
FLEET_EDGE = 20_000
# Processes that start side by side on few processors connect one by one.
CONNECTED_FOR_S = 2.0
SLEEPERS = 10_000
# Longer than a lease of 15 s, so that every lease is renewed more than once while it is watched.
SLEEPERS_WATCHED_S = 35.0
SLEEP_S = 300
POLL_S = 0.02
WAIT_LIMIT_S = 180.0

# The queue's key and the meaning of its scores are arq's: a leased job's score is the end of its lease in ms.
QUEUE_KEY = "arq:queue"
HIDDEN_QUEUE_KEY = "benchmark:hidden-queue"


@dataclass
class EngineResults:
    """What `--full` measured, None as long as it did not."""

    shallow_jobs_per_s: float | None = None
    deep_jobs_per_s: float | None = None
    slowest_script_ms: float | None = None
    three_workers_jobs_per_s: float | None = None
    sleeper_bytes: float | None = None
    shortest_lease_left_ms: float | None = None
    two_workers_jobs_per_s: float | None = None
    forty_workers_jobs_per_s: float | None = None


def measure_engine(server: BenchmarkServer, bench: Bench, results: EngineResults, say: Callable[[str], None]) -> None:
    """All of it, one after the other; `results` is filled as it goes."""
    _measure_depth(server, bench, results)
    say(f"backlog 1,000: {results.shallow_jobs_per_s:,.0f} jobs/s; 1,000,000: {results.deep_jobs_per_s:,.0f} jobs/s")
    results.two_workers_jobs_per_s = measure_fleet(server, bench, 2)
    results.three_workers_jobs_per_s = measure_fleet(server, bench, 3)
    results.forty_workers_jobs_per_s = measure_fleet(server, bench, 40)
    say(
        f"2 workers: {results.two_workers_jobs_per_s:,.0f} jobs/s; 3: {results.three_workers_jobs_per_s:,.0f} jobs/s;"
        f" 40: {results.forty_workers_jobs_per_s:,.0f} jobs/s"
    )
    _measure_sleepers(server, bench, results)
    say(f"{SLEEPERS:,} sleeping jobs: {results.sleeper_bytes:,.0f} bytes each")


def _measure_depth(server: BenchmarkServer, bench: Bench, results: EngineResults) -> None:
    """The deep backlog between two measurements of the shallow one, so that the machine's mood weighs less."""
    before = _shallow_jobs_per_s(server, bench)
    server.renew()
    bench.produce("enqueue", DEEP_BACKLOG)
    with bench.start("work", CONCURRENCY, DEEP_BACKLOG) as worker:
        marks_ns = bench.wait_for_marker(worker, WAIT_LIMIT_S)["marks_ns"]
    results.deep_jobs_per_s = DEEP_WINDOW_MARKS * 1_000 / ((marks_ns[DEEP_WINDOW_MARKS] - marks_ns[0]) / 1e9)
    results.slowest_script_ms = server.slowest_script_ms()
    results.shallow_jobs_per_s = statistics.mean([before, _shallow_jobs_per_s(server, bench)])


def _shallow_jobs_per_s(server: BenchmarkServer, bench: Bench) -> float:
    """A run of 1,000 jobs is over within the worker's first breath. So that this does not flatter the deep backlog, the
    faster of it and an ordinary backlog is what the deep one is held against.
    """
    shallow = [measure_throughput(server, bench, CONCURRENCY, SHALLOW_BACKLOG).jobs_per_s for _ in range(SHALLOW_RUNS)]
    ordinary = measure_throughput(server, bench, CONCURRENCY, ORDINARY_BACKLOG).jobs_per_s
    return max(statistics.median(shallow), ordinary)


def measure_fleet(server: BenchmarkServer, bench: Bench, workers: int) -> float:
    """Jobs per second of several worker processes together, seen from outside: how fast the queue's key shrinks.

    Starting 40 processes takes longer than the first of them needs for the backlog, so the queue is renamed until all
    of them wait for it; they find it by their poll.
    """
    server.renew()
    bench.produce("enqueue", FLEET_BACKLOG)
    server.client.rename(QUEUE_KEY, HIDDEN_QUEUE_KEY)
    with ExitStack() as stack:
        fleet = [
            stack.enter_context(bench.start("work", CONCURRENCY, NOT_COUNTED, marker=f"fleet-{number}"))
            for number in range(workers)
        ]
        _wait_until_connected(server, fleet)
        server.client.rename(HIDDEN_QUEUE_KEY, QUEUE_KEY)
        started = _when_drained_to(server, fleet, FLEET_BACKLOG - FLEET_EDGE)
        ended = _when_drained_to(server, fleet, FLEET_EDGE)
    return (FLEET_BACKLOG - 2 * FLEET_EDGE) / (ended - started)


def _wait_until_connected(server: BenchmarkServer, fleet: list[AdapterProcess]) -> None:
    """Until every worker has a connection and no further ones have come for a while."""
    deadline = time.monotonic() + WAIT_LIMIT_S
    clients, unchanged_since = 0, time.monotonic()
    while clients <= len(fleet) or time.monotonic() - unchanged_since < CONNECTED_FOR_S:
        _check(fleet, deadline)
        time.sleep(POLL_S)
        if (found := server.client.info("clients")["connected_clients"]) != clients:
            clients, unchanged_since = found, time.monotonic()


def _when_drained_to(server: BenchmarkServer, fleet: list[AdapterProcess], jobs: int) -> float:
    deadline = time.monotonic() + WAIT_LIMIT_S
    while server.client.zcard(QUEUE_KEY) > jobs:
        _check(fleet, deadline)
        time.sleep(POLL_S)
    return time.perf_counter()


def _check(fleet: list[AdapterProcess], deadline: float) -> None:
    for worker in fleet:
        if not worker.is_running():
            raise MeasurementFailedError(f"a worker ended: {worker.last_words()}")
    if time.monotonic() > deadline:
        raise MeasurementFailedError(f"{len(fleet)} workers did not get there in {WAIT_LIMIT_S:.0f} s")


def _measure_sleepers(server: BenchmarkServer, bench: Bench, results: EngineResults) -> None:
    """Memory of jobs in flight, and how near to its end the lease of any of them came."""
    server.renew()
    with bench.start("work", SLEEPERS, NOT_COUNTED) as worker:
        _wait_until_connected(server, [worker])
        idle_bytes = worker.rss_bytes()
        bench.produce("enqueue-sleepers", SLEEPERS, SLEEP_S)
        deadline = time.monotonic() + WAIT_LIMIT_S
        while server.client.zcount(QUEUE_KEY, _server_now_ms(server), "+inf") < SLEEPERS:
            _check([worker], deadline)
            time.sleep(POLL_S)
        results.shortest_lease_left_ms = _shortest_lease_left_ms(server)
        results.sleeper_bytes = (worker.rss_bytes() - idle_bytes) / SLEEPERS


def _shortest_lease_left_ms(server: BenchmarkServer) -> float:
    shortest = float("inf")
    watched_until = time.monotonic() + SLEEPERS_WATCHED_S
    while time.monotonic() < watched_until:
        [(_, lease_end_ms)] = server.client.zrange(QUEUE_KEY, 0, 0, withscores=True)
        shortest = min(shortest, lease_end_ms - _server_now_ms(server))
        time.sleep(POLL_S)
    return shortest


def _server_now_ms(server: BenchmarkServer) -> int:
    seconds, microseconds = server.client.time()
    return seconds * 1_000 + microseconds // 1_000
