"""A server that answers and can do nothing now: one type of error for every call, and a worker that goes on later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

import arqestra
from arqestra import RedisSettings, Worker
from arqestra.embedded import EmbeddedRedis
from arqestra.store.replies import ServerNotReady, reply_error
from tests.support.wait import wait_until

DATABASE = 3  # of another than 0 a connection begins with a SELECT, which a busy server refuses


@pytest.fixture
def busy_url(redis_server: EmbeddedRedis, redis_url: str) -> str:
    return f"redis://127.0.0.1:{redis_server.port}/{DATABASE}"


@contextlib.asynccontextmanager
async def busy(url: str) -> AsyncIterator[None]:
    """A script that does not end keeps the server."""
    async with redis.asyncio.Redis.from_url(url) as admin, redis.asyncio.Redis.from_url(url) as culprit:
        await admin.config_set("busy-reply-threshold", 20)
        running = asyncio.ensure_future(culprit.eval("while true do end", 0))

        async def refuses() -> bool:
            try:
                await admin.get("anything")
            except ResponseError as error:
                return "BUSY" in str(error)
            return False

        await wait_until(refuses, "a busy server")
        try:
            yield
        finally:
            await admin.execute_command("SCRIPT", "KILL")
            with contextlib.suppress(RedisError):
                await running
            await admin.config_set("busy-reply-threshold", 5000)


async def test_each_call_to_a_busy_server_fails_with_one_type_of_error(busy_url: str) -> None:
    pool = await arqestra.create_pool(busy_url)
    await pool.enqueue_job("f")
    late = arqestra.ArqRedis.from_url(busy_url)  # not connected before the server is busy

    async def piped() -> list[Any]:
        async with pool.store.redis.pipeline(transaction=False) as pipe:
            pipe.get("a")
            pipe.get("b")
            return await pipe.execute()

    settings = RedisSettings.from_dsn(busy_url)
    settings.conn_retries = 0
    async with busy(busy_url):
        acts = {
            "enqueue": pool.enqueue_job("f"),
            "enqueue_many": pool.enqueue_many([("f", (), {})]),
            "signal": pool.signal("w", "event"),
            "upsert": pool.schedules.upsert(arqestra.schedule(arqestra.every(60), "f", name="s")),
            "workers": pool.workers(),
            "totals": pool.totals(),
            "pipeline": piped(),
            "connect": late.enqueue_job("f"),
            "create_pool": arqestra.create_pool(settings),
        }
        errors = dict(zip(acts, await asyncio.gather(*acts.values(), return_exceptions=True), strict=True))
    assert {name: error for name, error in errors.items() if not isinstance(error, ServerNotReady)} == {}
    for each in (pool, late):
        await each.enqueue_job("f")
        await each.aclose(close_connection_pool=True)


async def test_an_outcome_is_kept_while_the_server_is_busy_and_the_connection_new(busy_url: str) -> None:
    """The worker has to connect anew meanwhile."""
    may_end, runs = asyncio.Event(), 0

    async def work(ctx: dict[str, Any]) -> str:
        nonlocal runs
        runs += 1
        await may_end.wait()
        return "done"

    pool = await arqestra.create_pool(busy_url)
    worker = Worker([arqestra.func(work, name="work")], redis_settings=busy_url, handle_signals=False)
    running = asyncio.ensure_future(worker.async_run())
    job = await pool.enqueue_job("work")
    assert job is not None

    async def runs_now() -> bool:
        return runs == 1

    async def has_failed_to_send() -> bool:
        return worker.sync.errors > errors + 1

    await wait_until(runs_now, "a running job")
    errors = worker.sync.errors
    await pool.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    async with busy(busy_url):
        may_end.set()
        await wait_until(has_failed_to_send, "tries to send the outcome")
    assert await job.result(timeout=20) == "done"
    assert (runs, worker.jobs_complete) == (1, 1)
    await worker.close()
    await asyncio.gather(running, return_exceptions=True)
    await pool.aclose()


def test_a_server_that_loads_its_data_is_not_ready() -> None:
    error = reply_error("LOADING Redis is loading the dataset in memory")
    assert isinstance(error, ServerNotReady)
    assert isinstance(error, BusyLoadingError)
