"""Schedules whose jobs nobody would run are told of."""

from __future__ import annotations

import pytest

from arqestra import (
    Pool,
    schedule,
)
from arqestra.scheduling import code_schedules
from tests.schedule import scheduled_jobs as jobs
from tests.schedule.running import NEVER, scheduler_running, seen, working
from tests.support.replies import reply_of
from tests.support.wait import wait_until


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
        async with scheduler_running(pool, queues=["nobodys"]):
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
        async with scheduler_running(pool):

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
