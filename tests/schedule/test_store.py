"""The transitions of schedules on a real Redis, by a clock set by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from arqestra import Unique, at, cron, every, job, schedule
from arqestra.scheduling.definition import Schedule, schedule_of_cron
from arqestra.store.schedule_records import NewFiring
from tests.schedule.harness import DAY_MS, HOUR_MS, KEYS, MINUTE_MS, Process, ScheduleHarness
from tests.support.replies import reply_of


def minutely(function: Any = "report", **options: Any) -> Schedule:
    """Every minute; the function is the version of the definition."""
    return schedule(every(60), function, **{"name": "report", **options})


# -- once a tick ------------------------------------------------------------------------------------------------------


async def test_a_tick_is_fired_when_it_is_due_and_not_before(harness: ScheduleHarness) -> None:
    assert await harness.upsert(minutely()) == "new"

    assert await harness.fired() == 0
    assert await harness.fired(MINUTE_MS - 1) == 0
    assert await harness.fired(1) == 1
    assert await harness.fired() == 0
    assert await harness.fired(MINUTE_MS) == 1
    assert [run.how for run in await harness.runs()] == ["t", "t"]
    assert len(await harness.queued()) == 2


async def test_of_two_schedulers_that_saw_the_same_one_fires(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    one, other = await harness.look(), await harness.look()

    assert await harness.fire(one) == ["fired"]
    assert await harness.fire(other) == ["changed"]
    assert await harness.queued() == [one[0].job_id]


async def test_a_call_that_is_sent_again_fires_nothing_more(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    harness.clock.advance(3 * MINUTE_MS)
    seen = await harness.look()

    assert await harness.fire(seen) == ["fired"] * 3
    assert await harness.fire(seen) == ["changed"] * 3
    assert await harness.queued() == [step.job_id for step in seen]
    assert len(await harness.runs()) == 3


async def test_who_is_before_the_time_fires_nothing(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    harness.clock.advance(MINUTE_MS - 300)
    seen = await harness.look(ahead_ms=400)

    assert [step.note for step in seen] == ["t"]
    assert await harness.fire(seen) == ["early"]
    harness.clock.advance(300)
    assert await harness.fire(seen) == ["fired"]


async def test_what_was_changed_since_the_look_is_not_fired(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    seen = await harness.look()
    await harness.upsert(minutely("other"))

    assert await harness.fire(seen) == ["changed"]
    assert await harness.queued() == []
    assert await harness.fired() == 1  # the tick itself is not lost


@pytest.mark.parametrize("what", ["pause", "remove"])
async def test_what_was_paused_or_removed_since_the_look_is_not_fired(harness: ScheduleHarness, what: Any) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    seen = await harness.look()
    assert await harness.store.set("report", what)

    assert await harness.fire(seen) == ["changed"]
    assert await harness.fired(MINUTE_MS) == 0


async def test_a_tick_is_not_fired_again_when_its_result_is_gone(harness: ScheduleHarness) -> None:
    await harness.upsert(schedule_of_cron(cron(tidy, second=0, microsecond=0), "report"))
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    seen = await harness.look()
    assert await harness.fire(seen) == ["fired"]
    assert await harness.finish_jobs() == 1
    assert not {KEYS.job(seen[0].job_id), KEYS.result(seen[0].job_id)} & await harness.keys()

    assert await harness.fire(seen) == ["changed"]
    assert await harness.fired() == 0


async def tidy(ctx: Any) -> None: ...


async def test_a_tick_that_a_stock_worker_has_enqueued_is_not_doubled(harness: ScheduleHarness) -> None:
    made = schedule_of_cron(cron(tidy, second=0, microsecond=0), "report")
    await harness.upsert(made)
    await harness.turn()
    harness.clock.advance(MINUTE_MS)
    stock_id = f"{tidy.__qualname__}"
    stock_id = f"cron:{stock_id}:{harness.clock()}"
    await harness.redis.psetex(KEYS.job(stock_id), DAY_MS, b"payload")
    await harness.redis.zadd(harness.queue, {stock_id: harness.clock()})

    assert await harness.turn() == ["refused"]
    assert await harness.redis.get(KEYS.job(stock_id)) == b"payload"
    assert await harness.queued() == [stock_id]
    assert await harness.outcomes() == ["r"]
    assert await harness.fired(MINUTE_MS) == 1  # the next tick is nobody's


@pytest.mark.parametrize("seed", range(3))
async def test_any_number_of_schedulers_fire_each_tick_once(harness: ScheduleHarness, seed: int) -> None:
    """Each stops somewhere between look and fire, and comes back with what it saw."""
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    stopped: list[list[Any]] = []
    fired = 0
    for turn in range(60):
        harness.clock.advance((17_000, 43_000, 1_000, 75_000)[(turn * 7 + seed) % 4])
        stopped.append(await harness.look(ahead_ms=400))
        if (turn + seed) % 3 == 0:
            waiting, stopped = stopped[::-1] if seed % 2 else stopped, []
            for seen in waiting:
                fired += (await harness.fire(seen)).count("fired")
    fired += await harness.fired()

    minutes = (harness.clock() - harness.clock() % MINUTE_MS - (await harness.runs())[-1].tick) // MINUTE_MS
    assert fired == len(await harness.queued())
    assert minutes == 19  # twenty runs are kept, one for each minute
    assert fired == await ticks_since_start(harness)


async def ticks_since_start(harness: ScheduleHarness) -> int:
    changed = int(await reply_of(harness.redis.hget(KEYS.schedule("report"), "changed")))
    return (harness.clock() - changed) // MINUTE_MS


# -- what a look says -------------------------------------------------------------------------------------------------


async def test_a_look_says_when_the_next_tick_is_and_leaves_out_what_is_not_due(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.upsert(schedule("0 * * * *", "hourly"))
    await harness.turn()
    harness.clock.advance(1_000)

    look = await harness.store.fetch_due(400, 1000)
    assert (look.now_ms, look.next_in_ms, look.due) == (harness.clock(), 59_000, [])
    look = await harness.store.fetch_due(MINUTE_MS, 1000)
    assert ([each.name for each in look.due], look.next_in_ms) == (["report"], HOUR_MS - 1_000)
    look = await harness.store.fetch_due(2 * HOUR_MS, 1000)
    assert ([each.name for each in look.due], look.next_in_ms) == (["report", "hourly"], None)
    look = await harness.store.fetch_due(2 * HOUR_MS, 1, 1)
    assert [each.name for each in look.due] == ["hourly"]


async def test_a_look_forgets_what_has_no_record(harness: ScheduleHarness) -> None:
    await harness.redis.zadd(KEYS.schedules(harness.queue), {"ghost": 0})

    assert (await harness.store.fetch_due(0, 10)).due == []
    assert await harness.redis.exists(KEYS.schedules(harness.queue)) == 0


# -- missed ticks -----------------------------------------------------------------------------------------------------


async def test_dropped_ticks_are_noted(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(grace="30s"))
    await harness.turn()
    harness.clock.advance(10 * MINUTE_MS + 45_000)

    assert await harness.turn() == ["done"]
    (run,) = await harness.runs()
    assert (run.how, run.outcome, run.job_id, run.tick) == ("d", "d", "", harness.clock() - 45_000)
    assert await harness.fired(15_000) == 1


async def test_a_late_tick_is_noted_as_late(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    assert await harness.fired(MINUTE_MS + 5_000) == 1

    (run,) = await harness.runs()
    assert (run.how, run.fired_ms - run.due_ms, run.due_ms) == ("l", 5_000, run.tick)


async def test_ticks_of_a_pause_are_not_made_up_for(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    assert await harness.store.set("report", "pause") is True
    assert await harness.store.set("report", "pause") is False
    assert await harness.fired(10 * MINUTE_MS) == 0
    assert await harness.store.set("report", "resume") is True
    assert await harness.store.set("report", "resume") is False

    assert await harness.fired() == 0
    assert await harness.fired(MINUTE_MS) == 1


@pytest.mark.parametrize("what", ["pause", "resume", "remove"])
async def test_what_is_not_there_cannot_be_changed(harness: ScheduleHarness, what: Any) -> None:
    assert await harness.store.set("nobody", what) is None
    assert await harness.keys() == set()


async def test_a_pause_survives_a_new_definition(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.store.set("report", "pause")
    assert await harness.upsert(minutely("other")) == "changed"
    process = harness.process(minutely("third"))
    harness.clock.advance(1_000)
    await harness.upsert(minutely("other"))
    later = harness.process(minutely("third"), born_ms=harness.clock() + 1)
    assert (await process.keep(), await later.keep()) == ([], ["changed"])

    assert await harness.fired(MINUTE_MS) == 0
    await harness.store.set("report", "resume")
    await later.keep()
    assert await harness.fired(MINUTE_MS) == 1
    assert await harness.function() == "third"


# -- definitions ------------------------------------------------------------------------------------------------------


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


# -- code and run time ------------------------------------------------------------------------------------------------


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


# -- clocks -----------------------------------------------------------------------------------------------------------


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


# -- overlap ----------------------------------------------------------------------------------------------------------


async def test_a_tick_is_skipped_while_an_earlier_job_has_not_ended(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(overlap="skip"))
    await harness.turn()
    assert await harness.fired(MINUTE_MS) == 1
    (claimed,) = (await harness.worker().claim()).jobs
    harness.clock.advance(MINUTE_MS)
    assert await harness.turn() == ["overlap"]
    assert await harness.outcomes() == ["s", ""]

    assert await harness.worker().finish(claimed, ttl_ms=-1)
    assert await harness.fired(MINUTE_MS) == 1
    assert await harness.outcomes() == ["", "s", "c"]


async def test_a_job_that_runs_for_longer_than_the_history_goes_back_still_counts(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(overlap="skip"))
    await harness.turn()
    assert await harness.fired(MINUTE_MS) == 1
    (claimed,) = (await harness.worker().claim()).jobs
    for _ in range(45):
        harness.clock.advance(MINUTE_MS)
        assert await harness.turn() == ["overlap"]
    assert len(await harness.runs()) == 20

    assert await harness.worker().finish(claimed, ttl_ms=-1)
    assert (await harness.runs())[-1].outcome == "c"
    assert await harness.fired(MINUTE_MS) == 1
    assert len(await harness.runs()) == 20


async def test_a_run_by_hand_counts_as_an_earlier_job(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(overlap="skip"))
    await harness.turn()
    assert await harness.run_by_hand("report", "mine") == "fired"
    harness.clock.advance(MINUTE_MS)
    assert await harness.turn() == ["overlap"]
    await harness.finish_jobs()

    assert await harness.fired(MINUTE_MS) == 1


async def test_a_waiting_retry_counts_as_an_earlier_job(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(overlap="skip"))
    await harness.turn()
    assert await harness.fired(MINUTE_MS) == 1
    worker = harness.worker()
    assert await worker.finish(await worker.claim_one(), "retry", 10 * MINUTE_MS)
    harness.clock.advance(MINUTE_MS)

    assert await harness.turn() == ["overlap"]


async def test_queued_runs_start_one_after_the_other(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(overlap="queue", missed="all"))
    await harness.turn()
    assert await harness.fired(3 * MINUTE_MS) == 3
    worker = harness.worker()
    started = []
    for _ in range(3):
        claimed = (await worker.claim(10)).jobs
        assert len(claimed) == 1
        assert (await harness.worker("w2").claim(10)).jobs == []
        started.append(claimed[0].id)
        assert await worker.finish(claimed[0], ttl_ms=-1)

    assert started == [run.job_id for run in reversed(await harness.runs())]


async def test_allowed_runs_are_side_by_side(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    assert await harness.fired(3 * MINUTE_MS) == 3

    assert len((await harness.worker().claim(10)).jobs) == 3


# -- runs by hand -----------------------------------------------------------------------------------------------------


async def test_a_run_by_hand_moves_no_tick(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    before = await harness.stored()
    harness.clock.advance(5_000)

    assert await harness.run_by_hand("report", "mine") == "fired"
    assert await harness.stored() == before
    assert [(run.how, run.job_id) for run in await harness.runs()] == [("n", "mine")]
    assert await harness.fired(55_000) == 1


async def test_a_run_by_hand_that_is_sent_again_is_one_run(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    assert await harness.run_by_hand("report", "mine") == "fired"
    assert await harness.run_by_hand("report", "mine") == "refused"

    assert await harness.queued() == ["mine"]
    assert len(await harness.runs()) == 1


# -- history ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "outcome"), [("end", "c"), ("fail", "f"), ("dead", "f"), ("abort", "a"), ("expire", "x")]
)
async def test_the_end_of_a_job_is_noted(harness: ScheduleHarness, kind: Any, outcome: str) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    await harness.fired(MINUTE_MS)
    (queued,) = await harness.runs()
    assert (queued.outcome, queued.state, queued.ended_ms) == ("", "queued", None)
    claimed = await harness.worker().claim_one()
    assert (await harness.runs())[0].state == "running"
    harness.clock.advance(2_500)
    assert await harness.worker().finish(claimed, kind, ttl_ms=-1)

    (ended,) = await harness.runs()
    assert (ended.outcome, ended.ended_ms, ended.job_id) == (outcome, harness.clock(), claimed.id)
    assert ended.fired_ms == harness.clock() - 2_500


async def test_a_job_that_is_deleted_is_noted_as_aborted(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    await harness.fired(MINUTE_MS)
    (job_id,) = await harness.queued()
    assert await harness.jobs.delete(job_id, harness.queue) == "deleted"

    assert await harness.outcomes() == ["a"]


async def test_a_job_that_is_purged_is_noted_as_aborted(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    await harness.fired(MINUTE_MS)
    assert await harness.jobs.purge(harness.queue) == 1

    assert await harness.outcomes() == ["a"]


async def test_a_retry_is_no_end(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    await harness.fired(MINUTE_MS)
    worker = harness.worker()
    assert await worker.finish(await worker.claim_one(), "retry", 10)
    assert await harness.outcomes() == [""]
    harness.clock.advance(10)
    assert await worker.finish(await worker.claim_one(), "end", ttl_ms=-1)
    assert await harness.outcomes() == ["c"]


async def test_only_the_latest_twenty_runs_are_kept(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    for _ in range(50):
        assert await harness.fired(MINUTE_MS) == 1
        await harness.finish_jobs()

    runs = await harness.runs()
    assert [run.tick for run in runs] == [harness.clock() - i * MINUTE_MS for i in range(20)]
    assert {run.outcome for run in runs} == {"c"}
    assert await reply_of(harness.redis.hlen(KEYS.schedule_runs("report"))) == 20


async def test_the_end_of_a_run_that_is_no_longer_kept_is_noted_nowhere_else(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    await harness.fired(MINUTE_MS)
    first = await harness.worker().claim_one()
    for _ in range(25):
        await harness.fired(MINUTE_MS)
    assert await harness.worker().finish(first, "fail", ttl_ms=-1)

    assert len(await harness.runs()) == 20
    assert [run.job_id for run in await harness.runs() if run.outcome] in ([], [first.id])


@pytest.mark.parametrize("name", ["pipe|d", "with space", "ünï", "%d", "a:b*c", "x" * 200])
async def test_a_name_may_have_any_characters(harness: ScheduleHarness, name: str) -> None:
    await harness.upsert(minutely(name=name))
    await harness.turn()
    assert await harness.fired(MINUTE_MS) == 1
    await harness.finish_jobs()

    assert [(run.how, run.outcome) for run in await harness.runs(name)] == [("t", "c")]


# -- locks of the function --------------------------------------------------------------------------------------------


@job(unique=True)
async def alone(ctx: Any) -> None: ...


@job(unique=Unique(on_conflict="return"))
async def stand_in(ctx: Any) -> None: ...


async def test_a_tick_whose_lock_is_held_is_refused(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(alone))
    await harness.turn()
    assert await harness.fired(MINUTE_MS) == 1
    harness.clock.advance(MINUTE_MS)
    assert await harness.turn() == ["refused"]
    assert await harness.outcomes() == ["r", ""]
    await harness.finish_jobs()

    assert await harness.fired(MINUTE_MS) == 1


async def test_a_tick_for_which_another_job_stands_is_noted_with_that_job(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(stand_in))
    await harness.turn()
    await harness.fired(MINUTE_MS)
    await harness.fired(MINUTE_MS)
    (job_id,) = await harness.queued()

    assert [run.job_id for run in await harness.runs()] == [job_id, job_id]
    await harness.finish_jobs()
    assert await harness.outcomes() == ["c", "c"]


# -- nothing is left --------------------------------------------------------------------------------------------------


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


async def test_what_a_stock_worker_left_of_a_job_goes_with_its_place_among_the_runs(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    for _ in range(25):
        assert await harness.fired(MINUTE_MS) == 1
        (job_id,) = await harness.queued()
        await harness.redis.delete(KEYS.job(job_id))  # as a stock worker ends a job
        await harness.redis.zrem(harness.queue, job_id)

    assert await reply_of(harness.redis.hlen(KEYS.specs(harness.queue))) <= 20


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


async def test_a_problem_is_told_until_the_schedule_is_fired(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely())
    await harness.turn()
    harness.clock.advance(5 * MINUTE_MS)  # ticks are missed: the first step drops them
    dropped, tick = await harness.look()
    stored = await harness.stored()
    assert stored is not None
    assert await harness.fire([dropped]) == ["done"]
    note = NewFiring("report", 0, stored.rev, 0, 0, None, "!", "", 0, payload=b"no")
    assert await harness.fire([note]) == ["done"]
    stored = await harness.stored()
    assert stored is not None
    assert stored.problem == "no"
    assert await harness.fire([tick]) == ["fired"]
    stored = await harness.stored()
    assert stored is not None
    assert stored.problem == ""
