"""A program that enqueues without asyncio: `python -m tests.integration.sync_producer <redis url> <scenario>`.

It never closes its pool; its end does.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable

from arqestra import SyncPool

SCENARIOS: dict[str, Callable[[SyncPool], None]] = {}
PROCESSES, JOBS = 4, 50
PATIENCE_S = 30.0


def scenario(function: Callable[[SyncPool], None]) -> Callable[[SyncPool], None]:
    SCENARIOS[function.__name__] = function
    return function


def enqueue(pool: SyncPool, who: str, count: int = 1) -> None:
    for number in range(count):
        assert pool.enqueue_job("noted", who, number) is not None


@scenario
def unused(pool: SyncPool) -> None:
    """No thread before the first call."""
    assert threading.active_count() == 1


@scenario
def plain(pool: SyncPool) -> None:
    enqueue(pool, "script", 3)


@scenario
def forks(pool: SyncPool) -> None:
    """In the middle of the work; parent, child and grandchild go on with the same pool, and end as they like."""
    job = pool.enqueue_job("noted", "parent", 0)
    assert job is not None
    child = os.fork()
    if child == 0:
        enqueue(pool, "child", JOBS)
        assert job.status() == "queued"  # a handle of the parent's
        grandchild = os.fork()
        enqueue(pool, "child" if grandchild else "grandchild", JOBS)
        if grandchild:
            assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
        sys.exit()
    enqueue(pool, "parent", JOBS)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    enqueue(pool, "parent", JOBS)
    assert job.status() == "queued"


@scenario
def forks_without_use(pool: SyncPool) -> None:
    """The children collect what they have inherited, and end without a call."""
    enqueue(pool, "parent")
    for _ in range(PROCESSES):
        child = os.fork()
        if child == 0:
            del pool
            sys.exit()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        enqueue(pool, "parent")


@scenario
def forks_while_it_listens(pool: SyncPool) -> None:
    """The children listen as well, or do nothing, and end; then the parent's job is run."""
    job = pool.enqueue_job("noted", "parent", 0)
    assert job is not None
    results: list[str] = []
    waiting = threading.Thread(target=lambda: results.append(job.result(poll_delay=PATIENCE_S)))
    waiting.start()
    for is_idle in (True, False):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(TimeoutError):
                assert is_idle or job.result(timeout=0.1)
            sys.exit()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print("ready", flush=True)
    waiting.join()
    print(*results)


@scenario
def forks_in_threads(pool: SyncPool) -> None:
    """Processes by multiprocessing, while other threads enqueue."""
    stopped = threading.Event()

    def go_on() -> None:
        while not stopped.is_set():
            enqueue(pool, "thread")

    threads = [threading.Thread(target=go_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=enqueue, args=(pool, "process", JOBS)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    stopped.set()
    for thread in threads:
        thread.join()
    enqueue(pool, "after")


@scenario
def ends_while_a_thread_waits(pool: SyncPool) -> None:
    """A daemon thread waits for a job that nobody runs."""
    job = pool.enqueue_job("noted", "waits", 0)
    assert job is not None
    threading.Thread(target=job.result, daemon=True).start()
    while pool.queue().depth() != 1:
        pass


@scenario
def ends_while_threads_enqueue(pool: SyncPool) -> None:
    begun = threading.Barrier(PROCESSES + 1)

    def go_on() -> None:
        enqueue(pool, "thread")
        begun.wait()
        while True:
            enqueue(pool, "thread")

    for _ in range(PROCESSES):
        threading.Thread(target=go_on, daemon=True).start()
    begun.wait()


@scenario
def enqueues_at_exit(pool: SyncPool) -> None:
    """By a function that was registered first, and so is called last."""
    enqueue(pool, "main")


@scenario
def ends_when_told(pool: SyncPool) -> None:
    """Something has been enqueued, and is not counted in Redis yet; a daemon thread waits for a result."""
    job = pool.enqueue_job("noted", "main", 0)
    assert job is not None
    threading.Thread(target=job.result, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.readline()


@scenario
def ends_while_it_connects(pool: SyncPool) -> None:
    """To a server that says nothing."""
    threading.Thread(target=enqueue, args=(pool, "thread"), daemon=True).start()
    while threading.active_count() < 3:
        time.sleep(0.01)
    print("ready", flush=True)


@scenario
def waits(pool: SyncPool) -> None:
    """For Ctrl-C."""
    job = pool.enqueue_job("noted", "main", 0)
    assert job is not None
    try:
        print("ready", flush=True)
        job.result()
    except KeyboardInterrupt:
        print("interrupted", job.status(), flush=True)


if __name__ == "__main__":
    url, name = sys.argv[1:]
    pool_ = SyncPool(url)
    if name == "enqueues_at_exit":
        atexit.register(enqueue, pool_, "exit")
    SCENARIOS[name](pool_)
