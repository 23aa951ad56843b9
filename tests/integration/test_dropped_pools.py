"""A pool that is dropped without `aclose()` closes its connections, as a client of redis-py does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from collections.abc import Awaitable, Callable, Iterator

import pytest
import redis
import uvloop

from arqestra import Pool, create_pool

POOLS = 30
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """What is closed by the end of its last reference alone needs no collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def enqueue(pool: Pool) -> None:
    await pool.enqueue_job("nothing")


async def await_a_result(pool: Pool) -> None:
    job = await pool.enqueue_job("nothing")
    assert job is not None
    with contextlib.suppress(TimeoutError):
        await job.result(timeout=0.02)


async def read(pool: Pool) -> None:
    await pool.queued_jobs()
    await pool.workers()


def connections(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return len(client.client_list()) - 1


async def none_is_left(url: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while connections(url):  # noqa: ASYNC110 - what Redis has closed sets no event
            await asyncio.sleep(0.05)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("use", [enqueue, await_a_result, read])
async def test_pools_that_are_dropped_are_closed(redis_url: str, use: Callable[[Pool], Awaitable[None]]) -> None:
    for _ in range(POOLS):
        await use(await create_pool(redis_url))

    await none_is_left(redis_url)


@pytest.mark.filterwarnings("ignore")  # of transports whose loop is closed
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("use", [enqueue, await_a_result, read])
def test_pools_of_loops_that_have_ended_are_closed(
    redis_url: str, run: Callable[[Awaitable[None]], None], use: Callable[[Pool], Awaitable[None]]
) -> None:
    async def one() -> None:
        await use(await create_pool(redis_url))

    for _ in range(POOLS):
        run(one())

    gc.collect()  # a transport of asyncio refers to itself
    asyncio.run(none_is_left(redis_url))


@pytest.mark.filterwarnings("ignore")
def test_one_pool_in_many_loops_has_the_connections_of_one(redis_url: str) -> None:
    pool = asyncio.run(create_pool(redis_url))
    for _ in range(POOLS):
        asyncio.run(await_a_result(pool))
    gc.collect()

    assert connections(redis_url) < 5
    asyncio.run(pool.aclose())
    del pool
    gc.collect()


async def test_a_warning_says_so(redis_url: str) -> None:
    pool = await create_pool(redis_url)
    await pool.enqueue_job("nothing")

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        del pool
        await none_is_left(redis_url)

    assert "without `await pool.aclose()`" in " ".join(str(each.message) for each in said)
    assert {each.category for each in said} == {ResourceWarning}


async def test_a_pool_that_was_closed_warns_of_nothing(redis_url: str) -> None:
    pool = await create_pool(redis_url)
    await await_a_result(pool)
    await pool.aclose()

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        del pool
    assert not said


async def test_what_a_dropped_pool_has_enqueued_is_counted(redis_url: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        await enqueue(await create_pool(redis_url))
        await none_is_left(redis_url)

    pool = await create_pool(redis_url)
    [row] = await pool.statistics()
    assert (row["function"], row["enqueued"]) == ("nothing", 1)
    await pool.aclose()
