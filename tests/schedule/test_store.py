"""The transitions of schedules on a real Redis, by a clock set by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from arqestra import Unique, at, cron, every, job, schedule
from arqestra.scheduling.definition import Schedule, schedule_of_cron
from arqestra.store.schedules import NewFiring
from tests.schedule.harness import DAY_MS, HOUR_MS, KEYS, MINUTE_MS, Process, Stage
from tests.support.replies import reply_of


def minutely(function: Any = "report", **options: Any) -> Schedule:
    """Every minute; the function is the version of the definition."""
    return schedule(every(60), function, **{"name": "report", **options})


# -- once a tick ------------------------------------------------------------------------------------------------------


async def test_a_tick_is_fired_when_it_is_due_and_not_before(stage: Stage) -> None:
    assert await stage.upsert(minutely()) == "new"

    assert await stage.fired() == 0
    assert await stage.fired(MINUTE_MS - 1) == 0
    assert await stage.fired(1) == 1
    assert await stage.fired() == 0
    assert await stage.fired(MINUTE_MS) == 1
    assert [run.how for run in await stage.runs()] == ["t", "t"]
    assert len(await stage.queued()) == 2


async def test_of_two_schedulers_that_saw_the_same_one_fires(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    stage.clock.advance(MINUTE_MS)
    one, other = await stage.look(), await stage.look()

    assert await stage.fire(one) == ["fired"]
    assert await stage.fire(other) == ["changed"]
    assert await stage.queued() == [one[0].job_id]


async def test_a_call_that_is_sent_again_fires_nothing_more(stage: Stage) -> None:
    await stage.upsert(minutely(missed="all"))
    await stage.turn()
    stage.clock.advance(3 * MINUTE_MS)
    seen = await stage.look()

    assert await stage.fire(seen) == ["fired"] * 3
    assert await stage.fire(seen) == ["changed"] * 3
    assert await stage.queued() == [step.job_id for step in seen]
    assert len(await stage.runs()) == 3


async def test_who_is_before_the_time_fires_nothing(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    stage.clock.advance(MINUTE_MS - 300)
    seen = await stage.look(ahead_ms=400)

    assert [step.note for step in seen] == ["t"]
    assert await stage.fire(seen) == ["early"]
    stage.clock.advance(300)
    assert await stage.fire(seen) == ["fired"]


async def test_what_was_changed_since_the_look_is_not_fired(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    stage.clock.advance(MINUTE_MS)
    seen = await stage.look()
    await stage.upsert(minutely("other"))

    assert await stage.fire(seen) == ["changed"]
    assert await stage.queued() == []
    assert await stage.fired() == 1  # the tick itself is not lost


@pytest.mark.parametrize("what", ["pause", "remove"])
async def test_what_was_paused_or_removed_since_the_look_is_not_fired(stage: Stage, what: Any) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    stage.clock.advance(MINUTE_MS)
    seen = await stage.look()
    assert await stage.store.set("report", what)

    assert await stage.fire(seen) == ["changed"]
    assert await stage.fired(MINUTE_MS) == 0


async def test_a_tick_is_not_fired_again_when_its_result_is_gone(stage: Stage) -> None:
    await stage.upsert(schedule_of_cron(cron(tidy, second=0, microsecond=0), "report"))
    await stage.turn()
    stage.clock.advance(MINUTE_MS)
    seen = await stage.look()
    assert await stage.fire(seen) == ["fired"]
    assert await stage.finish_jobs() == 1
    assert not {KEYS.job(seen[0].job_id), KEYS.result(seen[0].job_id)} & await stage.keys()

    assert await stage.fire(seen) == ["changed"]
    assert await stage.fired() == 0


async def tidy(ctx: Any) -> None: ...


async def test_a_tick_that_a_stock_worker_has_enqueued_is_not_doubled(stage: Stage) -> None:
    made = schedule_of_cron(cron(tidy, second=0, microsecond=0), "report")
    await stage.upsert(made)
    await stage.turn()
    stage.clock.advance(MINUTE_MS)
    stock_id = f"{tidy.__qualname__}"
    stock_id = f"cron:{stock_id}:{stage.clock()}"
    await stage.redis.psetex(KEYS.job(stock_id), DAY_MS, b"payload")
    await stage.redis.zadd(stage.queue, {stock_id: stage.clock()})

    assert await stage.turn() == ["refused"]
    assert await stage.redis.get(KEYS.job(stock_id)) == b"payload"
    assert await stage.queued() == [stock_id]
    assert await stage.outcomes() == ["r"]
    assert await stage.fired(MINUTE_MS) == 1  # the next tick is nobody's


@pytest.mark.parametrize("seed", range(3))
async def test_any_number_of_schedulers_fire_each_tick_once(stage: Stage, seed: int) -> None:
    """Each stops somewhere between look and fire, and comes back with what it saw."""
    await stage.upsert(minutely(missed="all"))
    await stage.turn()
    stopped: list[list[Any]] = []
    fired = 0
    for turn in range(60):
        stage.clock.advance((17_000, 43_000, 1_000, 75_000)[(turn * 7 + seed) % 4])
        stopped.append(await stage.look(ahead_ms=400))
        if (turn + seed) % 3 == 0:
            waiting, stopped = stopped[::-1] if seed % 2 else stopped, []
            for seen in waiting:
                fired += (await stage.fire(seen)).count("fired")
    fired += await stage.fired()

    minutes = (stage.clock() - stage.clock() % MINUTE_MS - (await stage.runs())[-1].tick) // MINUTE_MS
    assert fired == len(await stage.queued())
    assert minutes == 19  # twenty runs are kept, one for each minute
    assert fired == await ticks_since_start(stage)


async def ticks_since_start(stage: Stage) -> int:
    changed = int(await reply_of(stage.redis.hget(KEYS.schedule("report"), "changed")))
    return (stage.clock() - changed) // MINUTE_MS


# -- what a look says -------------------------------------------------------------------------------------------------


async def test_a_look_says_when_the_next_tick_is_and_leaves_out_what_is_not_due(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.upsert(schedule("0 * * * *", "hourly"))
    await stage.turn()
    stage.clock.advance(1_000)

    look = await stage.store.look(400, 1000)
    assert (look.now_ms, look.next_in_ms, look.due) == (stage.clock(), 59_000, [])
    look = await stage.store.look(MINUTE_MS, 1000)
    assert ([each.name for each in look.due], look.next_in_ms) == (["report"], HOUR_MS - 1_000)
    look = await stage.store.look(2 * HOUR_MS, 1000)
    assert ([each.name for each in look.due], look.next_in_ms) == (["report", "hourly"], None)
    look = await stage.store.look(2 * HOUR_MS, 1, 1)
    assert [each.name for each in look.due] == ["hourly"]


async def test_a_look_forgets_what_has_no_record(stage: Stage) -> None:
    await stage.redis.zadd(KEYS.schedules(stage.queue), {"ghost": 0})

    assert (await stage.store.look(0, 10)).due == []
    assert await stage.redis.exists(KEYS.schedules(stage.queue)) == 0


# -- missed ticks -----------------------------------------------------------------------------------------------------


async def test_dropped_ticks_are_noted(stage: Stage) -> None:
    await stage.upsert(minutely(grace="30s"))
    await stage.turn()
    stage.clock.advance(10 * MINUTE_MS + 45_000)

    assert await stage.turn() == ["done"]
    (run,) = await stage.runs()
    assert (run.how, run.outcome, run.job_id, run.tick) == ("d", "d", "", stage.clock() - 45_000)
    assert await stage.fired(15_000) == 1


async def test_a_late_tick_is_noted_as_late(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    assert await stage.fired(MINUTE_MS + 5_000) == 1

    (run,) = await stage.runs()
    assert (run.how, run.fired_ms - run.due_ms, run.due_ms) == ("l", 5_000, run.tick)


async def test_ticks_of_a_pause_are_not_made_up_for(stage: Stage) -> None:
    await stage.upsert(minutely(missed="all"))
    await stage.turn()
    assert await stage.store.set("report", "pause") is True
    assert await stage.store.set("report", "pause") is False
    assert await stage.fired(10 * MINUTE_MS) == 0
    assert await stage.store.set("report", "resume") is True
    assert await stage.store.set("report", "resume") is False

    assert await stage.fired() == 0
    assert await stage.fired(MINUTE_MS) == 1


@pytest.mark.parametrize("what", ["pause", "resume", "remove"])
async def test_what_is_not_there_cannot_be_changed(stage: Stage, what: Any) -> None:
    assert await stage.store.set("nobody", what) is None
    assert await stage.keys() == set()


async def test_a_pause_survives_a_new_definition(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.store.set("report", "pause")
    assert await stage.upsert(minutely("other")) == "changed"
    process = stage.process(minutely("third"))
    stage.clock.advance(1_000)
    await stage.upsert(minutely("other"))
    later = stage.process(minutely("third"), born_ms=stage.clock() + 1)
    assert (await process.keep(), await later.keep()) == ([], ["changed"])

    assert await stage.fired(MINUTE_MS) == 0
    await stage.store.set("report", "resume")
    await later.keep()
    assert await stage.fired(MINUTE_MS) == 1
    assert await stage.function() == "third"


# -- definitions ------------------------------------------------------------------------------------------------------


async def test_the_same_definition_changes_nothing(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    before = await stage.stored()

    assert await stage.upsert(minutely()) == "same"
    assert await stage.stored() == before


async def test_other_arguments_keep_the_mark_and_other_times_begin_at_the_present(stage: Stage) -> None:
    await stage.upsert(minutely(missed="all"))
    await stage.turn()
    stage.clock.advance(2 * MINUTE_MS)
    await stage.upsert(minutely("other", missed="all"))
    assert await stage.fired() == 2  # missed ones are made up for, by the new definition

    stage.clock.advance(5 * MINUTE_MS)
    await stage.upsert(schedule(every(30), "other", name="report", missed="all"))
    assert await stage.fired() == 0
    assert await stage.fired(30_000) == 1


async def test_a_single_time_that_has_passed_is_judged_by_its_policy(stage: Stage) -> None:
    now = datetime.fromtimestamp(stage.clock() / 1000, UTC)
    past = {name: at(now.replace(year=now.year - year)) for name, year in (("old", 1), ("older", 2))}
    await stage.upsert(schedule(past["old"], "report", name="old"))
    await stage.upsert(schedule(past["older"], "report", name="older", missed="last"))
    await stage.upsert(schedule(at(now), "report", name="present"))

    assert sorted(await stage.turn()) == ["done", "fired", "fired"]
    assert [run.how for name in ("old", "older", "present") for run in await stage.runs(name)] == ["d", "l", "t"]
    assert await stage.fired(HOUR_MS) == 0


async def test_a_single_time_is_not_fired_again_by_a_deploy(stage: Stage) -> None:
    moment = at(datetime.fromtimestamp((stage.clock() + MINUTE_MS) / 1000, UTC))
    process = stage.process(schedule(moment, "report"))
    await process.keep()
    await stage.turn()
    assert await stage.fired(MINUTE_MS) == 1

    assert await stage.process(schedule(moment, "report")).keep() == []
    stage.clock.advance(10)
    assert await stage.process(schedule(moment, "report", args=["other"])).keep() == ["changed"]
    assert await stage.fired() == 0


# -- code and run time ------------------------------------------------------------------------------------------------


@pytest.fixture
async def processes(stage: Stage) -> tuple[Process, Process, Process]:
    """Three versions of the code, started ten seconds one after the other; none has said anything yet."""
    born_ms = stage.clock()
    stage.clock.advance(MINUTE_MS)
    made = [stage.process(minutely(name), born_ms=born_ms + i * 10_000) for i, name in enumerate(("v1", "v2", "v3"))]
    return made[0], made[1], made[2]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["older first", "newer first"])
async def test_of_two_versions_of_the_code_the_later_started_wins(
    stage: Stage, processes: tuple[Process, ...], order: tuple[int, int]
) -> None:
    for _ in range(3):
        for number in order:
            await processes[number].keep()
            stage.clock.advance(15_000)
    assert await stage.function() == "v2"
    assert await processes[0].keep() == []


async def test_the_older_version_comes_back_when_the_newer_is_gone_for_a_minute(
    stage: Stage, processes: tuple[Process, ...]
) -> None:
    await processes[1].keep()
    for _ in range(3):
        stage.clock.advance(15_000)
        assert await processes[0].keep() == []
    stage.clock.advance(15_000)
    assert await processes[0].keep() == ["changed"]
    assert await stage.function() == "v1"
    assert await processes[1].keep() == ["changed"]  # if it was only away, it is still the newer


async def test_a_process_of_the_same_code_keeps_it_alive(stage: Stage, processes: tuple[Process, ...]) -> None:
    twin = stage.process(minutely("v2"), born_ms=processes[1].born_ms + 5_000)
    await processes[1].keep()
    for _ in range(6):
        stage.clock.advance(15_000)
        assert await twin.keep() == []
        assert await processes[0].keep() == []
    assert await stage.function() == "v2"


@pytest.mark.parametrize("speaks_again", [False, True])
async def test_what_is_changed_at_run_time_stays_until_a_process_starts(
    stage: Stage, processes: tuple[Process, ...], speaks_again: bool
) -> None:
    for process in processes:
        await process.keep()
    assert await stage.upsert(minutely("by hand")) == "changed"
    stage.clock.advance(2 * MINUTE_MS)
    for process in processes:
        assert await process.keep() == []
    assert await stage.function() == "by hand"
    if speaks_again:
        stage.clock.advance(DAY_MS)
        assert [await process.keep() for process in processes] == [[], [], []]

    later = stage.process(minutely("v1"))
    stage.clock.advance(1_000)
    assert await later.keep() == ["changed"]
    assert await stage.function() == "v1"
    assert [await process.keep() for process in processes] == [[], [], []]


async def test_code_that_starts_while_the_change_is_made_does_not_undo_it(stage: Stage) -> None:
    starting = stage.process(minutely("code"))
    stage.clock.advance(5)
    await stage.upsert(minutely("by hand"))
    stage.clock.advance(1_000)

    assert await starting.keep() == []
    assert await stage.function() == "by hand"


async def test_what_is_defined_at_run_time_is_not_the_codes_even_if_it_is_the_same(stage: Stage) -> None:
    await stage.process(minutely()).keep()
    assert await stage.upsert(minutely()) == "changed"
    assert await stage.upsert(minutely()) == "same"

    stored = await stage.stored()
    assert stored is not None
    assert stored.source == "api"


async def test_what_is_removed_stays_removed_until_a_process_starts(
    stage: Stage, processes: tuple[Process, ...]
) -> None:
    await processes[0].keep()
    assert await stage.store.set("report", "remove") is True
    assert await stage.store.set("report", "remove") is None
    for _ in range(20):
        stage.clock.advance(DAY_MS // 2)
        assert [await process.keep() for process in processes] == [[], [], []]
        assert await stage.turn() == []
    assert await stage.stored() is None

    later = stage.process(minutely("v4"))
    stage.clock.advance(1_000)
    assert await later.keep() == ["new"]
    assert await stage.function() == "v4"
    assert await stage.fired() == 0
    assert await stage.fired(MINUTE_MS) == 1


async def test_what_was_removed_can_be_defined_at_run_time_at_once(stage: Stage) -> None:
    await stage.process(minutely()).keep()
    await stage.store.set("report", "remove")
    stage.clock.advance(10 * MINUTE_MS)

    assert await stage.upsert(minutely(missed="all")) == "new"
    assert await stage.fired() == 0  # nothing is made up for
    assert await stage.fired(MINUTE_MS) == 1


async def test_what_no_process_defines_any_more_is_not_fired_and_comes_back_when_one_does(stage: Stage) -> None:
    process = stage.process(minutely(missed="all"))
    await process.keep()
    await stage.turn()
    assert await stage.fired(MINUTE_MS) == 1  # sixty seconds without a word are not too long
    assert await stage.fired(MINUTE_MS) == 0
    assert await stage.fired(MINUTE_MS) == 0
    stored = await stage.stored()
    assert stored is not None
    assert stored.due_ms is None

    assert await process.keep() == []
    assert await stage.fired() == 2


async def test_what_was_made_at_run_time_needs_no_process(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()

    assert await stage.fired(30 * DAY_MS) == 1


@pytest.mark.parametrize("forward_ms", [10 * MINUTE_MS, DAY_MS])
async def test_a_clock_put_forward_undoes_no_change_at_run_time(stage: Stage, forward_ms: int) -> None:
    """A process that was started before the change is not taken for a later one because the clock went forward."""
    scheduler = stage.scheduler(minutely("code"), age_s=60.0)
    await scheduler.run_once()
    assert await stage.function() == "code"
    await stage.upsert(minutely("by hand"))
    stage.clock.advance(forward_ms)
    for _ in range(2):
        await scheduler.run_once()
        await scheduler.coded.keep(now=True)

    assert await stage.function() == "by hand"


@pytest.mark.parametrize("back_ms", [10 * MINUTE_MS, DAY_MS])
async def test_a_clock_put_back_undoes_no_change_at_run_time(stage: Stage, back_ms: int) -> None:
    scheduler = stage.scheduler(minutely("code"), age_s=60.0)
    await scheduler.run_once()
    stage.clock.advance(-back_ms)
    await scheduler.run_once()
    stage.clock.advance(1_000)
    await stage.upsert(minutely("by hand"))
    stage.clock.advance(1_000)
    for _ in range(2):
        await scheduler.run_once()
        await scheduler.coded.keep(now=True)

    assert await stage.function() == "by hand"


# -- clocks -----------------------------------------------------------------------------------------------------------


async def test_a_clock_put_back_by_hours_does_not_silence_a_schedule(stage: Stage) -> None:
    process = stage.process(minutely())
    await process.keep()
    await stage.upsert(schedule(every(60), "api", name="api"))
    await stage.turn()
    stage.clock.advance(MINUTE_MS)
    await process.keep()
    assert await stage.fired() == 2

    stage.clock.advance(-5 * HOUR_MS)
    await process.keep()
    assert await stage.fired() == 0
    assert await stage.fired(MINUTE_MS) == 2


async def test_a_clock_put_back_by_hours_frees_a_paused_schedule_only_by_its_resume(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    await stage.store.set("report", "pause")
    stage.clock.advance(-5 * HOUR_MS)
    assert await stage.fired() == 0
    assert await stage.fired(MINUTE_MS) == 0
    await stage.store.set("report", "resume")
    assert await stage.fired(MINUTE_MS) == 1


async def test_a_clock_put_back_by_minutes_doubles_nothing(stage: Stage) -> None:
    await stage.upsert(minutely(missed="all"))
    await stage.turn()
    assert await stage.fired(10 * MINUTE_MS) == 10
    stage.clock.advance(-10 * MINUTE_MS)

    assert [await stage.fired(MINUTE_MS) for _ in range(11)] == [0] * 10 + [1]
    ticks = [run.tick for run in await stage.runs()]
    assert len(ticks) == len(set(ticks)) == 11


async def test_a_clock_put_forward_and_back_fires_no_tick_twice(stage: Stage) -> None:
    await stage.upsert(minutely(missed="all"))
    await stage.turn()
    assert await stage.fired(30 * MINUTE_MS) == 30
    stage.clock.advance(-29 * MINUTE_MS)
    fired = [await stage.fired(MINUTE_MS) for _ in range(30)]
    assert sum(fired) == 1


async def test_a_clock_put_forward_makes_missed_ticks_of_those_in_between(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()

    assert await stage.fired(3 * DAY_MS + 5_000) == 1
    assert [run.how for run in await stage.runs()] == ["l", "d"]


# -- overlap ----------------------------------------------------------------------------------------------------------


async def test_a_tick_is_skipped_while_an_earlier_job_has_not_ended(stage: Stage) -> None:
    await stage.upsert(minutely(overlap="skip"))
    await stage.turn()
    assert await stage.fired(MINUTE_MS) == 1
    (claimed,) = (await stage.worker().claim()).jobs
    stage.clock.advance(MINUTE_MS)
    assert await stage.turn() == ["overlap"]
    assert await stage.outcomes() == ["s", ""]

    assert await stage.worker().finish(claimed, ttl_ms=-1)
    assert await stage.fired(MINUTE_MS) == 1
    assert await stage.outcomes() == ["", "s", "c"]


async def test_a_job_that_runs_for_longer_than_the_history_goes_back_still_counts(stage: Stage) -> None:
    await stage.upsert(minutely(overlap="skip"))
    await stage.turn()
    assert await stage.fired(MINUTE_MS) == 1
    (claimed,) = (await stage.worker().claim()).jobs
    for _ in range(45):
        stage.clock.advance(MINUTE_MS)
        assert await stage.turn() == ["overlap"]
    assert len(await stage.runs()) == 20

    assert await stage.worker().finish(claimed, ttl_ms=-1)
    assert (await stage.runs())[-1].outcome == "c"
    assert await stage.fired(MINUTE_MS) == 1
    assert len(await stage.runs()) == 20


async def test_a_run_by_hand_counts_as_an_earlier_job(stage: Stage) -> None:
    await stage.upsert(minutely(overlap="skip"))
    await stage.turn()
    assert await stage.run_by_hand("report", "mine") == "fired"
    stage.clock.advance(MINUTE_MS)
    assert await stage.turn() == ["overlap"]
    await stage.finish_jobs()

    assert await stage.fired(MINUTE_MS) == 1


async def test_a_waiting_retry_counts_as_an_earlier_job(stage: Stage) -> None:
    await stage.upsert(minutely(overlap="skip"))
    await stage.turn()
    assert await stage.fired(MINUTE_MS) == 1
    worker = stage.worker()
    assert await worker.finish(await worker.claim_one(), "retry", 10 * MINUTE_MS)
    stage.clock.advance(MINUTE_MS)

    assert await stage.turn() == ["overlap"]


async def test_queued_runs_start_one_after_the_other(stage: Stage) -> None:
    await stage.upsert(minutely(overlap="queue", missed="all"))
    await stage.turn()
    assert await stage.fired(3 * MINUTE_MS) == 3
    worker = stage.worker()
    started = []
    for _ in range(3):
        claimed = (await worker.claim(10)).jobs
        assert len(claimed) == 1
        assert (await stage.worker("w2").claim(10)).jobs == []
        started.append(claimed[0].id)
        assert await worker.finish(claimed[0], ttl_ms=-1)

    assert started == [run.job_id for run in reversed(await stage.runs())]


async def test_allowed_runs_are_side_by_side(stage: Stage) -> None:
    await stage.upsert(minutely(missed="all"))
    await stage.turn()
    assert await stage.fired(3 * MINUTE_MS) == 3

    assert len((await stage.worker().claim(10)).jobs) == 3


# -- runs by hand -----------------------------------------------------------------------------------------------------


async def test_a_run_by_hand_moves_no_tick(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    before = await stage.stored()
    stage.clock.advance(5_000)

    assert await stage.run_by_hand("report", "mine") == "fired"
    assert await stage.stored() == before
    assert [(run.how, run.job_id) for run in await stage.runs()] == [("n", "mine")]
    assert await stage.fired(55_000) == 1


async def test_a_run_by_hand_that_is_sent_again_is_one_run(stage: Stage) -> None:
    await stage.upsert(minutely())
    assert await stage.run_by_hand("report", "mine") == "fired"
    assert await stage.run_by_hand("report", "mine") == "refused"

    assert await stage.queued() == ["mine"]
    assert len(await stage.runs()) == 1


# -- history ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "outcome"), [("end", "c"), ("fail", "f"), ("dead", "f"), ("abort", "a"), ("expire", "x")]
)
async def test_the_end_of_a_job_is_noted(stage: Stage, kind: Any, outcome: str) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    await stage.fired(MINUTE_MS)
    (queued,) = await stage.runs()
    assert (queued.outcome, queued.state, queued.ended_ms) == ("", "queued", None)
    claimed = await stage.worker().claim_one()
    assert (await stage.runs())[0].state == "running"
    stage.clock.advance(2_500)
    assert await stage.worker().finish(claimed, kind, ttl_ms=-1)

    (ended,) = await stage.runs()
    assert (ended.outcome, ended.ended_ms, ended.job_id) == (outcome, stage.clock(), claimed.id)
    assert ended.fired_ms == stage.clock() - 2_500


async def test_a_job_that_is_deleted_is_noted_as_aborted(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    await stage.fired(MINUTE_MS)
    (job_id,) = await stage.queued()
    assert await stage.jobs.delete(job_id, stage.queue) == "deleted"

    assert await stage.outcomes() == ["a"]


async def test_a_job_that_is_purged_is_noted_as_aborted(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    await stage.fired(MINUTE_MS)
    assert await stage.jobs.purge(stage.queue) == 1

    assert await stage.outcomes() == ["a"]


async def test_a_retry_is_no_end(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    await stage.fired(MINUTE_MS)
    worker = stage.worker()
    assert await worker.finish(await worker.claim_one(), "retry", 10)
    assert await stage.outcomes() == [""]
    stage.clock.advance(10)
    assert await worker.finish(await worker.claim_one(), "end", ttl_ms=-1)
    assert await stage.outcomes() == ["c"]


async def test_only_the_latest_twenty_runs_are_kept(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    for _ in range(50):
        assert await stage.fired(MINUTE_MS) == 1
        await stage.finish_jobs()

    runs = await stage.runs()
    assert [run.tick for run in runs] == [stage.clock() - i * MINUTE_MS for i in range(20)]
    assert {run.outcome for run in runs} == {"c"}
    assert await reply_of(stage.redis.hlen(KEYS.schedule_runs("report"))) == 20


async def test_the_end_of_a_run_that_is_no_longer_kept_is_noted_nowhere_else(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    await stage.fired(MINUTE_MS)
    first = await stage.worker().claim_one()
    for _ in range(25):
        await stage.fired(MINUTE_MS)
    assert await stage.worker().finish(first, "fail", ttl_ms=-1)

    assert len(await stage.runs()) == 20
    assert [run.job_id for run in await stage.runs() if run.outcome] in ([], [first.id])


@pytest.mark.parametrize("name", ["pipe|d", "with space", "ünï", "%d", "a:b*c", "x" * 200])
async def test_a_name_may_have_any_characters(stage: Stage, name: str) -> None:
    await stage.upsert(minutely(name=name))
    await stage.turn()
    assert await stage.fired(MINUTE_MS) == 1
    await stage.finish_jobs()

    assert [(run.how, run.outcome) for run in await stage.runs(name)] == [("t", "c")]


# -- locks of the function --------------------------------------------------------------------------------------------


@job(unique=True)
async def alone(ctx: Any) -> None: ...


@job(unique=Unique(on_conflict="return"))
async def stand_in(ctx: Any) -> None: ...


async def test_a_tick_whose_lock_is_held_is_refused(stage: Stage) -> None:
    await stage.upsert(minutely(alone))
    await stage.turn()
    assert await stage.fired(MINUTE_MS) == 1
    stage.clock.advance(MINUTE_MS)
    assert await stage.turn() == ["refused"]
    assert await stage.outcomes() == ["r", ""]
    await stage.finish_jobs()

    assert await stage.fired(MINUTE_MS) == 1


async def test_a_tick_for_which_another_job_stands_is_noted_with_that_job(stage: Stage) -> None:
    await stage.upsert(minutely(stand_in))
    await stage.turn()
    await stage.fired(MINUTE_MS)
    await stage.fired(MINUTE_MS)
    (job_id,) = await stage.queued()

    assert [run.job_id for run in await stage.runs()] == [job_id, job_id]
    await stage.finish_jobs()
    assert await stage.outcomes() == ["c", "c"]


# -- nothing is left --------------------------------------------------------------------------------------------------


async def test_no_key_is_left_a_week_after_a_removal(stage: Stage) -> None:
    process = stage.process(minutely(overlap="queue"))
    await process.keep()
    await stage.upsert(schedule(every(60), "api", name="api", overlap="skip"))
    await stage.turn()
    stage.clock.advance(MINUTE_MS)
    assert (await stage.turn()).count("fired") == 2
    await stage.finish_jobs()
    for name in ("report", "api"):
        assert await stage.store.set(name, "remove")
    stage.clock.advance(7 * DAY_MS - 1)
    await stage.process().keep()
    assert KEYS.schedule("api") in await stage.keys()
    stage.clock.advance(1)
    await stage.process().keep()

    left = await stage.keys()
    assert left <= {KEYS.schedules_clock(stage.queue), KEYS.schedules_rev}
    assert all([await stage.redis.pttl(key) > 0 for key in left])


async def test_code_that_nobody_runs_is_forgotten_after_a_week(stage: Stage) -> None:
    await stage.process(minutely()).keep()
    await stage.turn()
    stage.clock.advance(7 * DAY_MS + 1)
    await stage.process().keep()

    assert await stage.stored() is None
    assert await stage.keys() <= {KEYS.schedules_clock(stage.queue), KEYS.schedules_rev}


async def test_a_single_time_that_is_over_is_forgotten_after_a_week(stage: Stage) -> None:
    moment = datetime.fromtimestamp((stage.clock() + MINUTE_MS) / 1000, UTC)
    await stage.upsert(schedule(at(moment), "report"))
    await stage.turn()
    assert await stage.fired(MINUTE_MS) == 1
    await stage.finish_jobs()
    stored = await stage.stored()
    assert stored is not None
    assert stored.due_ms is None
    stage.clock.advance(7 * DAY_MS + 1)
    await stage.process().keep()

    assert await stage.stored() is None
    assert await stage.keys() <= {KEYS.schedules_clock(stage.queue), KEYS.schedules_rev}


async def test_a_schedule_at_run_time_is_never_forgotten(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.upsert(schedule("0 0 1 1 *", "yearly"))
    await stage.turn()
    stage.clock.advance(100 * DAY_MS)
    await stage.process().keep()

    assert await stage.stored() is not None
    assert await stage.stored("yearly") is not None


async def test_many_schedules_of_code_are_said_and_defined_in_pieces(stage: Stage) -> None:
    numbers = count()
    process = stage.process(*(schedule("0 0 * * *", "report", name=f"s{next(numbers)}") for _ in range(1_200)))

    assert await process.keep() == ["new"] * 1_200
    assert await process.keep() == []
    assert len(await stage.store.names()) == 1_200
    assert len((await stage.store.look(0, 1_000)).due) == 1_000
    assert len((await stage.store.look(0, 1_000, 1_000)).due) == 200


async def test_a_schedule_that_moves_to_another_queue_is_fired_there_alone(stage: Stage) -> None:
    other = Stage(stage.redis, queue="other", clock=stage.clock)
    await stage.process(minutely()).keep()
    await stage.turn()
    stage.clock.advance(1_000)
    assert await other.process(minutely()).keep() == ["changed"]

    assert [await stage.fired(), await other.fired()] == [0, 0]
    assert [await stage.fired(MINUTE_MS), await other.fired()] == [0, 1]
    assert (await stage.queued(), len(await other.queued())) == ([], 1)
    assert await stage.store.names() == []
    await other.jobs.close()


async def test_one_schedule_that_cannot_be_stored_leaves_the_others_alone(stage: Stage) -> None:
    for name in ("a", "b", "c", "d"):
        await stage.upsert(schedule(every(60), "report", name=name))
    await stage.turn()
    stage.clock.advance(MINUTE_MS)
    a, b, c, d = sorted(await stage.look())
    bad = b._replace(extra=b"0009not msgpack at all")
    odd = c._replace(queue="a string")
    await stage.redis.set("a string", "x")

    assert await stage.fire([a, bad, odd, d]) == ["fired", "not storable", "not storable", "fired"]
    assert len(await stage.queued()) == 2
    assert {name: await stage.outcomes(name) for name in "abcd"} == {"a": [""], "b": [], "c": [], "d": [""]}
    assert await stage.fire([b, c]) == ["fired", "fired"]  # nothing of them had moved on


@pytest.mark.parametrize("how", ["other end", "other zone", "removed"])
async def test_a_single_time_that_was_fired_is_not_fired_again_by_a_new_definition(stage: Stage, how: str) -> None:
    moment = datetime.fromtimestamp((stage.clock() + MINUTE_MS) / 1000, UTC)
    await stage.upsert(schedule(at(moment), "report"))
    await stage.turn()
    assert await stage.fired(MINUTE_MS) == 1
    await stage.finish_jobs()
    stage.clock.advance(1_000)
    if how == "removed":
        await stage.store.set("report", "remove")
        await stage.upsert(schedule(at(moment), "report"))
    elif how == "other zone":
        await stage.upsert(schedule(at(moment), "report", timezone="Asia/Seoul"))
    else:
        await stage.upsert(schedule(at(moment), "report", end=moment + timedelta(hours=1)))

    assert await stage.fired() == 0
    assert await stage.fired(MINUTE_MS) == 0


async def test_what_a_stock_worker_left_of_a_job_goes_with_its_place_among_the_runs(stage: Stage) -> None:
    await stage.upsert(minutely(missed="all"))
    await stage.turn()
    for _ in range(25):
        assert await stage.fired(MINUTE_MS) == 1
        (job_id,) = await stage.queued()
        await stage.redis.delete(KEYS.job(job_id))  # as a stock worker ends a job
        await stage.redis.zrem(stage.queue, job_id)

    assert await reply_of(stage.redis.hlen(KEYS.specs(stage.queue))) <= 20


async def test_a_clock_that_was_wrong_for_a_moment_silences_nothing(stage: Stage) -> None:
    """Of the ticks that were jumped over one was fired, too early; the others are fired at their time."""
    await stage.upsert(minutely())
    await stage.turn()
    assert await stage.fired(50 * MINUTE_MS) == 1
    assert await stage.fired(-50 * MINUTE_MS) == 0

    assert [await stage.fired(MINUTE_MS) for _ in range(52)] == [1] * 49 + [0] + [1] * 2


@pytest.mark.parametrize("how", ["resumed", "defined anew"])
async def test_ticks_of_a_wrong_clock_that_were_passed_over_are_due_at_their_time(stage: Stage, how: str) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    assert await stage.fired(MINUTE_MS) == 1
    stage.clock.advance(DAY_MS)
    if how == "resumed":
        await stage.store.set("report", "pause")
        await stage.store.set("report", "resume")
    else:
        await stage.upsert(schedule(every(60), "report", start=datetime(2000, 1, 1, tzinfo=UTC)))
    await stage.turn()
    assert await stage.fired(MINUTE_MS) == 1
    assert await stage.fired(-DAY_MS) == 0

    assert sum([await stage.fired(MINUTE_MS) for _ in range(5)]) >= 4


async def test_a_problem_is_told_until_the_schedule_is_fired(stage: Stage) -> None:
    await stage.upsert(minutely())
    await stage.turn()
    stage.clock.advance(5 * MINUTE_MS)  # ticks are missed: the first step drops them
    dropped, tick = await stage.look()
    stored = await stage.stored()
    assert stored is not None
    assert await stage.fire([dropped]) == ["done"]
    note = NewFiring("report", 0, stored.rev, 0, 0, None, "!", "", 0, payload=b"no")
    assert await stage.fire([note]) == ["done"]
    stored = await stage.stored()
    assert stored is not None
    assert stored.problem == "no"
    assert await stage.fire([tick]) == ["fired"]
    stored = await stage.stored()
    assert stored is not None
    assert stored.problem == ""
