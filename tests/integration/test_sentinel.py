"""A real Sentinel in front of the server: producers, the worker and its lease renewer find the master through it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from arqestra import RedisSettings, create_pool, func
from arqestra.embedded import EmbeddedRedis
from arqestra.store.store import MARGIN_MS
from tests.support.ports import HOST, free_port
from tests.support.redis_process import redis_process
from tests.support.wait import wait_until
from tests.support.workers import worker_running

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def sentinel_settings(redis_server: EmbeddedRedis, redis_url: str, tmp_path: Path) -> Iterator[RedisSettings]:
    """Settings of a Sentinel that watches the session's server under the name `main`."""
    monitor = f"sentinel monitor main {HOST} {redis_server.port} 1"
    with redis_process(tmp_path / "sentinel", free_port(), monitor, sentinel=True) as sentinel:
        yield RedisSettings(host=[(HOST, sentinel.port)], sentinel=True, sentinel_master="main")


async def test_jobs_run_and_leases_are_renewed_through_a_sentinel(sentinel_settings: RedisSettings) -> None:
    may_end = asyncio.Event()

    async def wait(ctx: dict[str, object]) -> str:
        await may_end.wait()
        return "done"

    pool = await create_pool(sentinel_settings)
    functions = [func(wait, name="wait")]
    async with pool, worker_running(sentinel_settings, functions=functions, lease=0.5):
        job = await pool.enqueue_job("wait")
        assert job is not None

        async def lease_end() -> int:
            record = await pool.get(pool.store.keys.lease(job.job_id))
            return int(record.split(b"|")[1]) if record else 0

        async def is_renewed() -> bool:
            return await lease_end() > first

        first = await wait_until(lease_end, "the job to be leased")
        await wait_until(is_renewed, "the lease to be renewed, over the lease renewer's own connection")
        assert await pool.pttl(pool.store.keys.lease(job.job_id)) > MARGIN_MS - 60_000
        may_end.set()
        assert await job.result(timeout=10) == "done"
