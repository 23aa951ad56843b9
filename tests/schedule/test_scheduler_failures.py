"""A schedule that cannot be read or fired stops no other, and all go on after an outage."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from arqestra import (
    EnqueuedCall,
    Middleware,
    Pool,
    Schedule,
    Scheduler,
    SettingsError,
    at,
    create_pool,
    every,
    schedule,
)
from arqestra.embedded import EmbeddedRedis
from arqestra.scheduling import known_schedules
from arqestra.scheduling.queue_scheduler import AHEAD_MS
from arqestra.store.schedules import ScheduleStore
from tests.schedule import scheduled_jobs as jobs
from tests.schedule.running import FAST, fired, scheduler_running, seen, working
from tests.support.pools import url_of
from tests.support.wait import wait_until


async def test_a_schedule_that_one_scheduler_cannot_read_is_fired_by_one_that_can(pool: Pool, redis_url: str) -> None:
    packed = await create_pool(redis_url, serializer="msgpack")
    try:
        await packed.schedules.upsert(schedule(every(0.3), jobs.note, args=["packed"]))
        async with scheduler_running(pool):

            async def is_named() -> bool:
                return "serializer 'msgpack'" in (await pool.schedules.get("note")).problem

            await wait_until(is_named, "the problem is named")
            assert await pool.schedules.history("note") == []
            with pytest.raises(SettingsError, match="serializer 'msgpack'"):
                await pool.schedules.run_now("note")

            # A new definition is tried at once; who cannot read it leaves those time who can.
            await packed.schedules.upsert(schedule(every(0.3), jobs.note, args=["again"]))
            async with working(packed):
                await fired(pool, "note", 5, outcome="complete")
                assert (await pool.schedules.get("note")).problem == ""
        assert {run.arguments for run in jobs.RUNS} <= {("again",), ("packed",)}
    finally:
        await packed.aclose()


class Unlucky(Middleware):
    """Refuses one function."""

    @asynccontextmanager
    async def around_enqueue(self, call: EnqueuedCall) -> AsyncIterator[None]:
        if call.function == "fail":
            raise RuntimeError("no luck")
        yield


async def test_a_schedule_that_is_broken_stops_no_other(pool: Pool) -> None:
    timetable = [schedule(FAST, jobs.fail), schedule(FAST, jobs.note)]
    async with working(pool, schedules=timetable, middleware=[Unlucky()]):
        await fired(pool, "note", 5, outcome="complete")

        async def is_named() -> bool:
            return (await pool.schedules.get("fail")).problem == "RuntimeError: no luck"

        await wait_until(is_named, "the problem is named")
    assert jobs.runs_of("fail") == []


async def test_a_schedule_that_cannot_be_read_delays_no_other(pool: Pool) -> None:
    """A scheduler looks ahead: what it cannot fire then must not hold up what is due before."""
    packed = await create_pool(url_of(pool), serializer="msgpack")
    first = datetime.now(UTC) + timedelta(seconds=1)
    # After the first it looks at the second and the last.
    delays_ms = {"unreadable": AHEAD_MS - 50, "first": 0, "second": 50}
    for name, delay_ms in delays_ms.items():
        whose = packed if name == "unreadable" else pool
        await whose.schedules.upsert(schedule(at(first + timedelta(milliseconds=delay_ms)), "note", name=name))
        await Scheduler(whose).run_once()  # says when it is due
    assert datetime.now(UTC) < first
    scheduler = Scheduler(pool)
    running = asyncio.ensure_future(scheduler.run())
    await fired(pool, "second", 1)
    scheduler.stop()
    await running
    await packed.aclose()

    (run,) = await pool.schedules.history("second")
    assert run.fired < first + timedelta(milliseconds=delays_ms["unreadable"])


@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_schedules_go_on_after_redis_was_away(tmp_path: Path, how: str) -> None:
    with EmbeddedRedis(tmp_path, use_environment=False, fsync="always") as redis:
        pool = await create_pool(redis.url)
        async with working(pool, schedules=[schedule(FAST, jobs.note)]):
            await fired(pool, "note", 1, outcome="complete")
            if how == "kill":
                redis.kill()
            await asyncio.to_thread(redis.restart)
            before = len(jobs.RUNS)
            await seen(lambda: len(jobs.RUNS) > before + 1, "more runs after the restart")
        await pool.aclose()

    ticks = [run.job.headers["tick"] for run in jobs.RUNS]
    assert len(set(ticks)) == len(ticks)


async def test_what_a_scheduler_remembers_is_what_it_has_used_lately(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single times that are over are not kept in mind for ever."""

    def remembered() -> int:
        return sum(isinstance(each, Schedule) and each.name.startswith("once-") for each in gc.get_objects())

    scheduler = Scheduler(pool)
    moment = at(datetime.now(UTC) - timedelta(seconds=1))
    for number in range(30):
        await pool.schedules.upsert(schedule(moment, "note", name=f"once-{number}"))
    while len(await pool.keys("arqestra:schedule-runs:*")) < 30:
        await scheduler.run_once()
    assert remembered() == 30

    monkeypatch.setattr(known_schedules, "FORGET_S", 0.0)
    for number in range(2):
        await pool.schedules.upsert(schedule(moment, "note", name=f"other-{number}"))
        while not await pool.exists(pool.store.keys.schedule_runs(f"other-{number}")):
            await scheduler.run_once()
    assert remembered() == 0


async def test_a_schedule_that_cannot_be_fired_is_tried_again_less_and_less_often(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    original = ScheduleStore.fetch_due

    async def counted(self: ScheduleStore, *args: Any) -> Any:
        nonlocal looks
        looks += 1
        return await original(self, *args)

    monkeypatch.setattr(ScheduleStore, "fetch_due", counted)
    packed = await create_pool(url_of(pool), serializer="msgpack")
    await packed.schedules.upsert(schedule(FAST, "note"))
    await packed.aclose()
    async with scheduler_running(pool):

        async def has_problem() -> bool:
            return "msgpack" in (await pool.schedules.get("note")).problem

        await wait_until(has_problem, "the problem is noted")
        before = looks
        await asyncio.sleep(1.5)
        assert looks - before < 20  # it does not spin


class Refusing(Middleware):
    """Raises what looks as if Redis were away, for one schedule."""

    @asynccontextmanager
    async def around_enqueue(self, call: EnqueuedCall) -> AsyncIterator[None]:
        if call.function == "slow":
            raise ConnectionRefusedError("the service that gives out tokens")
        yield


async def test_a_middleware_that_cannot_reach_something_stops_its_schedule_alone(pool: Pool) -> None:
    bad = schedule(at(datetime.now(UTC) - timedelta(seconds=1)), jobs.slow)
    async with working(pool, schedules=[bad, schedule(FAST, jobs.note)], middleware=[Refusing()]):
        await fired(pool, "note", 10, outcome="complete")
        assert "the service that gives out tokens" in (await pool.schedules.get("slow")).problem
