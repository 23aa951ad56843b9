"""Schedulers and workers that run: what is defined in code and at run time is fired, once, by whoever comes first."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from arqestra import (
    EnqueuedCall,
    Middleware,
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
    every,
    schedule,
    worker_settings,
)
from arqestra.embedded import EmbeddedRedis
from arqestra.scheduling import code_schedules, known_schedules
from arqestra.scheduling.queue_scheduler import AHEAD_MS
from arqestra.store.schedules import ScheduleStore
from tests.schedule import scheduled_jobs as jobs
from tests.support.pools import url_of
from tests.support.replies import reply_of
from tests.support.wait import wait_until

FAST = every(0.1)
NEVER = "0 0 1 1 *"


@pytest.fixture(autouse=True)
def fresh() -> None:
    jobs.RUNS.clear()
    jobs.GATES.clear()
    jobs.AT_ONCE[:] = [0, 0]


@asynccontextmanager
async def working(pool: Pool, **settings: Any) -> AsyncIterator[Worker]:
    """A worker in this loop."""
    options: dict[str, Any] = {
        "redis_settings": url_of(pool),
        "serializer": pool.serializer,
        "handle_signals": False,
        "timezone": UTC,
        "poll_delay": 0.05,
        **settings,
    }
    worker = Worker(jobs.ALL, **options)
    running = asyncio.ensure_future(worker.async_run())
    try:
        yield worker
    finally:
        for gate in jobs.GATES.values():
            gate.set()
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def schedule_runner(pool: Pool, *schedules: Any, **options: Any) -> AsyncIterator[Scheduler]:
    """A scheduler in this loop, which runs no jobs."""
    scheduler = Scheduler(pool, schedules, **options)
    running = asyncio.ensure_future(scheduler.run())
    try:
        yield scheduler
    finally:
        scheduler.stop()
        await running


async def seen(condition: Callable[[], bool], what: str) -> None:
    async def holds() -> bool:
        return condition()

    await wait_until(holds, what)


async def fired(pool: Pool, name: str, count: int, *, outcome: str | None = None) -> None:
    """Wait until a schedule has had so many runs."""

    async def has_runs() -> bool:
        with contextlib.suppress(ScheduleNotFound):
            runs = await pool.schedules.history(name)
            return sum(outcome is None or run.outcome == outcome for run in runs) >= count
        return False

    await wait_until(has_runs, f"{count} runs of {name}" + (f" that are {outcome}" if outcome else ""))


# -- code -------------------------------------------------------------------------------------------------------------


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
            await stack.enter_async_context(schedule_runner(pool, *timetable))
        for _ in range(2):
            await stack.enter_async_context(working(pool, schedules=timetable))
        await fired(pool, "note", 8, outcome="complete")
        await pool.schedules.pause("note")
        await pool_is_idle(pool)

    ticks = [run.job.headers["tick"] for run in jobs.RUNS]
    assert len(set(ticks)) == len(ticks)
    assert {run.how for run in await pool.schedules.history("note")} <= {"on time", "late"}


async def pool_is_idle(pool: Pool) -> None:
    async def is_empty() -> bool:
        return await pool.zcard(pool.default_queue_name) == 0

    await wait_until(is_empty, "an empty queue")


async def test_settings_classes_take_schedules_and_cron_jobs(pool: Pool) -> None:
    @worker_settings
    class WorkerSettings:
        functions = jobs.ALL
        schedules = Timetable([schedule(FAST, jobs.note, name="mine")])
        cron_jobs = [cron(jobs.note, name="arqs", second=set(range(60)), microsecond=0)]  # noqa: RUF012
        redis_settings = url_of(pool)
        handle_signals = False

    worker = Worker(**{name: value for name, value in vars(WorkerSettings).items() if not name.startswith("_")})
    running = asyncio.ensure_future(worker.async_run())
    try:
        await fired(pool, "mine", 2, outcome="complete")
        await fired(pool, "arqs", 1, outcome="complete")
    finally:
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)
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
    async with schedule_runner(pool, schedule(FAST, "note")) as scheduler:
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
        schedule_runner(pool, *timetable),
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


# -- arq's cron -------------------------------------------------------------------------------------------------------


async def test_cron_jobs_that_run_at_startup_run_when_the_worker_starts(pool: Pool) -> None:
    cron_jobs = [cron(jobs.note, name="startup", month=1, day=1, hour=0, minute=0, run_at_startup=True)]
    async with working(pool, cron_jobs=cron_jobs):
        await seen(lambda: len(jobs.RUNS) == 1, "the run at startup")
        job = await pool.enqueue(jobs.slow)
        assert job is not None
        await job.result(timeout=10)

    assert len(jobs.runs_of("note")) == 1


async def test_cron_jobs_that_are_not_unique_run_once_for_each_worker(pool: Pool) -> None:
    def own() -> dict[str, Any]:
        return {"cron_jobs": [cron(jobs.note, name="own", second=set(range(60)), microsecond=0, unique=False)]}

    async with working(pool, **own()), working(pool, **own()):
        await seen(lambda: len(jobs.RUNS) >= 4, "two seconds of two workers")

    assert len({run.job.job_id for run in jobs.RUNS}) == len(jobs.RUNS)
    assert await pool.schedules.list() == []


async def test_unique_cron_jobs_run_once_for_all_workers_under_arqs_ids(pool: Pool) -> None:
    cron_jobs = [cron(jobs.note, name="tidy", second=set(range(60)), microsecond=0)]
    async with working(pool, cron_jobs=cron_jobs), working(pool, cron_jobs=cron_jobs):
        await fired(pool, "tidy", 2, outcome="complete")

    assert len({run.job.headers["tick"] for run in jobs.RUNS}) == len(jobs.RUNS)
    for run in jobs.RUNS:
        tick_ms = round(datetime.fromisoformat(run.job.headers["tick"]).timestamp() * 1000)
        assert run.job.job_id == f"tidy:{tick_ms}"


async def test_a_cron_job_with_a_job_id_has_one_job_at_a_time(pool: Pool) -> None:
    cron_jobs = [cron(jobs.wait, name="waits", second=set(range(60)), microsecond=0, job_id="only one")]
    async with working(pool, cron_jobs=cron_jobs):
        await fired(pool, "waits", 1, outcome="running")
        await fired(pool, "waits", 1, outcome="refused")
        assert [run.job.job_id for run in jobs.RUNS] == ["only one"]


async def test_two_cron_jobs_of_one_name_are_two_schedules(pool: Pool) -> None:
    seconds = [set(range(0, 60, 2)), set(range(1, 60, 2))]
    cron_jobs = [cron(jobs.note, name="tidy", second=each, microsecond=0) for each in seconds]
    async with working(pool, cron_jobs=cron_jobs):
        await fired(pool, "tidy", 1, outcome="complete")
        await fired(pool, "tidy#2", 1, outcome="complete")

    assert {info.function for info in await pool.schedules.list()} == {"tidy"}


# -- at run time ------------------------------------------------------------------------------------------------------


async def test_a_change_at_run_time_is_in_effect_in_all_schedulers_within_a_second(pool: Pool) -> None:
    async with schedule_runner(pool), schedule_runner(pool), schedule_runner(pool), working(pool, scheduler=False):
        info = await pool.schedules.upsert(schedule(FAST, jobs.note, args=["first"]))
        defined = datetime.now(UTC)
        assert (info.name, info.source, info.words) == ("note", "run time", "every 100 ms")
        await fired(pool, "note", 3, outcome="complete")
        first = min(run.fired for run in await pool.schedules.history("note"))
        assert first - defined < timedelta(seconds=2)  # a second, and what the machine may be busy with

        await pool.schedules.upsert(schedule(FAST, jobs.note, args=["second"]))
        before = len(jobs.RUNS)
        await seen(lambda: ("second",) in {run.arguments for run in jobs.RUNS}, "a run with the new arguments")
        # A script compares the revision: after the change no tick is fired with what was before.
        changed = [run.arguments for run in jobs.RUNS[before + 1 :]]
        assert changed == sorted(changed)

        await pool.schedules.pause("note")
        await pool_is_idle(pool)
        paused = len(await pool.schedules.history("note"))
        await pool.schedules.upsert(schedule(FAST, jobs.note, name="meanwhile"))
        await fired(pool, "meanwhile", 3)
        assert len(await pool.schedules.history("note")) == paused

        await pool.schedules.resume("note")
        await fired(pool, "note", paused + 1)

        assert await pool.schedules.remove("note") is True
        await pool_is_idle(pool)
        removed = len(jobs.RUNS)
        await pool.schedules.upsert(schedule(FAST, jobs.slow, name="after"))
        await fired(pool, "after", 3)
        assert {run.job.headers["schedule"] for run in jobs.RUNS[removed:]} == {"after", "meanwhile"}


async def test_what_is_defined_at_run_time_survives_all_schedulers(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(FAST, jobs.note))
    async with working(pool):
        await fired(pool, "note", 1)
    before = len(await pool.schedules.history("note"))
    async with working(pool):
        await fired(pool, "note", before + 1)


async def test_a_list_has_all_schedules_the_next_first(pool: Pool) -> None:
    for name, when in (("yearly", NEVER), ("fast", every(60)), ("off", every(30))):
        await pool.schedules.upsert(schedule(when, "note", name=name, missed="all", overlap="queue"))
    await pool.schedules.pause("off")

    infos = await pool.schedules.list()
    assert [info.name for info in infos] == ["fast", "yearly", "off"]
    assert [info.paused for info in infos] == [False, False, True]
    assert infos[2].next_run is None
    assert infos[0].next_run is not None
    assert infos[0].next_run.timestamp() % 60 == 0
    assert {(info.missed, info.overlap, info.function, info.timezone) for info in infos} == {
        ("all", "queue", "note", "UTC")
    }
    assert await pool.schedules.get("off") == infos[2]
    assert [info.name for info in await pool.schedules.list(queue="other")] == []


async def test_next_runs_are_in_the_zone_of_the_schedule(pool: Pool) -> None:
    await pool.schedules.upsert(schedule("0 9 * * *", "note", timezone="Asia/Seoul"))
    runs = await pool.schedules.next_runs("note", 3)

    assert [(run.hour, run.minute, run.tzinfo) for run in runs] == [(9, 0, ZoneInfo("Asia/Seoul"))] * 3
    assert runs[1] - runs[0] == runs[2] - runs[1] == timedelta(days=1)
    assert runs[0] > datetime.now(UTC)
    assert await pool.schedules.next_runs("note", 0) == []
    assert len(await pool.schedules.next_runs("note")) == 10


async def test_a_schedule_that_is_over_has_no_next_run(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(at(datetime.now(UTC) - timedelta(days=9)), "note"))

    assert await pool.schedules.next_runs("note") == []
    async with schedule_runner(pool):
        await fired(pool, "note", 1, outcome="dropped")
    assert (await pool.schedules.get("note")).next_run is None


@pytest.mark.parametrize("count", [-1, 10_001, True, 1.5, "3"])
async def test_an_impossible_count_of_next_runs_is_refused(pool: Pool, count: Any) -> None:
    with pytest.raises(SettingsError, match="count: expected an int from 0 to 10000, got"):
        await pool.schedules.next_runs("note", count)


@pytest.mark.parametrize("method", ["get", "pause", "resume", "run_now", "next_runs", "history"])
async def test_a_name_that_is_none_is_told(pool: Pool, method: str) -> None:
    with pytest.raises(ScheduleNotFound, match="got 'nobody', which is none") as caught:
        await getattr(pool.schedules, method)("nobody")
    assert (caught.value.name, isinstance(caught.value, LookupError)) == ("nobody", True)
    with pytest.raises(SettingsError, match="expected the name of a schedule"):
        await getattr(pool.schedules, method)(5)


async def test_removing_what_is_not_there_says_so(pool: Pool) -> None:
    assert await pool.schedules.remove("nobody") is False


@pytest.mark.parametrize("other", ["note", None, cron(jobs.note), schedule])
async def test_only_schedules_can_be_defined(pool: Pool, other: Any) -> None:
    with pytest.raises(SettingsError, match=r"upsert: expected schedule\(...\), got"):
        await pool.schedules.upsert(other)


async def test_a_run_by_hand_runs_at_once_also_while_it_is_paused(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(NEVER, jobs.note, args=[1]))
    await pool.schedules.pause("note")
    async with working(pool):
        job = await pool.schedules.run_now("note")
        await job.result(timeout=10)

    assert [run.job.job_id for run in jobs.RUNS] == [job.job_id]
    assert jobs.RUNS[0].job.headers == {"schedule": "note"}
    (run,) = await pool.schedules.history("note")
    assert (run.how, run.outcome, run.job_id) == ("by hand", "complete", job.job_id)


async def test_a_run_by_hand_is_refused_while_another_job_holds_the_lock(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(NEVER, jobs.alone))
    await pool.schedules.run_now("alone")

    with pytest.raises(SettingsError, match="lock of its function"):
        await pool.schedules.run_now("alone")


async def test_a_run_by_hand_for_which_another_job_stands_gives_that_job(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(NEVER, jobs.stand_in))
    first = await pool.schedules.run_now("stand_in")
    second = await pool.schedules.run_now("stand_in")

    assert second.job_id == first.job_id
    jobs.GATES["stand_in"].set()
    async with working(pool):
        await second.result(timeout=10)
    assert len(jobs.RUNS) == 1


async def test_a_failed_job_is_in_the_history(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(NEVER, jobs.fail))
    async with working(pool):
        await pool.schedules.run_now("fail")
        await fired(pool, "fail", 1, outcome="failed")


async def test_an_aborted_job_is_in_the_history(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(NEVER, jobs.wait))
    async with working(pool, allow_abort_jobs=True):
        job = await pool.schedules.run_now("wait")
        await fired(pool, "wait", 1, outcome="running")
        assert await job.abort(timeout=10) is True
        await fired(pool, "wait", 1, outcome="aborted")


async def test_an_expired_job_is_in_the_history(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(NEVER, jobs.note, expires=0.05))
    job = await pool.schedules.run_now("note")
    await wait_until(lambda: _is_past(pool, job.job_id, 0.06), "the job has expired")
    async with working(pool):
        await fired(pool, "note", 1, outcome="expired")

    assert jobs.RUNS == []


async def _is_past(pool: Pool, job_id: str, seconds: float) -> bool:
    info = await pool.job(job_id).info()
    assert info is not None
    return datetime.now(UTC) - info.enqueue_time > timedelta(seconds=seconds)


# -- what a job is under ----------------------------------------------------------------------------------------------


async def test_queue_priority_and_expiry_reach_the_job(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(NEVER, jobs.urgent.options(headers={"tenant": "a"})))
    job = await pool.schedules.run_now("urgent")
    payload = pool.serializer.loads(await pool.get(pool.store.keys.job(job.job_id)))
    options = payload["o"]

    assert await pool.zscore("urgent", job.job_id) is not None
    assert options["p"] == 7
    assert options["x"] - payload["et"] == 600_000
    assert options["h"] == {"tenant": "a", "schedule": "urgent"}


async def test_the_concurrency_of_the_function_holds(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(FAST, jobs.one_at_a_time)]):
        await fired(pool, "one_at_a_time", 3)
        assert len(jobs.RUNS) == 1


async def test_the_rate_of_the_function_holds(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(FAST, jobs.rarely)]):
        await fired(pool, "rarely", 1, outcome="complete")
        await fired(pool, "rarely", 4)
        assert len(jobs.RUNS) == 1


async def test_the_lock_of_the_function_holds(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(FAST, jobs.alone)]):
        await fired(pool, "alone", 2, outcome="refused")
        assert len(jobs.RUNS) == 1
        jobs.GATES["alone"].set()
        await seen(lambda: len(jobs.RUNS) > 1, "a run after the lock was given back")


async def test_queued_runs_never_overlap(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(every(0.1), jobs.slow, overlap="queue")]):
        await fired(pool, "slow", 4, outcome="complete")

    assert jobs.AT_ONCE[1] == 1


async def test_skipped_runs_never_overlap(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(every(0.1), jobs.slow, overlap="skip")]):
        await fired(pool, "slow", 2, outcome="complete")
        await fired(pool, "slow", 1, outcome="skipped")

    assert jobs.AT_ONCE[1] == 1


async def test_allowed_runs_do_overlap(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(FAST, jobs.wait)]):
        await seen(lambda: len(jobs.RUNS) == 3, "three jobs run at once")


class Stamp(Middleware):
    """Gives each enqueue a number."""

    def __init__(self) -> None:
        self.calls: list[EnqueuedCall] = []

    @asynccontextmanager
    async def around_enqueue(self, call: EnqueuedCall) -> AsyncIterator[None]:
        self.calls.append(call)
        call.headers["number"] = str(len(self.calls))
        yield


async def test_middleware_sees_scheduled_jobs(pool: Pool) -> None:
    stamp = Stamp()
    timetable = [schedule(FAST, jobs.note, args=[1]), schedule(NEVER, jobs.urgent)]
    async with working(pool, schedules=timetable, middleware=[stamp]):
        await fired(pool, "note", 2, outcome="complete")

    assert {(call.function, tuple(call.args), call.queue) for call in stamp.calls} == {
        ("note", (1,), pool.default_queue_name)
    }
    for run in jobs.RUNS:
        assert run.job.headers["schedule"] == "note"
        assert int(run.job.headers["number"]) >= 1


# -- zones of schedules that name none --------------------------------------------------------------------------------


async def next_hour(pool: Pool, name: str = "note") -> tuple[int, str]:
    """When a schedule at nine is due, in UTC, and in which zone it is said to be."""

    async def is_planned() -> bool:
        [due] = await pool.zmscore("arqestra:schedules:arq:queue", [name])
        return bool(due)

    await wait_until(is_planned, "a scheduler has planned it")
    info = await pool.schedules.get(name)
    assert info.next_run is not None
    assert await pool.schedules.next_runs(name, 1) == [info.next_run]
    assert info.words == f"at 09:00 every day, {info.timezone}"
    return info.next_run.astimezone(UTC).hour, info.timezone


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"timezone": ZoneInfo("Asia/Seoul")}, (0, "Asia/Seoul")),
        ({"timezone": "Asia/Seoul"}, (0, "Asia/Seoul")),
        ({"timezone": "+09:00"}, (0, "+09:00")),
        ({"timezone": None}, (9, "UTC")),
        ({"timezone": "Asia/Tokyo", "schedules": Timetable([], timezone="Asia/Seoul")}, (0, "Asia/Seoul")),
        ({"timezone": "Asia/Seoul", "schedules": Timetable([])}, (0, "Asia/Seoul")),
    ],
    ids=str,
)
async def test_an_upserted_schedule_without_zone_is_read_in_the_workers(
    pool: Pool, settings: dict[str, Any], expected: tuple[int, str]
) -> None:
    await pool.schedules.upsert(schedule("0 9 * * *", jobs.note))  # before a worker is there
    async with working(pool, **settings):
        assert await next_hour(pool) == expected
        info = await pool.schedules.upsert(schedule("0 9 * * *", jobs.note, name="later"))
        assert info.timezone == expected[1], "the worker has told of its zone"
        assert await next_hour(pool, "later") == expected
        told = await pool.schedules.upsert(schedule("0 9 * * *", jobs.note, name="told"), timezone="Asia/Kolkata")
        assert (told.timezone, await next_hour(pool, "told")) == ("Asia/Kolkata", (3, "Asia/Kolkata"))
        own = schedule("0 9 * * *", jobs.note, name="own", timezone="Asia/Kolkata")
        assert (await pool.schedules.upsert(own, timezone="Asia/Seoul")).timezone == "Asia/Kolkata"


async def test_cron_jobs_are_read_in_the_zone_that_the_settings_name(pool: Pool) -> None:
    async with working(pool, cron_jobs=[cron(jobs.note, hour=9, minute=0)], timezone="Asia/Seoul"):
        await fired_or_planned(pool, "cron:note")
        info = await pool.schedules.get("cron:note")
    assert info.next_run is not None
    assert (info.timezone, info.next_run.astimezone(UTC).hour) == ("Asia/Seoul", 0)


async def fired_or_planned(pool: Pool, name: str) -> None:
    async def is_known() -> bool:
        with contextlib.suppress(ScheduleNotFound):
            return bool(await pool.schedules.get(name))
        return False

    await wait_until(is_known, f"{name} is known")


async def test_who_must_not_see_the_workers_says_nothing_of_them(pool: Pool, redis_url: str) -> None:
    await pool.execute_command(
        *("ACL", "SETUSER", "narrow", "on", ">secret", "~arqestra:schedule*", "~arq:*", "&*", "+@all")
    )
    try:
        async with await create_pool(redis_url.replace("://", "://narrow:secret@")) as narrow:
            assert (await narrow.schedules.upsert(schedule(NEVER, jobs.note))).problem == ""
        assert "no worker serves" in (await pool.schedules.get("note")).problem
    finally:
        await pool.execute_command("ACL", "DELUSER", "narrow")


async def test_a_scheduler_process_reads_them_in_its_zone_and_a_changed_one_plans_anew(pool: Pool) -> None:
    await pool.schedules.upsert(schedule("0 9 * * *", jobs.note))
    async with schedule_runner(pool, run_time_zone="Asia/Seoul"):
        assert await next_hour(pool) == (0, "Asia/Seoul")
    async with schedule_runner(pool, zone=ZoneInfo("Asia/Kolkata")):

        async def is_in_the_new_zone() -> bool:
            return (await pool.schedules.get("note")).timezone == "Asia/Kolkata"

        await wait_until(is_in_the_new_zone, "it is read in the new zone")
        assert await next_hour(pool) == (3, "Asia/Kolkata")
    await pool.schedules.upsert(schedule("0 9 * * *", jobs.note, timezone="Asia/Seoul"))
    async with schedule_runner(pool, zone=ZoneInfo("Asia/Kolkata")):
        assert await next_hour(pool) == (0, "Asia/Seoul"), "one that names its zone keeps it"


async def test_a_single_time_without_zone_is_that_of_the_worker(pool: Pool) -> None:
    seoul = ZoneInfo("Asia/Seoul")
    soon, past = datetime.now(seoul) + timedelta(seconds=1), datetime.now(seoul) - timedelta(minutes=1)
    await pool.schedules.upsert(schedule(at(soon.replace(tzinfo=None)), jobs.note, name="soon"))
    await pool.schedules.upsert(schedule(at(past.replace(tzinfo=None)), jobs.note, name="past"))
    async with working(pool, timezone="Asia/Seoul"):
        await fired(pool, "past", 1, outcome="complete")
        await fired(pool, "soon", 1, outcome="complete")
    [run] = await pool.schedules.history("soon")
    assert run.tick == soon.replace(microsecond=soon.microsecond // 1000 * 1000)


@pytest.mark.parametrize("zone", ["Asia/Soul", "", "9", 9, "noon"])
async def test_what_is_no_zone_is_refused_wherever_one_is_taken(pool: Pool, zone: Any) -> None:
    made = schedule(NEVER, jobs.note)
    with pytest.raises(SettingsError, match="upsert: timezone: expected a time zone such as"):
        await pool.schedules.upsert(made, timezone=zone)
    for take in (
        lambda: schedule(NEVER, jobs.note, timezone=zone),
        lambda: Timetable([], timezone=zone),
        lambda: Scheduler(pool, [], zone=zone),
        lambda: made.in_zone(zone),
        lambda: Worker(jobs.ALL, timezone=zone),
        lambda: worker_settings(type("Settings", (), {"functions": jobs.ALL, "timezone": zone})),
    ):
        with pytest.raises(SettingsError, match=r"timezone: expected .* time zone such as \"Asia/Seoul\""):
            take()
    with pytest.raises(SettingsError, match="expected"):
        at(f"2030-01-31 09:00 {zone}")


async def test_a_time_may_have_the_name_of_its_zone_behind_it() -> None:
    seoul = at("2030-01-31 09:00 Asia/Seoul")
    assert seoul == at("2030-01-31 09:00+09:00")
    made = schedule(NEVER, jobs.note, start="2030-01-01 09:00 Asia/Seoul", end="2031-01-01 09:00 Asia/Seoul")
    assert made == schedule(NEVER, jobs.note, start="2030-01-01T00:00Z", end="2031-01-01T00:00Z")
    gap = at("2030-03-31 02:30 Europe/Berlin")  # which the clock passes over: when the gap ends
    assert gap.next_after(0, UTC) == datetime(2030, 3, 31, 1, tzinfo=UTC).timestamp() * 1000
    with pytest.raises(SettingsError, match="2030-01-31 09:00\\+01:00 Asia/Seoul"):
        at("2030-01-31 09:00+01:00 Asia/Seoul")


# -- queues that nobody serves ----------------------------------------------------------------------------------------


async def test_a_schedule_on_a_queue_that_nobody_serves_says_so(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    async def problem(name: str) -> str:
        infos = {info.name: info.problem for info in await pool.schedules.list()}
        assert infos[name] == (await pool.schedules.get(name)).problem
        return infos[name]

    lost = schedule(NEVER, jobs.note, name="lost", queue="nobodys")
    async with working(pool):

        async def is_known() -> bool:
            return any(worker.alive for worker in await pool.workers())

        await wait_until(is_known, "the worker has told of itself")
        with caplog.at_level("WARNING", "arq.scheduler"):
            info = await pool.schedules.upsert(lost)
            fine = await pool.schedules.upsert(schedule(NEVER, jobs.note, name="fine"))
        assert (info.problem, fine.problem) == ("no worker serves queue 'nobodys': jobs wait there", "")
        assert [record.getMessage() for record in caplog.records] == [f"schedule lost: {info.problem}"]
        assert (await problem("lost"), await problem("fine")) == (info.problem, "")
        async with schedule_runner(pool, queues=["nobodys"]):
            assert await problem("lost") == info.problem
        async with working(pool, queue_name="nobodys"):

            async def is_served() -> bool:
                return (await pool.schedules.get("lost")).problem == ""

            await wait_until(is_served, "it is served")
            assert await problem("lost") == ""
        await pool.schedules.pause("lost")
        assert await problem("lost") == "", "nobody wants it to be fired"
    assert "no worker serves queue 'arq:queue'" in await problem("fine")


async def test_a_queue_whose_workers_fire_nothing_says_so(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(NEVER, jobs.note))
    await reply_of(pool.hset("arqestra:schedule:note", "mark", "1"))  # as if it were not new

    async def says_so() -> bool:
        return (await pool.schedules.get("note")).problem == "nobody fires the schedules of queue 'arq:queue'"

    async with working(pool, scheduler=False):
        await wait_until(says_so, "it says so")
        async with schedule_runner(pool):

            async def is_fired() -> bool:
                return (await pool.schedules.get("note")).problem == ""

            await wait_until(is_fired, "somebody fires it")


async def test_a_process_says_which_of_its_schedules_go_where_nobody_is(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(code_schedules, "KEEP_S", 0.2)
    elsewhere = [schedule(NEVER, jobs.note, name=name, queue="nobodys") for name in ("one", "two")]
    here = schedule(NEVER, jobs.note, name="here")
    expected = "no worker serves queue nobodys: the jobs of the schedules one, two will wait there"

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if "no worker serves" in record.getMessage()]

    with caplog.at_level("WARNING", "arq.scheduler"):
        async with working(pool, schedules=[*elsewhere, here]):
            await seen(lambda: told() != [], "it says so")
            assert told() == [expected]


# -- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_schedule_that_one_scheduler_cannot_read_is_fired_by_one_that_can(pool: Pool, redis_url: str) -> None:
    packed = await create_pool(redis_url, serializer="msgpack")
    try:
        await packed.schedules.upsert(schedule(every(0.3), jobs.note, args=["packed"]))
        async with schedule_runner(pool):

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


class Remembering(Middleware):
    """Sets a context variable around an enqueue, as a tracer does, and puts it back."""

    def __init__(self) -> None:
        self.before: list[str] = []
        self.after: list[str] = []

    @asynccontextmanager
    async def around_enqueue(self, call: EnqueuedCall) -> AsyncIterator[None]:
        self.before.append(WITHIN.get())
        token = WITHIN.set(call.function)
        try:
            yield
        finally:
            WITHIN.reset(token)
            self.after.append(WITHIN.get())


WITHIN: ContextVar[str] = ContextVar("within", default="nothing")


async def test_middleware_may_put_context_variables_back_and_calls_do_not_nest(pool: Pool) -> None:
    remembering = Remembering()
    timetable = [schedule(FAST, jobs.note, name=f"s{number}") for number in range(3)]
    async with working(pool, schedules=timetable, middleware=[remembering]):
        for each in timetable:
            await fired(pool, each.name, 5, outcome="complete")

    assert set(remembering.before) == set(remembering.after) == {"nothing"}
    outcomes = [run.outcome for each in timetable for run in await pool.schedules.history(each.name)]
    assert "dropped" not in outcomes


async def test_a_timetable_has_the_same_queue_and_zone_for_a_worker_as_for_a_scheduler(pool: Pool) -> None:
    timetable = Timetable([schedule("0 9 * * *", jobs.note)], timezone="Asia/Seoul", queue="mine")
    async with working(pool, schedules=timetable, queues=["high", "low"], timezone=UTC):
        await seen_in_redis(pool, "note")
    by_worker = await pool.schedules.get("note")
    await Scheduler(pool, timetable).run_once()

    assert await pool.schedules.get("note") == by_worker
    assert (by_worker.queue, by_worker.timezone) == ("mine", "Asia/Seoul")


async def test_cron_jobs_among_the_schedules_of_a_worker_are_run(pool: Pool) -> None:
    async with working(pool, schedules=[cron(jobs.note, name="each second", second=None)]):
        await fired(pool, "each second", 1, outcome="complete")


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
    async with schedule_runner(pool):

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


async def test_cron_jobs_of_two_applications_with_one_name_are_two_schedules(pool: Pool) -> None:
    first = [cron(jobs.note, name="tidy", second=set(range(0, 60, 2)))]
    second = [cron(jobs.note, name="tidy", second=set(range(1, 60, 2)))]
    async with working(pool, queue_name="a", cron_jobs=first), working(pool, queue_name="b", cron_jobs=second):
        await fired(pool, "tidy@a", 1, outcome="complete")
        await fired(pool, "tidy@b", 1, outcome="complete")
