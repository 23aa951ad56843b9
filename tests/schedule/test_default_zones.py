"""In which zone a schedule is read that names none."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from arqestra import (
    Pool,
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
from tests.schedule.running import NEVER, fired, next_hour, scheduler_running, working
from tests.support.wait import wait_until


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
        *(
            "ACL",
            "SETUSER",
            "narrow",
            "on",
            ">secret",
            "~arqestra:schedule*",
            "~arqestra:deployment",
            "~arq:*",
            "&*",
            "+@all",
        )
    )
    try:
        async with await create_pool(redis_url.replace("://", "://narrow:secret@")) as narrow:
            assert (await narrow.schedules.upsert(schedule(NEVER, jobs.note))).problem == ""
        assert "no worker serves" in (await pool.schedules.get("note")).problem
    finally:
        await pool.execute_command("ACL", "DELUSER", "narrow")


async def test_a_scheduler_process_reads_them_in_its_zone_and_a_changed_one_plans_anew(pool: Pool) -> None:
    await pool.schedules.upsert(schedule("0 9 * * *", jobs.note))
    async with scheduler_running(pool, run_time_zone="Asia/Seoul"):
        assert await next_hour(pool) == (0, "Asia/Seoul")
    async with scheduler_running(pool, zone=ZoneInfo("Asia/Kolkata")):

        async def is_in_the_new_zone() -> bool:
            return (await pool.schedules.get("note")).timezone == "Asia/Kolkata"

        await wait_until(is_in_the_new_zone, "it is read in the new zone")
        assert await next_hour(pool) == (3, "Asia/Kolkata")
    await pool.schedules.upsert(schedule("0 9 * * *", jobs.note, timezone="Asia/Seoul"))
    async with scheduler_running(pool, zone=ZoneInfo("Asia/Kolkata")):
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
