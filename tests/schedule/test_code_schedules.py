"""Schedules in the settings of workers: they are fired once, by whoever comes first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from arqestra import (
    Pool,
    Schedule,
    ScheduleNotFound,
    Scheduler,
    SettingsError,
    Timetable,
    Worker,
    at,
    create_pool,
    cron,
    schedule,
    worker_settings,
)
from tests.schedule import scheduled_jobs as jobs
from tests.schedule.running import FAST, NEVER, fired, pool_is_idle, scheduler_running, seen, working
from tests.support.pools import url_of
from tests.support.wait import wait_until
from tests.support.workers import worker_running


async def test_a_worker_fires_the_schedules_in_its_settings(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(FAST, jobs.note, args=[1], kwargs={})]):
        await fired(pool, "note", 3, outcome="complete")

    assert {run.arguments for run in jobs.RUNS} == {(1,)}
    ticks = [run.job.headers["tick"] for run in jobs.RUNS]
    assert len(set(ticks)) == len(ticks) >= 3
    assert all(datetime.fromisoformat(tick).timestamp() * 1000 % 100 == 0 for tick in ticks)


async def test_three_schedulers_and_two_workers_fire_each_tick_once(pool: Pool) -> None:
    async with AsyncExitStack() as stack:
        timetable = [schedule(FAST, jobs.note)]
        for _ in range(3):
            await stack.enter_async_context(scheduler_running(pool, *timetable))
        for _ in range(2):
            await stack.enter_async_context(working(pool, schedules=timetable))
        await fired(pool, "note", 8, outcome="complete")
        await pool.schedules.pause("note")
        await pool_is_idle(pool)

    ticks = [run.job.headers["tick"] for run in jobs.RUNS]
    assert len(set(ticks)) == len(ticks)
    assert {run.how for run in await pool.schedules.history("note")} <= {"on time", "late"}


async def test_settings_classes_take_schedules_and_cron_jobs(pool: Pool) -> None:
    @worker_settings
    class WorkerSettings:
        functions = jobs.ALL
        schedules = Timetable([schedule(FAST, jobs.note, name="mine")])
        cron_jobs = [cron(jobs.note, name="arqs", second=set(range(60)), microsecond=0)]  # noqa: RUF012
        redis_settings = url_of(pool)
        handle_signals = False

    settings = {name: value for name, value in vars(WorkerSettings).items() if not name.startswith("_")}
    async with worker_running(pool, **settings):
        await fired(pool, "mine", 2, outcome="complete")
        await fired(pool, "arqs", 1, outcome="complete")
    infos = {info.name: info for info in await pool.schedules.list()}
    assert set(infos) == {"mine", "arqs"}
    assert {info.source for info in infos.values()} == {"code"}


async def test_a_worker_without_scheduler_fires_nothing(pool: Pool) -> None:
    cron_jobs = [cron(jobs.note, name="often", second=None)]
    async with working(pool, schedules=[schedule(FAST, jobs.note)], cron_jobs=cron_jobs, scheduler=False):
        job = await pool.enqueue(jobs.slow)
        assert job is not None
        await job.result(timeout=10)
        job = await pool.enqueue(jobs.slow)
        assert job is not None
        await job.result(timeout=10)

    assert jobs.runs_of("note") == []
    assert await pool.schedules.list() == []


async def test_a_burst_worker_fires_what_is_due_and_ends(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(at(datetime.now(UTC) - timedelta(minutes=1)), jobs.note, name="past"))
    await pool.schedules.upsert(schedule(NEVER, jobs.note, name="never"))
    worker = Worker(jobs.ALL, redis_settings=url_of(pool), handle_signals=False, burst=True, poll_delay=0.05)
    async with asyncio.timeout(10):
        await worker.async_run()
    await worker.close()

    assert [run.job.headers["schedule"] for run in jobs.RUNS] == ["past"]
    assert [run.outcome for run in await pool.schedules.history("past")] == ["complete"]


async def test_a_scheduler_tells_of_what_it_fired(pool: Pool) -> None:
    async with scheduler_running(pool, schedule(FAST, "note")) as scheduler:
        await seen(lambda: scheduler.fired >= 2, "two ticks were fired")

    assert 0 <= scheduler.lateness_ms < 60_000
    assert scheduler.fired == len(await pool.schedules.history("note"))


async def test_schedules_of_several_queues_go_to_their_queues(pool: Pool) -> None:
    timetable = [
        schedule(FAST, jobs.urgent),
        schedule(FAST, jobs.note),
        schedule(FAST, "note", name="other", queue="third"),
    ]
    async with (
        scheduler_running(pool, *timetable),
        working(pool, queues=["urgent", pool.default_queue_name], scheduler=False),
    ):
        await fired(pool, "urgent", 1, outcome="complete")
        await seen(lambda: bool(jobs.runs_of("note")), "a run of note")

    job = jobs.runs_of("urgent")[0].job
    assert (job.queue, jobs.runs_of("note")[0].job.queue) == ("urgent", pool.default_queue_name)
    assert {info.queue for info in await pool.schedules.list()} == {"urgent", "third", pool.default_queue_name}
    assert (await pool.schedules.get("other")).queue == "third"
    assert [info.name for info in await pool.schedules.list(queue="third")] == ["other"]


def test_two_schedules_of_one_name_are_refused_also_if_one_names_the_queue(pool_of_nothing: Pool) -> None:
    queue = pool_of_nothing.default_queue_name
    with pytest.raises(SettingsError, match="each name once, got 'note' twice"):
        Scheduler(pool_of_nothing, [schedule(FAST, "note"), schedule(FAST, "note", queue=queue)])


@pytest.fixture
def pool_of_nothing() -> Pool:
    """Never connected."""
    return Pool()


async def test_schedules_in_code_come_back_when_redis_has_lost_everything(pool: Pool) -> None:
    scheduler = Scheduler(pool, [schedule(NEVER, "note")])
    await scheduler.run_once()
    await pool.flushall()
    await scheduler.code_schedules.keep(now=True)

    assert [info.name for info in await pool.schedules.list()] == ["note"]


async def test_arguments_that_do_not_fit_the_serializer_are_refused_where_they_are_defined(redis_url: str) -> None:
    packed = await create_pool(redis_url, serializer="msgpack")
    odd: Schedule = schedule(FAST, "note", args=[object()])
    try:
        with pytest.raises(Exception, match="unable to serialize"):
            await packed.schedules.upsert(odd)
        with pytest.raises(Exception, match="unable to serialize"):
            Scheduler(packed, [odd])
    finally:
        await packed.aclose()


async def test_a_timetable_has_the_same_queue_and_zone_for_a_worker_as_for_a_scheduler(pool: Pool) -> None:
    timetable = Timetable([schedule("0 9 * * *", jobs.note)], timezone="Asia/Seoul", queue="mine")
    async with working(pool, schedules=timetable, queues=["high", "low"], timezone=UTC):
        await seen_in_redis(pool, "note")
    by_worker = await pool.schedules.get("note")
    await Scheduler(pool, timetable).run_once()

    assert await pool.schedules.get("note") == by_worker
    assert (by_worker.queue, by_worker.timezone) == ("mine", "Asia/Seoul")


async def seen_in_redis(pool: Pool, name: str) -> None:
    async def is_there() -> bool:
        with contextlib.suppress(ScheduleNotFound):
            return bool(await pool.schedules.get(name))
        return False

    await wait_until(is_there, f"schedule {name}")


def test_equal_arguments_give_the_same_digest_in_every_process() -> None:
    code = (
        "from arqestra import schedule, every\n"
        "from arqestra.scheduling.encode import record_of\n"
        "from arqestra.serializers import serializer_of\n"
        "from datetime import UTC\n"
        "class E: serializer = serializer_of(None); max_payload_bytes = 10**6\n"
        "E.default_queue_name, E.expires_extra_ms = 'q', 1\n"
        "s = schedule(every(1), 'f', args=[{'a', 'b', 'c', 'd'}], kwargs={'k': {'x': {1, 2, 'y'}}})\n"
        "print(record_of(s.in_zone(UTC), 'q', E).digest)\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1
