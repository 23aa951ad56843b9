"""Schedules that are defined, changed, listed and run by hand while schedulers run; and the history of their runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from arqestra import (
    Pool,
    ScheduleNotFound,
    SettingsError,
    at,
    cron,
    every,
    schedule,
)
from tests.schedule import scheduled_jobs as jobs
from tests.schedule.running import FAST, NEVER, fired, pool_is_idle, scheduler_running, seen, working
from tests.support.wait import wait_until


async def test_a_change_at_run_time_is_in_effect_in_all_schedulers_within_a_second(pool: Pool) -> None:
    async with (
        scheduler_running(pool),
        scheduler_running(pool),
        scheduler_running(pool),
        working(pool, scheduler=False),
    ):
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
    async with scheduler_running(pool):
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
