"""What an idle worker costs, and that it still finds what nobody tells it of."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job as StockJob
from redis.asyncio import Redis

from arqestra import Job, Pool, every, schedule
from tests.support.wait import wait_until
from tests.support.workers import worker_idle

PINGS_A_MINUTE = 6
WITHOUT_TRACKING = ("nowatch", "on", ">secret", "~*", "&*", "+@all", "-client|tracking")


async def noop(ctx: dict[Any, Any]) -> None:
    pass


working = partial(worker_idle, functions=[noop])


async def until_silent(pool: Pool) -> None:
    """Wait until a second goes by in which no worker sends anything but PING."""
    async with asyncio.timeout(20):
        before: dict[str, int] = {}
        while (now := await calls(pool)) != before:
            before = now
            await asyncio.sleep(1.2)


async def calls(pool: Pool) -> dict[str, int]:
    """How often each command was carried out, those within scripts included, without those of this test."""
    found = await pool.info("commandstats")
    ours = ("cmdstat_info", "cmdstat_ping")
    return {name: stats["calls"] for name, stats in found.items() if name not in ours}


async def test_an_idle_worker_sends_nothing_for_a_while(pool: Pool) -> None:
    """In the seconds of this test; the slow steps once a minute are those of `test_polling.py` and the presence."""
    async with working(pool), working(pool, queues=["a", "b"], cron_jobs=[], schedules=[]):
        await until_silent(pool)
        before, began_s = await calls(pool), time.monotonic()
        await asyncio.sleep(3)
        sent = {name: count - before.get(name, 0) for name, count in (await calls(pool)).items()}
        sent = {name: count for name, count in sent.items() if count}
        assert sent == {}, f"within {time.monotonic() - began_s:.0f} s"


async def test_a_job_of_a_stock_producer_is_found_at_once_by_an_idle_worker(pool: Pool, redis_url: str) -> None:
    stock = ArqRedis.from_url(redis_url)
    async with working(pool):
        await until_silent(pool)
        for _ in range(2):
            began_s = time.monotonic()
            job = await stock.enqueue_job("noop")
            assert isinstance(job, StockJob)
            await Job(job.job_id, pool).result(timeout=10)
            assert time.monotonic() - began_s < 2
    await stock.aclose()


async def test_a_job_whose_wake_up_is_lost_is_found(pool: Pool) -> None:
    """The worker that the enqueue wakes does not hear it: another one finds the job."""
    async with working(pool) as deaf, working(pool):
        await until_silent(pool)
        await pool.zadd(pool.store.keys.waiting("arq:queue"), {deaf.worker_id: 1})
        assert deaf.redis_session is not None
        deaf.redis_session.claims.quiet = True  # takes nothing in, and passes nothing on: it is not asked to claim
        deaf.sync.claim_soon = lambda: None  # type: ignore[method-assign]
        began_s = time.monotonic()
        job = await pool.enqueue_job("noop")
        assert job is not None
        await job.result(timeout=10)
        assert time.monotonic() - began_s < 3
        del deaf.sync.claim_soon


async def test_a_stock_abort_is_heard_by_an_idle_worker_of_a_full_fleet(pool: Pool, redis_url: str) -> None:
    stock = ArqRedis.from_url(redis_url)
    later = await pool.enqueue_job("noop", _defer_by=60)
    assert later is not None
    async with working(pool, allow_abort_jobs=True):
        await until_silent(pool)
        began_s = time.monotonic()
        assert await StockJob(later.job_id, stock).abort(timeout=10)
        assert time.monotonic() - began_s < 3
    await stock.aclose()


@pytest.mark.slow
async def test_a_deferred_job_starts_although_the_timer_owner_died(pool: Pool) -> None:
    """The one that keeps the timer is no more, and nobody tells the others."""
    later = await pool.enqueue_job("noop", _defer_by=4)
    assert later is not None
    async with working(pool) as timer_owner, working(pool):

        async def both_wait() -> bool:
            return await pool.zcard(pool.store.keys.waiting("arq:queue")) == 2

        await wait_until(both_wait, "both workers wait")
        await pool.zadd(pool.store.keys.waiting("arq:queue"), {timer_owner.worker_id: 1})
        await until_silent(pool)
        # A killed process would end its subscription too, and be replaced at once: only the timer is to be gone.
        assert timer_owner.sync._timer is not None
        timer_owner.sync._timer.cancel()
        timer_owner.sync.claim_soon = lambda: None  # type: ignore[method-assign]
        began_s = time.monotonic()
        await later.result(timeout=10)
        assert time.monotonic() - began_s < 7
        del timer_owner.sync.claim_soon


async def test_a_schedule_that_is_defined_while_all_sleep_is_fired_in_time(pool: Pool) -> None:
    async with working(pool):
        await until_silent(pool)
        began_s = time.monotonic()
        await pool.schedules.upsert(schedule(every(1), "noop", name="sudden"))

        async def has_run() -> bool:
            return bool(await pool.schedules.history("sudden"))

        await wait_until(has_run, "the schedule has run")
        assert time.monotonic() - began_s < 4


async def test_an_explicit_delay_is_honoured(pool: Pool) -> None:
    async with working(pool, poll_delay=0.05) as worker:

        async def has_looked() -> bool:
            return worker.sync.round_trips > 40

        await wait_until(has_looked, "forty looks")
        assert not worker.listener.can_watch


@pytest.mark.slow
async def test_where_nobody_tells_of_changes_a_stock_producer_is_found_by_looking(
    pool: Pool, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Looks have become rare; once such a job was found they are at the default delay again."""
    caplog.set_level("INFO", "arq.connections")
    admin = Redis.from_url(redis_url)
    await admin.execute_command("ACL", "SETUSER", *WITHOUT_TRACKING)
    stock = ArqRedis.from_url(redis_url)
    settings = redis_url.replace("redis://", "redis://nowatch:secret@")
    try:
        async with working(pool, redis_settings=settings) as worker:
            looked = [worker.sync.round_trips, time.monotonic()]

            def looks_seldom() -> bool:
                if looked[0] != worker.sync.round_trips:
                    looked[:] = [worker.sync.round_trips, time.monotonic()]
                return time.monotonic() - looked[1] > 2.5

            await wait_until(looks_seldom, "looks every four seconds")
            first = await stock.enqueue_job("noop")
            assert first is not None
            await Job(first.job_id, pool).result(timeout=10)
            began_s = time.monotonic()
            second = await stock.enqueue_job("noop")
            assert second is not None
            await Job(second.job_id, pool).result(timeout=10)
            assert time.monotonic() - began_s < 2
            assert not worker.listener.can_watch
        assert "does not tell of changes" in caplog.text
    finally:
        await admin.execute_command("ACL", "DELUSER", "nowatch")
        await admin.aclose()
        await stock.aclose()
