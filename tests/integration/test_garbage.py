"""What jobs leave behind is freed at once.

A circle of references would be left to the garbage collector, which then costs a busy worker more than its bookkeeping.
"""

import gc
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from arqestra import Pool, Retry, Worker, create_pool, func, job

JOBS = 200


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


@pytest.fixture
def unreachable() -> Iterator[Callable[[], int]]:
    logging.disable(logging.CRITICAL)  # records that pytest keeps hold the errors, and these all that they came through
    gc.collect()
    gc.disable()
    yield gc.collect
    gc.enable()
    logging.disable(logging.NOTSET)


async def burst(redis_url: str, **settings: Any) -> None:
    functions = [func(ends), func(fails), func(comes_again), is_limited]
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
