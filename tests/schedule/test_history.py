"""The runs that a schedule keeps, and how their jobs ended."""

from __future__ import annotations

from typing import Any

import pytest

from arqestra.store.schedule_records import NewFiring
from tests.schedule.harness import KEYS, MINUTE_MS, ScheduleHarness, minutely
from tests.support.replies import reply_of


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


async def test_what_a_stock_worker_left_of_a_job_goes_with_its_place_among_the_runs(harness: ScheduleHarness) -> None:
    await harness.upsert(minutely(missed="all"))
    await harness.turn()
    for _ in range(25):
        assert await harness.fired(MINUTE_MS) == 1
        (job_id,) = await harness.queued()
        await harness.redis.delete(KEYS.job(job_id))  # as a stock worker ends a job
        await harness.redis.zrem(harness.queue, job_id)

    assert await reply_of(harness.redis.hlen(KEYS.specs(harness.queue))) <= 20


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
