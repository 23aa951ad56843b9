"""Moving the time in a Redis: through which pools, and which keys are left alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arqestra import Pool, RedisSettings, create_pool, func
from arqestra.embedded import EmbeddedRedis
from arqestra.testing import Clock, TestWorker, drain, manual, travelling
from tests.support.ports import HOST, free_port
from tests.support.redis_process import redis_process
from tests.support.wait import wait_until
from tests.testing import jobs

DAY_MS = 86_400_000
MakeWorker = Callable[..., TestWorker]


async def _result_expires(pool: Pool) -> None:
    """A result that is kept for an hour is gone an hour later: the time was moved in that Redis."""
    handle = await pool.enqueue_job("add", 1, _job_id="hourly")
    assert handle is not None
    await drain(pool, [jobs.add])
    assert await pool.enqueue_job("add", 1, _job_id="hourly") is None
    with travelling(pool) as clock:
        clock.travel(hours=1, minutes=1)
        assert await pool.enqueue_job("add", 1, _job_id="hourly") is not None


async def test_through_a_sentinel(arqestra_server: EmbeddedRedis, arqestra_redis: str, tmp_path: Path) -> None:
    monitor = f"sentinel monitor main {HOST} {arqestra_server.port} 1"
    with redis_process(tmp_path / "sentinel", free_port(), monitor, sentinel=True) as sentinel:
        settings = RedisSettings(host=[(HOST, sentinel.port)], sentinel=True, sentinel_master="main")
        async with await create_pool(settings) as pool:
            await _result_expires(pool)


async def test_in_another_database_by_a_user_of_its_own(arqestra_pool: Pool, arqestra_server: EmbeddedRedis) -> None:
    await arqestra_pool.acl_setuser(
        "tester", enabled=True, passwords=["+a pass@word"], commands=["+@all"], keys=["*"], channels=["*"]
    )
    await arqestra_pool.set("arq:result:hourly", "of database 0", px=1000)
    try:
        settings = RedisSettings(
            host=HOST, port=arqestra_server.port, database=1, username="tester", password="a pass@word"
        )
        async with await create_pool(settings, key_prefix="app") as pool:
            await _result_expires(pool)
        assert await arqestra_pool.exists("arq:result:hourly")
    finally:
        await arqestra_pool.acl_deluser("tester")


async def test_by_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with EmbeddedRedis(use_environment=False, config={"unixsocket": str(path)}):
        async with await create_pool(f"unix://{path}") as pool:
            await _result_expires(pool)


@pytest.mark.parametrize("key_prefix", [None, "app"])
async def test_keys_of_others_are_left_alone(arqestra_redis: str, key_prefix: str | None) -> None:
    async with await create_pool(arqestra_redis, key_prefix=key_prefix) as pool:
        others = ["session:1", "arquebus", "other:arq:result:x", "other:arqestra:unique:y", "cache:mail"]
        own = [pool.store.keys.result("x"), pool.store.keys.unique("y")]
        for name in (*others, *own):
            await pool.set(name, "kept", px=DAY_MS)
        with travelling(pool) as clock:
            clock.travel(days=2)
        assert [name for name in (*others, *own) if await pool.exists(name)] == others
        assert await pool.pttl("session:1") > DAY_MS / 2


async def test_by_its_url_time_passes_for_all_applications(arqestra_redis: str, arqestra_clock: Clock) -> None:
    async with await create_pool(arqestra_redis, key_prefix="app") as pool:
        for name in ("session:1", "app:arq:result:x", "arq:result:x"):
            await pool.set(name, "kept", px=DAY_MS)
        arqestra_clock.travel(days=2)
        assert [name.decode() for name in await pool.keys("*")] == ["session:1"]


async def test_workers_are_known_however_much_time_passes(
    arqestra_pool: Pool, arqestra_clock: Clock, arqestra_worker: MakeWorker
) -> None:
    async with arqestra_worker([jobs.add]).running():
        await wait_until(arqestra_pool.workers)
        for _ in range(3):
            arqestra_clock.travel(days=1)
            assert [worker.alive for worker in await arqestra_pool.workers()] == [True]
    assert await arqestra_pool.workers() == []


async def test_a_drain_beside_another(arqestra_pool: Pool) -> None:
    """The time goes back when the last has ended, and not under one that runs."""
    begin_s, begun, goes_on = time.time(), asyncio.Event(), asyncio.Event()

    async def waits(ctx: dict[Any, Any]) -> None:
        begun.set()
        await goes_on.wait()

    await arqestra_pool.enqueue_job("add", 1, _defer_by=3600)
    await arqestra_pool.enqueue_job("waits", _queue_name="slow", _defer_by=7200)
    waiting = asyncio.create_task(drain(arqestra_pool, [func(waits, name="waits")], queue_name="slow"))
    await begun.wait()
    assert (await drain(arqestra_pool, [jobs.add], queue_name="arq:queue")).complete == 1
    with travelling() as clock:
        assert clock.now().timestamp() - begin_s >= 7200
    goes_on.set()
    assert (await waiting).complete == 1
    with travelling() as clock:
        assert clock.now().timestamp() - begin_s < 3600


@pytest.mark.parametrize("key_prefix", [None, "app"])
async def test_a_drain_moves_the_time_where_its_pool_is(arqestra_clock: Clock, key_prefix: str | None) -> None:
    """The clock of the fixture is that of the fixture's server, and this pool is on another."""
    async with manual(key_prefix=key_prefix) as pool:
        with travelling(pool) as clock:
            assert clock.include(pool) == clock.include(pool)
        handle = await pool.enqueue_job("add", 1, _job_id="hourly")
        assert handle is not None
        await drain(pool, [jobs.add])
        await pool.enqueue_job("add", 2, _defer_by=86_400)
        await drain(pool, [jobs.add])
        assert await pool.enqueue_job("add", 1, _job_id="hourly") is not None
