"""What stays in Redis of schedules that are removed, over or forgotten; and many schedules at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from arqestra import at, every, schedule
from tests.schedule.harness import DAY_MS, KEYS, MINUTE_MS, ScheduleHarness, minutely


async def test_no_key_is_left_a_week_after_a_removal(harness: ScheduleHarness) -> None:
    process = harness.process(minutely(overlap="queue"))
    await process.keep()
    await harness.upsert(schedule(every(60), "api", name="api", overlap="skip"))
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    assert (await harness.turn()).count("fired") == 2
    await harness.finish_jobs()
    for name in ("report", "api"):
        assert await harness.store.set(name, "remove")
    harness.clock.advance(7 * DAY_MS - 1)
    await harness.process().keep()
    assert KEYS.schedule("api") in await harness.keys()
    harness.clock.advance(1)
    await harness.process().keep()

    left = await harness.keys()
    assert left <= {KEYS.schedules_clock(harness.queue), KEYS.schedules_rev}
    assert all([await harness.redis.pttl(key) > 0 for key in left])


async def test_code_that_nobody_runs_is_forgotten_after_a_week(harness: ScheduleHarness) -> None:
    await harness.process(minutely()).keep()
    await harness.turn()
    harness.clock.advance(7 * DAY_MS + 1)
    await harness.process().keep()

    assert await harness.stored() is None
    assert await harness.keys() <= {KEYS.schedules_clock(harness.queue), KEYS.schedules_rev}


async def test_a_single_time_that_is_over_is_forgotten_after_a_week(harness: ScheduleHarness) -> None:
    moment = datetime.fromtimestamp((harness.clock() + MINUTE_MS) / 1000, UTC)
    await harness.upsert(schedule(at(moment), "report"))
    await harness.turn()
    assert await harness.fired(MINUTE_MS) == 1
    await harness.finish_jobs()
    stored = await harness.stored()
    assert stored is not None
    assert stored.due_ms is None
    harness.clock.advance(7 * DAY_MS + 1)
    await harness.process().keep()

    assert await harness.stored() is None
    assert await harness.keys() <= {KEYS.schedules_clock(harness.queue), KEYS.schedules_rev}


async def test_a_schedule_at_run_time_is_never_forgotten(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.upsert(schedule("0 0 1 1 *", "yearly"))
    await harness.turn()
    harness.clock.advance(100 * DAY_MS)
    await harness.process().keep()

    assert await harness.stored() is not None
    assert await harness.stored("yearly") is not None


async def test_many_schedules_of_code_are_said_and_defined_in_pieces(harness: ScheduleHarness) -> None:
    numbers = count()
    process = harness.process(*(schedule("0 0 * * *", "report", name=f"s{next(numbers)}") for _ in range(1_200)))

    assert await process.keep() == ["new"] * 1_200
    assert await process.keep() == []
    assert len(await harness.store.names()) == 1_200
    assert len((await harness.store.fetch_due(0, 1_000)).due) == 1_000
    assert len((await harness.store.fetch_due(0, 1_000, 1_000)).due) == 200


async def test_a_schedule_that_moves_to_another_queue_is_fired_there_alone(harness: ScheduleHarness) -> None:
    other = ScheduleHarness(harness.redis, queue="other", clock=harness.clock)
    await harness.process(minutely()).keep()
    await harness.turn()
    harness.clock.advance(1_000)
    assert await other.process(minutely()).keep() == ["changed"]

    assert [await harness.fired(), await other.fired()] == [0, 0]
    assert [await harness.fired(MINUTE_MS), await other.fired()] == [0, 1]
    assert (await harness.queued(), len(await other.queued())) == ([], 1)
    assert await harness.store.names() == []
    await other.jobs.close()


async def test_one_schedule_that_cannot_be_stored_leaves_the_others_alone(harness: ScheduleHarness) -> None:
    for name in ("a", "b", "c", "d"):
        await harness.upsert(schedule(every(60), "report", name=name))
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    a, b, c, d = sorted(await harness.look())
    bad = b._replace(extra=b"0009not msgpack at all")
    odd = c._replace(queue="a string")
    await harness.redis.set("a string", "x")

    assert await harness.fire([a, bad, odd, d]) == ["fired", "not storable", "not storable", "fired"]
    assert len(await harness.queued()) == 2
    assert {name: await harness.outcomes(name) for name in "abcd"} == {"a": [""], "b": [], "c": [], "d": [""]}
    assert await harness.fire([b, c]) == ["fired", "fired"]  # nothing of them had moved on


@pytest.mark.parametrize("how", ["other end", "other zone", "removed"])
async def test_a_single_time_that_was_fired_is_not_fired_again_by_a_new_definition(
    harness: ScheduleHarness, how: str
) -> None:
    moment = datetime.fromtimestamp((harness.clock() + MINUTE_MS) / 1000, UTC)
    await harness.upsert(schedule(at(moment), "report"))
    await harness.turn()
    assert await harness.fired(MINUTE_MS) == 1
    await harness.finish_jobs()
    harness.clock.advance(1_000)
    if how == "removed":
        await harness.store.set("report", "remove")
        await harness.upsert(schedule(at(moment), "report"))
    elif how == "other zone":
        await harness.upsert(schedule(at(moment), "report", timezone="Asia/Seoul"))
    else:
        await harness.upsert(schedule(at(moment), "report", end=moment + timedelta(hours=1)))

    assert await harness.fired() == 0
    assert await harness.fired(MINUTE_MS) == 0
