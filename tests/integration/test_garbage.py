"""What jobs leave behind is freed at once.

A circle of references would be left to the garbage collector, which then costs a busy worker more than its bookkeeping.
"""

import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from arqestra import Pool, Retry, Worker, create_pool, func, job

JOBS = 100
# Circles that come with starting a worker, not with each job: those of a job would be ten objects and more.
ALLOWED = 400


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
    gc.collect()
    gc.disable()
    yield gc.collect
    gc.enable()


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
        await pool.enqueue_many([("ends", (1,))])
        await burst(redis_url, **hooks)
        unreachable()
        await pool.enqueue_many([(function, (number,)) for number in range(JOBS)])
        await burst(redis_url, **hooks)
        assert unreachable() < ALLOWED


async def test_a_producer_leaves_no_circle(pool_of_ours: Pool, unreachable: Callable[[], int]) -> None:
    await pool_of_ours.enqueue_job("ends", 0)
    unreachable()
    for number in range(JOBS):
        await pool_of_ours.enqueue_job("ends", number)
    assert unreachable() < ALLOWED


@pytest.fixture
async def pool_of_ours(redis_url: str) -> Any:
    async with await create_pool(redis_url) as pool:
        yield pool
