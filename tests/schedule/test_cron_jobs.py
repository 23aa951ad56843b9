"""arq's cron jobs are schedules of the workers' code."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from arqestra import (
    Pool,
    cron,
)
from tests.schedule import scheduled_jobs as jobs
from tests.schedule.running import fired, seen, working


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


async def test_cron_jobs_among_the_schedules_of_a_worker_are_run(pool: Pool) -> None:
    async with working(pool, schedules=[cron(jobs.note, name="each second", second=None)]):
        await fired(pool, "each second", 1, outcome="complete")


async def test_cron_jobs_of_two_applications_with_one_name_are_two_schedules(pool: Pool) -> None:
    first = [cron(jobs.note, name="tidy", second=set(range(0, 60, 2)))]
    second = [cron(jobs.note, name="tidy", second=set(range(1, 60, 2)))]
    async with working(pool, queue_name="a", cron_jobs=first), working(pool, queue_name="b", cron_jobs=second):
        await fired(pool, "tidy@a", 1, outcome="complete")
        await fired(pool, "tidy@b", 1, outcome="complete")
