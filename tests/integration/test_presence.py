"""The registry of workers: what each tells of itself, while it lives and after."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import Any

import msgspec
import pytest

import arqestra
from arqestra import Pool, Worker, WorkerInfo
from arqestra.embedded import EmbeddedRedis
from arqestra.protocol.presence import IDLE_EVERY_S, Presence
from arqestra.store import listener
from arqestra.store.presence import write_presence
from arqestra.worker.telemetry.metrics_port import MetricsPort
from tests.support.proxies.swallowing import SwallowingProxy
from tests.support.scrape import scrape
from tests.support.wait import wait_until


async def wait(ctx: dict[Any, Any]) -> None:
    await ctx["gate"].wait()


async def told(pool: Pool, *, running: int) -> WorkerInfo:
    found: list[WorkerInfo] = []

    async def tells() -> bool:
        found[:] = [each for each in await pool.workers() if each.presence.running == running]
        return bool(found)

    await wait_until(tells, f"a worker that tells of {running} running jobs")
    return found[0]


async def test_a_worker_tells_of_itself_and_its_jobs_and_withdraws_at_its_end(pool: Pool, redis_url: str) -> None:
    gate = asyncio.Event()
    worker = Worker(
        [wait], redis_settings=redis_url, queues=["a", "b"], max_jobs=7, ctx={"gate": gate}, handle_signals=False
    )
    running = asyncio.ensure_future(worker.async_run())
    await told(pool, running=0)
    await pool.enqueue_job("wait", _job_id="one", _queue_name="b")
    info = await told(pool, running=1)

    presence = info.presence
    assert (info.worker_id, info.alive) == (worker.worker_id, True)
    assert (presence.host, presence.pid) == (socket.gethostname(), os.getpid())
    assert (presence.queues, presence.slots, presence.draining) == (["a", "b"], 7, False)
    (job,) = presence.jobs
    assert (job.id, job.function, job.queue, job.attempt) == ("one", "wait", "b", 1)
    assert presence.rss_bytes > 1_000_000
    assert presence.cpu_s > 0

    gate.set()
    assert (await told(pool, running=0)).presence.complete == 1
    await worker.close()
    await asyncio.gather(running, return_exceptions=True)
    assert await pool.workers() == []


async def test_how_late_the_loop_is_is_told(pool: Pool, redis_url: str) -> None:
    async def block(ctx: dict[Any, Any]) -> None:
        time.sleep(1.3)  # noqa: ASYNC251 - that is what is to be seen

    worker = Worker([arqestra.func(block, name="block")], redis_settings=redis_url, handle_signals=False)
    running = asyncio.ensure_future(worker.async_run())
    await told(pool, running=0)
    await pool.enqueue_job("block")

    async def tells() -> bool:
        return any(each.presence.lag_ms >= 200 for each in await pool.workers())

    await wait_until(tells, "a late loop")
    await worker.close()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_killed_worker_is_seen_as_dead_and_then_forgotten(pool: Pool) -> None:
    presence = Presence("h", 1, "0", 0, ["q"], 1, 0, 0, [], 0, 0, 0, 0, 0.0, 0, False)
    await write_presence(pool.store, "w", presence)
    (info,) = await pool.workers()
    assert info.alive
    key = pool.store.keys.workers
    await pool.zincrby(key, -11_000, "w")
    (info,) = await pool.workers()
    assert not info.alive
    await pool.zincrby(key, -600_000, "w")
    await write_presence(pool.store, "another", presence)
    assert [each.worker_id for each in await pool.workers()] == ["another"]
    assert 0 < await pool.pttl(key) <= 600_000


async def test_an_idle_worker_that_is_no_more_answered_says_so_at_its_own_port(
    redis_server: EmbeddedRedis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections stay open, and nothing comes."""
    monkeypatch.setattr(listener, "KEEPALIVE_S", 0.5)
    monkeypatch.setattr(listener, "ANSWER_S", 0.5)
    async with SwallowingProxy(redis_server.port) as proxy:
        worker = Worker([wait], redis_settings=proxy.url, metrics_port=0, handle_signals=False)
        running = asyncio.ensure_future(worker.async_run())

        async def cut_off_s() -> float:
            port = worker.metrics
            assert isinstance(port, MetricsPort)
            scraped = await scrape(port.url)
            assert scraped.one("arqestra_worker_up") == 1
            return scraped.one("arqestra_worker_cut_off_seconds")

        async def is_served() -> bool:
            with contextlib.suppress(AttributeError, OSError):
                return await cut_off_s() == 0
            return False

        async def is_cut_off() -> bool:
            return await cut_off_s() > 1

        async def is_back() -> bool:
            return await cut_off_s() == 0

        await wait_until(is_served, "metrics")
        for _ in range(10):
            await asyncio.sleep(0.2)  # longer than a keepalive: that an idle worker hears nothing means nothing
            assert await cut_off_s() == 0
        proxy.fall_silent("later reply")
        await wait_until(is_cut_off, "it to be cut off")
        proxy.heal()
        await wait_until(is_back, "an answer")
        proxy.cut()
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_worker_that_is_silent_is_told_from_one_that_is_gone(pool: Pool) -> None:
    presence = Presence("h", 1, "0", 0, ["q"], 1, 0, 0, [], 0, 0, 0, 0, 0.0, 0, False)
    idle = msgspec.structs.replace(presence, every_s=IDLE_EVERY_S)
    keys = pool.store.keys
    for worker_id, told, silent_s in (("busy", presence, 11), ("idle", idle, 30), ("lost", idle, 80)):
        await write_presence(pool.store, worker_id, told)
        await pool.zincrby(keys.workers, -silent_s * 1000, worker_id)

    async def absences() -> dict[str, str | None]:
        return {each.worker_id: each.absence for each in await pool.workers()}

    assert await absences() == {"busy": "gone", "idle": "gone", "lost": "gone"}
    async with pool.pubsub() as subscribed:
        await subscribed.subscribe(*(keys.worker_channel(each) for each in ("busy", "idle", "lost")))
        await subscribed.get_message(timeout=5)

        async def are_heard_of() -> bool:
            return await absences() == {"busy": "silent", "idle": None, "lost": "silent"}

        await wait_until(are_heard_of, "their subscriptions")


async def test_what_another_version_told_is_left_out(pool: Pool) -> None:
    presence = Presence("h", 1, "0", 0, ["q"], 1, 0, 0, [], 0, 0, 0, 0, 0.0, 0, False)
    await write_presence(pool.store, "w", presence)
    await pool.set(pool.store.keys.presence("w"), b'{"host": 5}')
    assert await pool.workers() == []


async def test_an_idle_worker_is_seldom_heard_of_and_alive_as_long_as_it_listens(pool: Pool, redis_url: str) -> None:
    worker = Worker([wait], redis_settings=redis_url, ctx={"gate": asyncio.Event()}, handle_signals=False)
    running = asyncio.ensure_future(worker.async_run())
    keys = pool.store.keys

    async def is_idle() -> bool:
        return any(each.presence.every_s == IDLE_EVERY_S for each in await pool.workers())

    await wait_until(is_idle, "an idle worker")
    written = await pool.get(keys.presence(worker.worker_id))
    await pool.zincrby(keys.workers, -30_000, worker.worker_id)
    ghost = "ghost"
    await pool.set(keys.presence(ghost), written)
    await pool.zadd(keys.workers, {ghost: await pool.zscore(keys.workers, worker.worker_id)})

    assert {each.worker_id: each.alive for each in await pool.workers()} == {worker.worker_id: True, ghost: False}
    await pool.zincrby(keys.workers, -60_000, worker.worker_id)
    assert [each.alive for each in await pool.workers()] == [False, False]

    await worker.close()
    await asyncio.gather(running, return_exceptions=True)
