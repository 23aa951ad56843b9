"""Clocks that are put forward and back fire no tick twice and silence no schedule."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from arqestra import every, schedule
from tests.schedule.harness import DAY_MS, HOUR_MS, MINUTE_MS, ScheduleHarness, minutely


async def test_a_clock_put_back_by_hours_does_not_silence_a_schedule(harness: ScheduleHarness) -> None:
    process = harness.process(minutely())
    await process.keep()
    await harness.upsert(schedule(every(60), "api", name="api"))
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    await process.keep()
    assert await harness.fired() == 2

    harness.clock.advance(-5 * HOUR_MS)
    await process.keep()
    assert await harness.fired() == 0
    assert await harness.fired(MINUTE_MS) == 2


async def test_a_clock_put_back_by_hours_frees_a_paused_schedule_only_by_its_resume(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    await harness.store.set("report", "pause")
    harness.clock.advance(-5 * HOUR_MS)
    assert await harness.fired() == 0
    assert await harness.fired(MINUTE_MS) == 0
    await harness.store.set("report", "resume")
    assert await harness.fired(MINUTE_MS) == 1


async def test_a_clock_put_back_by_minutes_doubles_nothing(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    assert await harness.fired(10 * MINUTE_MS) == 10
    harness.clock.advance(-10 * MINUTE_MS)

    assert [await harness.fired(MINUTE_MS) for _ in range(11)] == [0] * 10 + [1]
    ticks = [run.tick for run in await harness.runs()]
    assert len(ticks) == len(set(ticks)) == 11


async def test_a_clock_put_forward_and_back_fires_no_tick_twice(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    assert await harness.fired(30 * MINUTE_MS) == 30
    harness.clock.advance(-29 * MINUTE_MS)
    fired = [await harness.fired(MINUTE_MS) for _ in range(30)]
    assert sum(fired) == 1


async def test_a_clock_put_forward_makes_missed_ticks_of_those_in_between(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()

    assert await harness.fired(3 * DAY_MS + 5_000) == 1
    assert [run.how for run in await harness.runs()] == ["l", "d"]


async def test_a_clock_that_was_wrong_for_a_moment_silences_nothing(harness: ScheduleHarness) -> None:
    """Of the ticks that were jumped over one was fired, too early; the others are fired at their time."""
    await harness.upsert(minutely())
    await harness.turn()
    assert await harness.fired(50 * MINUTE_MS) == 1
    assert await harness.fired(-50 * MINUTE_MS) == 0

    assert [await harness.fired(MINUTE_MS) for _ in range(52)] == [1] * 49 + [0] + [1] * 2


@pytest.mark.parametrize("how", ["resumed", "defined anew"])
async def test_ticks_of_a_wrong_clock_that_were_passed_over_are_due_at_their_time(
    harness: ScheduleHarness, how: str
) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    assert await harness.fired(MINUTE_MS) == 1
    harness.clock.advance(DAY_MS)
    if how == "resumed":
        await harness.store.set("report", "pause")
        await harness.store.set("report", "resume")
    else:
        await harness.upsert(schedule(every(60), "report", start=datetime(2000, 1, 1, tzinfo=UTC)))
    await harness.turn()
    assert await harness.fired(MINUTE_MS) == 1
    assert await harness.fired(-DAY_MS) == 0

    assert sum([await harness.fired(MINUTE_MS) for _ in range(5)]) >= 4
