"""What jobs leave behind is freed at once.

A circle of references would be left to the garbage collector, which then costs a busy worker more than its bookkeeping.
"""

import asyncio
import contextlib
import gc
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import CellType, FunctionType, MethodType, TracebackType
from typing import Any

import pytest

from arqestra import (
    Backoff,
    Middleware,
    Pool,
    Retry,
    RunningJob,
    Snooze,
    UpstreamFailed,
    Worker,
    create_pool,
    func,
    group,
    job,
    workflow,
)
from arqestra.flow.orchestrator import Flow
from arqestra.worker.run import workflows

JOBS = 200


@job
async def ends(ctx: dict[Any, Any], number: int) -> int:
    return number


async def fails(ctx: dict[Any, Any], number: int) -> None:
    raise ValueError(number)


async def comes_again(ctx: dict[Any, Any], number: int) -> None:
    if ctx["job_try"] == 1:
        raise Retry(defer=0.01)


@job(soft_timeout=60)
async def is_limited(ctx: dict[Any, Any], number: int) -> None:
    """Has a soft limit."""


@job(soft_timeout=60)
async def fails_limited(ctx: dict[Any, Any], number: int) -> None:
    raise ValueError(number)


@job(soft_timeout=0.05)
async def is_warned(ctx: dict[Any, Any], number: int) -> None:
    await asyncio.sleep(60)


@job(timeout=0.05)
async def is_late(ctx: dict[Any, Any], number: int) -> None:
    await asyncio.sleep(60)


@job(retry=Backoff(base=0.01, tries=2))
async def fails_twice(ctx: dict[Any, Any], number: int) -> None:
    raise ValueError(number)


@job
async def snoozes(ctx: dict[Any, Any], number: int) -> None:
    if ctx["score"] and time.monotonic() < SNOOZED.setdefault(number, time.monotonic() + 0.005):
        raise Snooze(0.01)


SNOOZED: dict[int, float] = {}


@job
def fails_in_a_thread(ctx: dict[Any, Any], number: int) -> None:
    raise ValueError(number)


@workflow
async def takes_steps(flow: Flow, number: int) -> int:
    both = await flow.gather(ends.s(number), ends.s(number))
    await flow.run(group(ends.s(1), ends.s(2)) | ends.s())
    return await flow.side_effect(lambda: sum(both))


@workflow
async def waits(flow: Flow, number: int) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.02):
            await flow.wait_for("nothing")
    await flow.sleep(0.01)


@workflow
async def fails_itself(flow: Flow, number: int) -> None:
    await flow.run(ends.s(number))
    raise ValueError(number)


@workflow
async def fails_by_step(flow: Flow, number: int) -> None:
    with contextlib.suppress(ValueError):
        await flow.run(fails_limited.s(number))
    await flow.gather(ends.s(1), fails_limited.s(number), ends.s(2))


@workflow
async def starts_anew(flow: Flow, number: int, again: bool = True) -> None:
    await flow.run(ends.s(number))
    if again:
        flow.continue_as_new(number, again=False)


@workflow(timeout=0.05)
async def is_timed_out(flow: Flow, number: int) -> None:
    await flow.wait_for("nothing")


@workflow
async def leaves_tasks(flow: Flow, number: int) -> None:
    tasks = [asyncio.create_task(flow.sleep(3600)), asyncio.create_task(takes_no_end(flow))]
    await flow.run(ends.s(len(tasks)))


async def takes_no_end(flow: Flow) -> None:
    try:
        await flow.wait_for("nothing")
    finally:
        await flow.wait_for("nothing")


WORKFLOWS = [takes_steps, waits, fails_itself, fails_by_step, starts_anew, is_timed_out, leaves_tasks]
KINDS = [fails_limited, is_warned, is_late, fails_twice, snoozes, fails_in_a_thread]
KIND_JOBS = 30


class Passing(Middleware):
    @asynccontextmanager
    async def around_run(self, running: RunningJob) -> AsyncIterator[None]:
        yield


# A pool and its connections are circles, of some sixty objects for each connection. How many connections a worker makes
# depends on how long it runs: it renews leases over one of its own, say. So these are not counted. Nor are containers:
# no circle consists of them alone.
OF_POOLS = (
    *("redis", "hiredis", "asyncio.selector_events", "asyncio.trsock", "asyncio.locks", "socket", "_socket", "_thread"),
    *("arqestra.client", "arqestra.store"),
)
CONTAINERS = (list, dict, tuple, set, deque, CellType, MethodType)


@pytest.fixture
def garbage() -> Iterator[Callable[[], list[Any]]]:
    """What the garbage collector has to free: everything in a circle, and what hangs on it."""
    logging.disable(logging.CRITICAL)  # records that pytest keeps hold the errors, and these all that they came through
    gc.collect()
    gc.disable()

    def collect() -> list[Any]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        found = list(gc.garbage)
        gc.garbage.clear()
        return found

    yield collect
    gc.set_debug(0)
    gc.enable()
    logging.disable(logging.NOTSET)


@pytest.fixture
def unreachable(garbage: Callable[[], list[Any]]) -> Callable[[], int]:
    """How many objects the garbage collector has to free, without pools, connections and containers."""

    def count() -> int:
        found = sum(not isinstance(kept, CONTAINERS) and not _is_of_pool(kept) for kept in garbage())
        gc.collect()  # frees them: they are not to be counted again
        return found

    return count


def _is_of_pool(kept: Any) -> bool:
    owner = kept if isinstance(kept, FunctionType) else type(kept)
    return str(owner.__module__).startswith(OF_POOLS)


async def burst(redis_url: str, *others: Any, **settings: Any) -> None:
    functions = [ends, func(fails), func(comes_again), is_limited, *KINDS, *others]
    worker = Worker(functions, redis_settings=redis_url, burst=True, handle_signals=False, poll_delay=0.01, **settings)
    try:
        await worker.main()
    finally:
        await worker.close()


@pytest.mark.parametrize("function", ["ends", "fails", "comes_again", "is_limited"])
@pytest.mark.parametrize("hooked", [False, True])
async def test_an_ended_job_leaves_no_circle(
    redis_url: str, function: str, hooked: bool, unreachable: Callable[[], int]
) -> None:
    async def hook(ctx: dict[Any, Any]) -> None:
        pass

    hooks: dict[str, Callable[[dict[Any, Any]], Awaitable[None]]] = {"after_job_end": hook} if hooked else {}
    async with await create_pool(redis_url) as pool:
        found = []
        for jobs in (JOBS, JOBS, 3 * JOBS):  # the first burst also leaves what a process leaves once
            unreachable()
            await pool.enqueue_many([(function, (number,)) for number in range(jobs)])
            await burst(redis_url, **hooks)
            found.append(unreachable())
    assert found[2] - found[1] < JOBS  # a worker and its connections leave some, however many jobs it ran


@pytest.fixture
def tracebacks(garbage: Callable[[], list[Any]]) -> Callable[[], int]:
    """How many tracebacks the garbage collector has to free: a circle through an error has one."""

    def count() -> int:
        found = sum(isinstance(kept, TracebackType) for kept in garbage())
        gc.collect()
        return found

    return count


@pytest.mark.parametrize("surrounded", [False, True])
@pytest.mark.parametrize("function", [*KINDS, func(fails), func(comes_again)], ids=lambda function: str(function.name))
async def test_no_way_to_fail_leaves_a_circle(
    redis_url: str, function: Any, surrounded: bool, tracebacks: Callable[[], int]
) -> None:
    middleware = [Passing()] if surrounded else []
    async with await create_pool(redis_url) as pool:
        await pool.enqueue_many([(function.name, (number,)) for number in range(KIND_JOBS)])
        tracebacks()
        await burst(redis_url, middleware=middleware, max_jobs=KIND_JOBS)
        assert tracebacks() < KIND_JOBS


@pytest.mark.parametrize("park_after_s", [5.0, 0.0], ids=["sticky", "parked at once"])
@pytest.mark.parametrize("function", WORKFLOWS, ids=lambda function: str(function.name))
async def test_a_workflow_leaves_no_circle(
    redis_url: str,
    function: Any,
    park_after_s: float,
    unreachable: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workflows, "PARK_AFTER_S", park_after_s)
    async with await create_pool(redis_url) as pool:
        found = []
        for count in (KIND_JOBS, KIND_JOBS, 3 * KIND_JOBS):
            unreachable()
            await pool.enqueue_many([(function.name, (number,)) for number in range(count)])
            await burst(redis_url, *WORKFLOWS, max_jobs=KIND_JOBS)
            found.append(unreachable())
    assert found[2] - found[1] < KIND_JOBS  # a circle of one workflow has some twenty


async def test_a_failed_result_leaves_no_circle(
    pool_of_ours: Pool, redis_url: str, tracebacks: Callable[[], int]
) -> None:
    """The error that a producer gets, from a job and from a flow."""
    jobs = [await pool_of_ours.enqueue_job("fails", number) for number in range(KIND_JOBS)]
    flows = [await pool_of_ours.enqueue_flow(fails_limited.s(1) | ends.s()) for _ in range(KIND_JOBS)]
    groups = [await pool_of_ours.enqueue_flow(group(fails_limited.s(1), ends.s(2))) for _ in range(KIND_JOBS)]
    await burst(redis_url)
    for handles in (jobs, flows, groups):
        tracebacks()
        for handle in handles:
            assert handle is not None
            with contextlib.suppress(ValueError, UpstreamFailed):
                await handle.result(timeout=10)
                pytest.fail("expected the job's error")
        assert tracebacks() < KIND_JOBS


async def test_a_producer_leaves_no_circle(pool_of_ours: Pool, unreachable: Callable[[], int]) -> None:
    await pool_of_ours.enqueue_job("ends", 0)
    unreachable()
    for number in range(JOBS):
        await pool_of_ours.enqueue_job("ends", number)
    assert unreachable() < JOBS


@pytest.fixture
async def pool_of_ours(redis_url: str) -> Any:
    async with await create_pool(redis_url) as pool:
        yield pool
