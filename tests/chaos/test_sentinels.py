"""Three real Sentinels, of which one is frozen; and a primary that is frozen, so that they promote its replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import RedisError

import arqestra
from arqestra import RedisSettings
from tests.support.ports import HOST, free_ports
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.wait import block_until, wait_until

from .conftest import Tell

pytestmark = pytest.mark.timeout(240)

NAME = "main"
RECOVERY_LIMIT_S = 15.0
ELECTION_S = 10.0  # of Sentinels: from the end of down-after to the promotion


@dataclass
class Deployment:
    """A primary, its replica and their Sentinels."""

    primary: RedisProcess
    replica: RedisProcess
    sentinels: list[RedisProcess]
    password: str | None

    def settings(self, **options: Any) -> RedisSettings:
        addresses = [(HOST, each.port) for each in self.sentinels]
        return RedisSettings(
            host=addresses, sentinel=True, sentinel_master=NAME, sentinel_password=self.password, **options
        )

    def knows(self, sentinel: RedisProcess) -> bool:
        """The Sentinel sees the primary, the replica and the other Sentinels."""
        try:
            with redis.Redis(port=sentinel.port, password=self.password) as client:
                state = client.sentinel_masters().get(NAME, {})
        except RedisError:
            return False
        return state.get("num-other-sentinels") == 2 and state.get("num-slaves") == 1


@contextmanager
def deployed(folder: Path, down_after_ms: int, password: str | None = None) -> Iterator[Deployment]:
    ports = free_ports(5)
    guard = [f"requirepass {password}", f"sentinel sentinel-pass {password}"] if password else []
    with ExitStack() as stack:
        primary = stack.enter_context(redis_process(folder / "primary", ports[0], "save ''"))
        replica = stack.enter_context(
            redis_process(folder / "replica", ports[1], "save ''", f"replicaof {HOST} {ports[0]}")
        )
        lines = [
            f"sentinel monitor {NAME} {HOST} {ports[0]} 2",
            f"sentinel down-after-milliseconds {NAME} {down_after_ms}",
            f"sentinel failover-timeout {NAME} 10000",
            *guard,
        ]
        sentinels = [
            stack.enter_context(redis_process(folder / f"sentinel{port}", port, *lines, sentinel=True))
            for port in ports[2:]
        ]
        deployment = Deployment(primary, replica, sentinels, password)
        block_until(lambda: all(map(deployment.knows, sentinels)), "the Sentinels to know each other")
        yield deployment


async def echo(ctx: dict[str, Any], text: str) -> str:
    return text


@pytest.mark.parametrize("password", [None, "a secret"], ids=["open", "with-a-password"])
@pytest.mark.parametrize("frozen", [0, pytest.param(1, marks=[pytest.mark.slow])])
async def test_one_frozen_sentinel_of_three(tmp_path: Path, frozen: int, password: str | None) -> None:
    with deployed(tmp_path / "servers", 20_000, password and password.replace(" ", "-")) as deployment:
        deployment.sentinels[frozen].freeze()
        settings = deployment.settings()

        started = time.monotonic()
        pool = await arqestra.create_pool(settings)
        assert time.monotonic() - started < 8
        worker = arqestra.Worker([echo], redis_settings=settings, handle_signals=False)
        running = asyncio.create_task(worker.async_run())
        job = await pool.enqueue_job("echo", "heard")
        assert job is not None
        assert await job.result(timeout=20) == "heard"
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)
        await pool.aclose(close_connection_pool=True)


async def test_without_its_password_a_sentinel_is_no_help(tmp_path: Path) -> None:
    with deployed(tmp_path / "servers", 20_000, "secret") as deployment:
        settings = deployment.settings(conn_retries=0)
        settings.sentinel_password = None
        with pytest.raises(RedisError):
            await arqestra.create_pool(settings)


@pytest.mark.parametrize(
    "down_after_ms",
    [1_000, pytest.param(15_000, marks=[pytest.mark.slow]), pytest.param(30_000, marks=[pytest.mark.slow])],
)
async def test_a_frozen_primary_is_left_for_its_replica(tmp_path: Path, tell: Tell, down_after_ms: int) -> None:
    ran: list[str] = []

    async def note(ctx: dict[str, Any], name: str) -> None:
        ran.append(name)

    with deployed(tmp_path / "servers", down_after_ms) as deployment:
        settings = deployment.settings()
        pool = await arqestra.create_pool(settings)
        worker = arqestra.Worker([arqestra.func(note, name="note")], redis_settings=settings, handle_signals=False)
        running = asyncio.create_task(worker.async_run())
        await pool.enqueue_job("note", "before")
        await wait_until(lambda: "before" in ran, "the job to run")

        deployment.primary.freeze()
        await wait_until(
            lambda: _is_primary(deployment.replica),
            "the replica to be promoted",
            timeout_s=down_after_ms / 1000 + ELECTION_S + 30,
        )
        promoted_at = time.monotonic()

        async def enqueued() -> bool:
            try:
                return bool(await pool.enqueue_job("note", "after"))
            except (RedisError, OSError):
                return False

        await wait_until(enqueued, "an enqueue to succeed", timeout_s=60)
        await wait_until(lambda: "after" in ran, "the worker to go on", timeout_s=60)
        took = time.monotonic() - promoted_at
        tell(f"down-after {down_after_ms} ms: on the new primary after {took:.1f} s")
        deployment.primary.thaw()  # it becomes a replica, and nobody minds
        await pool.enqueue_job("note", "later")
        await wait_until(lambda: "later" in ran, "the worker to go on", timeout_s=60)
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)
        await pool.aclose(close_connection_pool=True)
        assert took < RECOVERY_LIMIT_S


def _is_primary(server: RedisProcess) -> bool:
    try:
        with redis.Redis(port=server.port) as client:
            return bool(client.info("replication")["role"] == "master")
    except RedisError:  # a promotion cuts connections
        return False
