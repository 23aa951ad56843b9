"""A pool and a worker inside somebody else's program: several event loops, a worker closed while it runs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable
from contextvars import ContextVar
from uuid import UUID, uuid4

import pytest

from arqestra import Pool, Worker, create_pool, func

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


async def set_tenant(ctx: dict[str, object], name: str) -> str:
    before = tenant.get()
    tenant.set(name)
    return before


async def count(ctx: dict[str, object], ids: Iterable[UUID], limit: int | None = None) -> int:
    return len(list(ids)) + int(limit or 0)


async def sleep_long(ctx: dict[str, object]) -> None:
    await asyncio.sleep(3600)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pool_is_used_from_a_second_event_loop(redis_url: str) -> None:
    pools: list[Pool] = []

    async def first() -> None:
        pools.append(await create_pool(redis_url))
        assert await pools[0].enqueue_job("noop", _job_id="one") is not None

    async def second() -> None:
        async with asyncio.timeout(10):
            assert await pools[0].enqueue_job("noop", _job_id="two") is not None
            assert await pools[0].enqueue_job("noop", _job_id="one") is None
        await pools[0].store.close()

    loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]
    try:
        loops[0].run_until_complete(first())
        loops[1].run_until_complete(second())
    finally:
        loops[0].run_until_complete(pools[0].aclose(close_connection_pool=True))
        for loop in loops:
            loop.close()
        gc.collect()  # the connection of the first loop is dropped unclosed, as redis-py's own are


async def test_a_worker_that_is_closed_while_it_runs_gives_its_jobs_back(redis_url: str) -> None:
    pool = await create_pool(redis_url)
    worker = Worker([sleep_long], redis_settings=redis_url, handle_signals=False)
    running = asyncio.create_task(worker.async_run())
    job = await pool.enqueue_job("sleep_long")
    assert job is not None
    async with asyncio.timeout(10):
        while not worker.tasks:  # noqa: ASYNC110 - a worker's start sets no event
            await asyncio.sleep(0.01)
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)
    assert await job.status() == "queued"
    assert await pool.get(pool.store.keys.attempts(job.job_id)) is None
    await pool.aclose(close_connection_pool=True)


async def test_no_job_sees_the_context_variables_of_another(redis_url: str) -> None:
    pool = await create_pool(redis_url)
    worker = Worker([set_tenant], redis_settings=redis_url, handle_signals=False, max_jobs=1)
    running = asyncio.create_task(worker.async_run())
    jobs = await pool.enqueue_many([("set_tenant", (f"tenant {i}",)) for i in range(20)])
    assert [await job.result(timeout=10) for job in jobs if job] == ["nobody"] * 20
    await worker.close()
    await asyncio.gather(running, return_exceptions=True)
    await pool.aclose(close_connection_pool=True)


async def test_hints_that_cannot_be_coerced_leave_the_plain_value(redis_url: str) -> None:
    pool = await create_pool(redis_url, serializer="msgpack")
    worker = Worker([func(count)], redis_settings=redis_url, serializer="msgpack", handle_signals=False, burst=True)
    jobs = await pool.enqueue_many([("count", ([uuid4(), uuid4()],)), ("count", ([],), {"limit": True})])
    await worker.async_run()
    assert [await job.result(timeout=10) for job in jobs if job] == [2, 1]
    await worker.close()
    await pool.aclose(close_connection_pool=True)
