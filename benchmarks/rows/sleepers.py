"""Memory of jobs in flight, and how near to its end the lease of any of them came."""

import time

from ..draining import NOT_COUNTED, POLL_S, QUEUE_KEY, WAIT_LIMIT_S, check_running, wait_until_connected
from ..server import BenchmarkServer
from ..stage import Stage

SLEEPERS = 10_000
SLEEP_S = 300
# Longer than a lease of 15 s, so that every lease is renewed more than once while it is watched.
WATCHED_S = 35.0


def measure_sleepers(stage: Stage) -> dict[str, float]:
    """`bytes_each` of the worker's memory, and `shortest_lease_left_ms` of all the leases."""
    server = stage.server
    server.renew()
    with stage.bench.start("work", SLEEPERS, NOT_COUNTED) as worker:
        wait_until_connected(server, [worker])
        idle_bytes = worker.rss_bytes()
        stage.bench.produce("enqueue-sleepers", SLEEPERS, SLEEP_S)
        deadline = time.monotonic() + WAIT_LIMIT_S
        while server.client.zcount(QUEUE_KEY, _server_now_ms(server), "+inf") < SLEEPERS:
            check_running([worker], deadline)
            time.sleep(POLL_S)
        shortest = _shortest_lease_left_ms(server)
        return {"shortest_lease_left_ms": shortest, "bytes_each": (worker.rss_bytes() - idle_bytes) / SLEEPERS}


def _shortest_lease_left_ms(server: BenchmarkServer) -> float:
    shortest = float("inf")
    watched_until = time.monotonic() + WATCHED_S
    while time.monotonic() < watched_until:
        [(_, lease_end_ms)] = server.client.zrange(QUEUE_KEY, 0, 0, withscores=True)
        shortest = min(shortest, lease_end_ms - _server_now_ms(server))
        time.sleep(POLL_S)
    return shortest


def _server_now_ms(server: BenchmarkServer) -> int:
    seconds, microseconds = server.client.time()
    return seconds * 1_000 + microseconds // 1_000
