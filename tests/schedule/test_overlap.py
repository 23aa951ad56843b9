"""Runs of a schedule whose earlier jobs have not ended, runs by hand, and locks of the function."""

from __future__ import annotations

from typing import Any

from arqestra import Unique, job
from tests.schedule.harness import MINUTE_MS, ScheduleHarness, minutely


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
