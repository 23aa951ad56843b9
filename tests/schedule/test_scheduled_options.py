"""What a scheduled job is under: options of its schedule and function, limits, locks, overlap, middleware."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from arqestra import (
    EnqueuedCall,
    Middleware,
    Pool,
    every,
    schedule,
)
from tests.schedule import scheduled_jobs as jobs
from tests.schedule.running import FAST, NEVER, fired, seen, working


async def test_queue_priority_and_expiry_reach_the_job(pool: Pool) -> None:
    await pool.schedules.upsert(schedule(NEVER, jobs.urgent.options(headers={"tenant": "a"})))
    job = await pool.schedules.run_now("urgent")
    payload = pool.serializer.loads(await pool.get(pool.store.keys.job(job.job_id)))
    options = payload["o"]

    assert await pool.zscore("urgent", job.job_id) is not None
    assert options["p"] == 7
    assert options["x"] - payload["et"] == 600_000
    assert options["h"] == {"tenant": "a", "schedule": "urgent"}


async def test_the_concurrency_of_the_function_holds(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(FAST, jobs.one_at_a_time)]):
        await fired(pool, "one_at_a_time", 3)
        assert len(jobs.RUNS) == 1


async def test_the_rate_of_the_function_holds(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(FAST, jobs.rarely)]):
        await fired(pool, "rarely", 1, outcome="complete")
        await fired(pool, "rarely", 4)
        assert len(jobs.RUNS) == 1


async def test_the_lock_of_the_function_holds(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(FAST, jobs.alone)]):
        await fired(pool, "alone", 2, outcome="refused")
        assert len(jobs.RUNS) == 1
        jobs.GATES["alone"].set()
        await seen(lambda: len(jobs.RUNS) > 1, "a run after the lock was given back")


async def test_queued_runs_never_overlap(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(every(0.1), jobs.slow, overlap="queue")]):
        await fired(pool, "slow", 4, outcome="complete")

    assert jobs.AT_ONCE[1] == 1


async def test_skipped_runs_never_overlap(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(every(0.1), jobs.slow, overlap="skip")]):
        await fired(pool, "slow", 2, outcome="complete")
        await fired(pool, "slow", 1, outcome="skipped")

    assert jobs.AT_ONCE[1] == 1


async def test_allowed_runs_do_overlap(pool: Pool) -> None:
    async with working(pool, schedules=[schedule(FAST, jobs.wait)]):
        await seen(lambda: len(jobs.RUNS) == 3, "three jobs run at once")


class Stamp(Middleware):
    """Gives each enqueue a number."""

    def __init__(self) -> None:
        self.calls: list[EnqueuedCall] = []

    @asynccontextmanager
    async def around_enqueue(self, call: EnqueuedCall) -> AsyncIterator[None]:
        self.calls.append(call)
        call.headers["number"] = str(len(self.calls))
        yield


async def test_middleware_sees_scheduled_jobs(pool: Pool) -> None:
    stamp = Stamp()
    timetable = [schedule(FAST, jobs.note, args=[1]), schedule(NEVER, jobs.urgent)]
    async with working(pool, schedules=timetable, middleware=[stamp]):
        await fired(pool, "note", 2, outcome="complete")

    assert {(call.function, tuple(call.args), call.queue) for call in stamp.calls} == {
        ("note", (1,), pool.default_queue_name)
    }
    for run in jobs.RUNS:
        assert run.job.headers["schedule"] == "note"
        assert int(run.job.headers["number"]) >= 1


class Remembering(Middleware):
    """Sets a context variable around an enqueue, as a tracer does, and puts it back."""

    def __init__(self) -> None:
        self.before: list[str] = []
        self.after: list[str] = []

    @asynccontextmanager
    async def around_enqueue(self, call: EnqueuedCall) -> AsyncIterator[None]:
        self.before.append(WITHIN.get())
        token = WITHIN.set(call.function)
        try:
            yield
        finally:
            WITHIN.reset(token)
            self.after.append(WITHIN.get())


WITHIN: ContextVar[str] = ContextVar("within", default="nothing")


async def test_middleware_may_put_context_variables_back_and_calls_do_not_nest(pool: Pool) -> None:
    remembering = Remembering()
    timetable = [schedule(FAST, jobs.note, name=f"s{number}") for number in range(3)]
    async with working(pool, schedules=timetable, middleware=[remembering]):
        for each in timetable:
            await fired(pool, each.name, 5, outcome="complete")

    assert set(remembering.before) == set(remembering.after) == {"nothing"}
    outcomes = [run.outcome for each in timetable for run in await pool.schedules.history(each.name)]
    assert "dropped" not in outcomes
