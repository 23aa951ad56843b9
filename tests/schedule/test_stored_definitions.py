"""Definitions in code and at run time: which one holds, and when a process that defines it is gone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from arqestra import at, every, schedule
from tests.schedule.harness import DAY_MS, HOUR_MS, MINUTE_MS, Process, ScheduleHarness, minutely


async def test_the_same_definition_changes_nothing(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    before = await harness.stored()

    assert await harness.upsert(minutely()) == "same"
    assert await harness.stored() == before


async def test_other_arguments_keep_the_mark_and_other_times_begin_at_the_present(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    harness.clock.advance(2 * MINUTE_MS)
    await harness.upsert(minutely("other", missed="all"))
    assert await harness.fired() == 2  # missed ones are made up for, by the new definition

    harness.clock.advance(5 * MINUTE_MS)
    await harness.upsert(schedule(every(30), "other", name="report", missed="all"))
    assert await harness.fired() == 0
    assert await harness.fired(30_000) == 1


async def test_a_single_time_that_has_passed_is_judged_by_its_policy(harness: ScheduleHarness) -> None:
    now = datetime.fromtimestamp(harness.clock() / 1000, UTC)
    past = {name: at(now.replace(year=now.year - year)) for name, year in (("old", 1), ("older", 2))}
    await harness.upsert(schedule(past["old"], "report", name="old"))
    await harness.upsert(schedule(past["older"], "report", name="older", missed="last"))
    await harness.upsert(schedule(at(now), "report", name="present"))

    assert sorted(await harness.turn()) == ["done", "fired", "fired"]
    assert [run.how for name in ("old", "older", "present") for run in await harness.runs(name)] == ["d", "l", "t"]
    assert await harness.fired(HOUR_MS) == 0


async def test_a_single_time_is_not_fired_again_by_a_deploy(harness: ScheduleHarness) -> None:
    moment = at(datetime.fromtimestamp((harness.clock() + MINUTE_MS) / 1000, UTC))
    process = harness.process(schedule(moment, "report"))
    await process.keep()
    await harness.turn()
    assert await harness.fired(MINUTE_MS) == 1

    assert await harness.process(schedule(moment, "report")).keep() == []
    harness.clock.advance(10)
    assert await harness.process(schedule(moment, "report", args=["other"])).keep() == ["changed"]
    assert await harness.fired() == 0


@pytest.fixture
async def processes(harness: ScheduleHarness) -> tuple[Process, Process, Process]:
    """Three versions of the code, started ten seconds one after the other; none has said anything yet."""
    born_ms = harness.clock()
    harness.clock.advance(MINUTE_MS)
    made = [harness.process(minutely(name), born_ms=born_ms + i * 10_000) for i, name in enumerate(("v1", "v2", "v3"))]
    return made[0], made[1], made[2]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["older first", "newer first"])
async def test_of_two_versions_of_the_code_the_later_started_wins(
    harness: ScheduleHarness, processes: tuple[Process, ...], order: tuple[int, int]
) -> None:
    for _ in range(3):
        for number in order:
            await processes[number].keep()
            harness.clock.advance(15_000)
    assert await harness.function() == "v2"
    assert await processes[0].keep() == []


async def test_the_older_version_comes_back_when_the_newer_is_gone_for_a_minute(
    harness: ScheduleHarness, processes: tuple[Process, ...]
) -> None:
    await processes[1].keep()
    for _ in range(3):
        harness.clock.advance(15_000)
        assert await processes[0].keep() == []
    harness.clock.advance(15_000)
    assert await processes[0].keep() == ["changed"]
    assert await harness.function() == "v1"
    assert await processes[1].keep() == ["changed"]  # if it was only away, it is still the newer


async def test_a_process_of_the_same_code_keeps_it_alive(
    harness: ScheduleHarness, processes: tuple[Process, ...]
) -> None:
    twin = harness.process(minutely("v2"), born_ms=processes[1].born_ms + 5_000)
    await processes[1].keep()
    for _ in range(6):
        harness.clock.advance(15_000)
        assert await twin.keep() == []
        assert await processes[0].keep() == []
    assert await harness.function() == "v2"


@pytest.mark.parametrize("speaks_again", [False, True])
async def test_what_is_changed_at_run_time_stays_until_a_process_starts(
    harness: ScheduleHarness, processes: tuple[Process, ...], speaks_again: bool
) -> None:
    for process in processes:
        await process.keep()
    assert await harness.upsert(minutely("by hand")) == "changed"
    harness.clock.advance(2 * MINUTE_MS)
    for process in processes:
        assert await process.keep() == []
    assert await harness.function() == "by hand"
    if speaks_again:
        harness.clock.advance(DAY_MS)
        assert [await process.keep() for process in processes] == [[], [], []]

    later = harness.process(minutely("v1"))
    harness.clock.advance(1_000)
    assert await later.keep() == ["changed"]
    assert await harness.function() == "v1"
    assert [await process.keep() for process in processes] == [[], [], []]


async def test_code_that_starts_while_the_change_is_made_does_not_undo_it(harness: ScheduleHarness) -> None:
    starting = harness.process(minutely("code"))
    harness.clock.advance(5)
    await harness.upsert(minutely("by hand"))
    harness.clock.advance(1_000)

    assert await starting.keep() == []
    assert await harness.function() == "by hand"


async def test_what_is_defined_at_run_time_is_not_the_codes_even_if_it_is_the_same(harness: ScheduleHarness) -> None:
    await harness.process(minutely()).keep()
    assert await harness.upsert(minutely()) == "changed"
    assert await harness.upsert(minutely()) == "same"

    stored = await harness.stored()
    assert stored is not None
    assert stored.source == "api"


async def test_what_is_removed_stays_removed_until_a_process_starts(
    harness: ScheduleHarness, processes: tuple[Process, ...]
) -> None:
    await processes[0].keep()
    assert await harness.store.set("report", "remove") is True
    assert await harness.store.set("report", "remove") is None
    for _ in range(20):
        harness.clock.advance(DAY_MS // 2)
        assert [await process.keep() for process in processes] == [[], [], []]
        assert await harness.turn() == []
    assert await harness.stored() is None

    later = harness.process(minutely("v4"))
    harness.clock.advance(1_000)
    assert await later.keep() == ["new"]
    assert await harness.function() == "v4"
    assert await harness.fired() == 0
    assert await harness.fired(MINUTE_MS) == 1


async def test_what_was_removed_can_be_defined_at_run_time_at_once(harness: ScheduleHarness) -> None:
    await harness.process(minutely()).keep()
    await harness.store.set("report", "remove")
    harness.clock.advance(10 * MINUTE_MS)

    assert await harness.upsert(minutely(missed="all")) == "new"
    assert await harness.fired() == 0  # nothing is made up for
    assert await harness.fired(MINUTE_MS) == 1


async def test_what_no_process_defines_any_more_is_not_fired_and_comes_back_when_one_does(
    harness: ScheduleHarness,
) -> None:
    process = harness.process(minutely(missed="all"))
    await process.keep()
    await harness.turn()
    assert await harness.fired(MINUTE_MS) == 1  # sixty seconds without a word are not too long
    assert await harness.fired(MINUTE_MS) == 0
    assert await harness.fired(MINUTE_MS) == 0
    stored = await harness.stored()
    assert stored is not None
    assert stored.due_ms is None

    assert await process.keep() == []
    assert await harness.fired() == 2


async def test_what_was_made_at_run_time_needs_no_process(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()

    assert await harness.fired(30 * DAY_MS) == 1


@pytest.mark.parametrize("forward_ms", [10 * MINUTE_MS, DAY_MS])
async def test_a_clock_put_forward_undoes_no_change_at_run_time(harness: ScheduleHarness, forward_ms: int) -> None:
    """A process that was started before the change is not taken for a later one because the clock went forward."""
    scheduler = harness.scheduler(minutely("code"), age_s=60.0)
    await scheduler.run_once()
    assert await harness.function() == "code"
    await harness.upsert(minutely("by hand"))
    harness.clock.advance(forward_ms)
    for _ in range(2):
        await scheduler.run_once()
        await scheduler.code_schedules.keep(now=True)

    assert await harness.function() == "by hand"


@pytest.mark.parametrize("back_ms", [10 * MINUTE_MS, DAY_MS])
async def test_a_clock_put_back_undoes_no_change_at_run_time(harness: ScheduleHarness, back_ms: int) -> None:
    scheduler = harness.scheduler(minutely("code"), age_s=60.0)
    await scheduler.run_once()
    harness.clock.advance(-back_ms)
    await scheduler.run_once()
    harness.clock.advance(1_000)
    await harness.upsert(minutely("by hand"))
    harness.clock.advance(1_000)
    for _ in range(2):
        await scheduler.run_once()
        await scheduler.code_schedules.keep(now=True)

    assert await harness.function() == "by hand"
