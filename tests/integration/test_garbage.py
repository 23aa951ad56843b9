"""What jobs leave behind is freed at once.

A circle of references would be left to the garbage collector, which then costs a busy worker more than its bookkeeping.
"""

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
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
)

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


KINDS = [fails_limited, is_warned, is_late, fails_twice, snoozes, fails_in_a_thread]
KIND_JOBS = 30


class Passing(Middleware):
    @asynccontextmanager
    async def around_run(self, running: RunningJob) -> AsyncIterator[None]:
        yield


@pytest.fixture
def unreachable() -> Iterator[Callable[[], int]]:
    logging.disable(logging.CRITICAL)  # records that pytest keeps hold the errors, and these all that they came through
    gc.collect()
    gc.disable()
    yield gc.collect
    gc.enable()
    logging.disable(logging.NOTSET)


async def burst(redis_url: str, **settings: Any) -> None:
    functions = [ends, func(fails), func(comes_again), is_limited, *KINDS]
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
def tracebacks(unreachable: Callable[[], int]) -> Iterator[Callable[[], int]]:
    """How many tracebacks the garbage collector has to free: a circle through an error has one."""

    def count() -> int:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        found = sum(isinstance(kept, TracebackType) for kept in gc.garbage)
        gc.garbage.clear()
        return found

    yield count
    gc.set_debug(0)


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
