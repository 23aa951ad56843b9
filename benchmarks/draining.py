"""Several workers together, seen from outside: how fast the queue's key shrinks."""

import time
from collections.abc import Iterable

from .processes import AdapterProcess, MeasurementFailedError
from .server import BenchmarkServer

# The queue's key and the meaning of its scores are arq's: a leased job's score is the end of its lease in ms.
QUEUE_KEY = "arq:queue"
HIDDEN_QUEUE_KEY = "benchmark:hidden-queue"
NOT_COUNTED = 0
# Processes that start side by side on few processors connect one by one.
CONNECTED_FOR_S = 2.0
POLL_S = 0.02
WAIT_LIMIT_S = 180.0


def hide_queue(server: BenchmarkServer) -> None:
    """Starting many processes takes longer than the first of them needs for the backlog, so it is hidden meanwhile."""
    server.client.rename(QUEUE_KEY, HIDDEN_QUEUE_KEY)


def show_queue(server: BenchmarkServer) -> None:
    """The workers find it by their poll."""
    server.client.rename(HIDDEN_QUEUE_KEY, QUEUE_KEY)


def drained_per_s(server: BenchmarkServer, fleet: list[AdapterProcess], first: int, last: int) -> float:
    """Jobs per second between two lengths of the queue."""
    began = _when_drained_to(server, fleet, first)
    ended = _when_drained_to(server, fleet, last)
    return (first - last) / (ended - began)


def wait_until_connected(server: BenchmarkServer, fleet: list[AdapterProcess], clients_each: int = 1) -> None:
    """Until every worker has a connection and no further ones have come for a while."""
    deadline = time.monotonic() + WAIT_LIMIT_S
    clients, unchanged_since = 0, time.monotonic()
    while clients <= len(fleet) * clients_each or time.monotonic() - unchanged_since < CONNECTED_FOR_S:
        check_running(fleet, deadline)
        time.sleep(POLL_S)
        if (found := server.client.info("clients")["connected_clients"]) != clients:
            clients, unchanged_since = found, time.monotonic()


def check_running(fleet: Iterable[AdapterProcess], deadline: float) -> None:
    """Raise MeasurementFailedError if a worker has ended, or this time has come."""
    for worker in fleet:
        if not worker.is_running():
            raise MeasurementFailedError(f"a worker ended: {worker.last_words()}")
    if time.monotonic() > deadline:
        raise MeasurementFailedError(f"the workers did not get there in {WAIT_LIMIT_S:.0f} s")


def _when_drained_to(server: BenchmarkServer, fleet: list[AdapterProcess], jobs: int) -> float:
    deadline = time.monotonic() + WAIT_LIMIT_S
    while server.client.zcard(QUEUE_KEY) > jobs:
        check_running(fleet, deadline)
        time.sleep(POLL_S)
    return time.perf_counter()
