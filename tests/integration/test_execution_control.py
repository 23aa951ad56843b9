"""Retries, limits of time, executors, middleware and acknowledgement, through a pool and a worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from arqestra import (
    EnqueuedCall,
    Job,
    JobCancelled,
    JobExecutionFailed,
    JobLogFilter,
    Middleware,
    Pool,
    RemoteError,
    RunningJob,
    Worker,
)
from arqestra.protocol.wire import decode_payload
from arqestra.store.records import ClaimRequest
from tests.integration import control_jobs as jobs
from tests.support.pools import serializers
from tests.support.redis_clock import until_too_late
from tests.support.wait import wait_until
from tests.support.workers import worker_running


@pytest.fixture(autouse=True)
def fresh() -> None:
    jobs.TOLD.clear()


serializer = serializers("pickle", "msgpack")


@contextlib.asynccontextmanager
async def working(pool: Pool, **settings: Any) -> AsyncIterator[Worker]:
    ctx: dict[str, Any] = {"let_go": asyncio.Event(), "started": asyncio.Event(), "plain": 7}
    async with worker_running(pool, **{"functions": jobs.ALL, "ctx": ctx, **settings}) as worker:
        yield worker
        ctx["let_go"].set()


async def enqueued(pool: Pool, function: Any, *args: Any) -> Job[Any]:
    job: Job[Any] | None = await pool.enqueue(function, *args)
    assert job is not None
    return job


# -- retries ------------------------------------------------------------------------------------------------------


async def test_a_policy_tries_again_and_the_history_tells_each_attempt(pool: Pool) -> None:
    async with working(pool) as worker:
        job = await enqueued(pool, jobs.flaky, 2)
        assert await job.result(timeout=10) == 3
        errors = await job.errors()

    assert [(error.job_try, error.type, error.message) for error in errors] == [
        (1, "builtins.ConnectionResetError", "attempt 1"),
        (2, "builtins.ConnectionResetError", "attempt 2"),
    ]
    assert all("flaky" in error.traceback and error.worker == worker.worker_id for error in errors)
    assert all(error.started <= error.ended for error in errors)
    assert jobs.TOLD == []


async def test_the_last_attempt_that_fails_is_told_to_the_hooks_and_the_job_is_dead(pool: Pool) -> None:
    told: list[Any] = []

    async def general(ctx: dict[Any, Any], error: BaseException) -> None:
        told.append((ctx["job_try"], type(error)))

    async with working(pool, on_retries_exhausted=general):
        job = await enqueued(pool, jobs.flaky, 99)
        with pytest.raises(ConnectionResetError, match="attempt 3"):
            await job.result(timeout=10)
        [dead] = await pool.queue().dead()

    assert [("exhausted", job.job_id, "attempt 3")] == jobs.TOLD
    assert told == [(3, ConnectionResetError)]
    assert (dead.job_id, dead.function, dead.args, dead.reason) == (
        job.job_id,
        "flaky",
        (99,),
        "ConnectionResetError: attempt 3",
    )


@pytest.mark.parametrize("error", ["refused", "value"])
async def test_other_errors_are_not_tried_again(pool: Pool, error: str) -> None:
    async with working(pool):
        job = await enqueued(pool, jobs.flaky, 1, error)
        with pytest.raises((ConnectionRefusedError, ValueError), match="attempt 1"):
            await job.result(timeout=10)

    assert jobs.TOLD == []


async def test_retry_of_arq_still_works_and_its_cause_is_in_the_history(pool: Pool) -> None:
    async with working(pool):
        job = await enqueued(pool, jobs.ask_again)
        assert await job.result(timeout=10) == 2
        assert [error.message for error in await job.errors()] == ["no route"]


@pytest.mark.parametrize("way", ["raise", "return"])
async def test_a_snooze_counts_no_attempt(pool: Pool, way: str) -> None:
    async with working(pool):
        job = await enqueued(pool, jobs.snooze, way)
        assert await job.result(timeout=10) == 1

    assert jobs.TOLD == [("run", 1)] * 3


@pytest.mark.parametrize("way", ["raise", "return"])
async def test_cancel_ends_the_job_with_its_reason(pool: Pool, way: str) -> None:
    async with working(pool):
        job = await enqueued(pool, jobs.cancel, way)
        with pytest.raises(JobCancelled, match="no longer wanted"):
            await job.result(timeout=10)
        assert await pool.queue().dead_count() == 0


async def test_dead_jobs_are_retried_and_discarded_in_bulk(pool: Pool) -> None:
    async with working(pool):
        failed = [await enqueued(pool, jobs.flaky, 1, "value") for _ in range(5)]
        for job in failed:
            with pytest.raises(ValueError, match="attempt 1"):
                await job.result(timeout=10)
        queue = pool.queue()
        assert await queue.dead_count() == 5
        assert await queue.retry_dead([failed[0].job_id, "unknown"]) == 1
        with pytest.raises(ValueError, match="attempt 1"):
            await failed[0].result(timeout=10)
        await wait_until(lambda: _dead(pool, 5), "all five are dead again")
        assert await queue.discard_dead([failed[1].job_id]) == 1
        assert await queue.discard_dead() == 4
        assert await queue.dead() == []


@pytest.mark.parametrize("bulk", [False, True])
async def test_a_job_that_is_run_again_keeps_priority_headers_and_the_time_that_it_has(pool: Pool, bulk: bool) -> None:
    options = jobs.flaky.options(priority=7, headers={"trace": "t1"}, expires=7200)
    job = await enqueued(pool, options, 1, "value")

    async def stored() -> tuple[dict[str, Any], int]:
        payload = decode_payload(pool.serializer, await pool.get(pool.store.keys.job(job.job_id)))
        options = payload.options
        return {name: options[name] for name in ("h", "p")}, options["x"] - payload.enqueued_ms - pool.clock_offset_ms

    before, has_ms = await stored()
    async with working(pool):
        with pytest.raises(ValueError, match="attempt 1"):
            await job.result(timeout=10)

    await (pool.queue().retry_dead() if bulk else job.retry())

    again, has_again_ms = await stored()
    assert again == before == {"h": {"trace": "t1"}, "p": 7}
    assert has_again_ms == pytest.approx(has_ms, abs=2 * abs(pool.clock_offset_ms))
    assert await pool.zscore("arq:queue", job.job_id) < 0


async def _dead(pool: Pool, count: int) -> bool:
    return await pool.queue().dead_count() == count


async def test_an_expired_job_is_told_to_its_hook(pool: Pool) -> None:
    job = await enqueued(pool, jobs.perishable)
    await until_too_late(pool, job)
    async with working(pool):
        with pytest.raises(JobExecutionFailed, match="job expired"):
            await job.result(timeout=10)

    assert [("expired", job.job_id)] == jobs.TOLD


# -- crashes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep_dead", "text", "logged"),
    [
        (60, "job ended its worker 2 times; it is in the dead set", "2 times, it goes to the dead set"),
        (0, "job ended its worker 2 times", "2 times, it has failed"),
    ],
)
async def test_a_job_that_ended_its_workers_says_so_and_whether_it_is_in_the_dead_set(
    pool: Pool, caplog: pytest.LogCaptureFixture, keep_dead: int, text: str, logged: str
) -> None:
    job = await enqueued(pool, jobs.flaky, 0)
    for worker_id in ("killed first", "killed second"):
        claim = ClaimRequest("arq:queue", worker_id, 1, slots=1, lease_ms=1, margin_ms=60_000)
        await wait_until(partial(_takes_one, pool, claim), "a worker that is killed at once to take the job")

    async with working(pool, max_crashes=2, keep_dead=keep_dead):
        with pytest.raises(JobExecutionFailed) as raised:
            await job.result(timeout=10)
        assert await pool.queue().dead_count() == (1 if keep_dead else 0)

    assert str(raised.value) == text
    [line] = [record.getMessage() for record in caplog.records if "ended its worker" in record.getMessage()]
    assert line.endswith(logged)


async def _takes_one(pool: Pool, claim: ClaimRequest) -> bool:
    _, claimed = await pool.store.turn((), claim)
    return claimed is not None and len(claimed.jobs) == 1


# -- time limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sleep", "task group", "wait_for", "timeout"])
async def test_the_soft_limit_is_seen_at_the_current_await_and_the_job_may_finish(pool: Pool, how: str) -> None:
    async with working(pool):
        job = await enqueued(pool, jobs.partial, how)
        what, limit_s, seen_ms = await job.result(timeout=10)

    assert (what, limit_s) == ("partial", 0.1)
    assert seen_ms >= 99


async def test_a_soft_limit_that_is_let_out_fails_the_job(pool: Pool) -> None:
    async with working(pool):
        job = await enqueued(pool, jobs.partial, "let it out")
        with pytest.raises(TimeoutError, match=r"soft time limit of 0\.1 s exceeded"):
            await job.result(timeout=10)


async def test_the_hard_limit_comes_after_the_soft_one(pool: Pool) -> None:
    async with working(pool):
        job = await enqueued(pool, jobs.warned_and_late)
        with pytest.raises(TimeoutError):
            await job.result(timeout=10)

    assert jobs.TOLD == ["warned"]


async def test_a_coroutine_that_swallows_its_cancellation_is_reported_and_keeps_its_slot(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    stuck: list[str] = []
    async with working(pool, cancel_grace=0.05) as worker:
        worker.stuck_callback = lambda attempt: stuck.append(attempt.leased.id)
        job = await enqueued(pool, jobs.stubborn)
        with pytest.raises(TimeoutError, match="did not end after its time limit"):
            await job.result(timeout=10)
        assert list(worker.slots.running) == [job.job_id]
        worker.ctx["let_go"].set()
        await wait_until(lambda: _no_slots(worker), "the slot is free")

    assert stuck == [job.job_id]
    assert "does not end after its time limit" in caplog.text
    assert "stubborn" in caplog.text


async def test_a_job_that_was_given_up_is_not_tried_again_and_told_of_once(pool: Pool) -> None:
    ended: list[int] = []

    async def after_job_end(ctx: dict[Any, Any]) -> None:
        ended.append(ctx["job_try"])

    async with working(pool, cancel_grace=0.05, after_job_end=after_job_end) as worker:
        job = await enqueued(pool, jobs.stubborn_with_retries)
        with pytest.raises(TimeoutError, match="did not end after its time limit"):
            await job.result(timeout=10)
        worker.ctx["let_go"].set()
        await wait_until(lambda: _no_slots(worker), "the slot is free")
        assert (worker.jobs_failed, worker.jobs_complete, worker.jobs_retried) == (1, 0, 0)
        await worker.close()
        assert not worker.slots._awaited  # private: what is kept for nobody shows nowhere else

    assert ended == [1]
    assert [entry[:2] for entry in jobs.TOLD] == [("exhausted", job.job_id)]


async def test_a_soft_limit_is_told_although_what_is_awaited_swallows_the_cancellation(pool: Pool) -> None:
    async with working(pool):
        assert await (await enqueued(pool, jobs.behind_a_swallower)).result(timeout=10) == "partial"


async def test_a_soft_limit_is_told_after_a_timeout_that_ran_out_at_the_same_moment(pool: Pool) -> None:
    async with working(pool):
        assert await (await enqueued(pool, jobs.with_a_timeout_of_its_own)).result(timeout=10) == "told"


async def test_a_policy_about_the_soft_limit(pool: Pool) -> None:
    async with working(pool):
        assert await (await enqueued(pool, jobs.late_once)).result(timeout=10) == 2


async def test_the_tries_of_a_policy_count_more_than_max_tries(pool: Pool) -> None:
    async with working(pool):
        with pytest.raises(ValueError, match="no"):
            await (await enqueued(pool, jobs.twice)).result(timeout=10)

    assert jobs.TOLD == [1, 2]


async def test_an_error_with_a_text_that_is_no_unicode_fails_the_job(pool: Pool) -> None:
    async with working(pool):
        job = await enqueued(pool, jobs.unprintable)
        with pytest.raises((ValueError, RemoteError), match="bad name"):
            await job.result(timeout=10)
        [error] = await job.errors()

    assert error.message == "bad name \\udcff.txt"


async def test_a_job_that_raises_keyboard_interrupt_fails_and_its_worker_goes_on(pool: Pool) -> None:
    async with working(pool, handle_signals=True):  # as a worker in a process of its own does
        job = await enqueued(pool, jobs.interrupts)
        with pytest.raises(JobExecutionFailed, match="KeyboardInterrupt"):
            await job.result(timeout=10)
        assert await (await enqueued(pool, jobs.in_thread, 4)).result(timeout=10)


async def _no_slots(worker: Worker) -> bool:
    return not worker.slots.running


# -- executors ----------------------------------------------------------------------------------------------------


async def test_a_plain_function_runs_in_a_thread_with_its_context(pool: Pool) -> None:
    async with working(pool):
        job = await enqueued(pool, jobs.in_thread, 4)
        assert await job.result(timeout=10) == [8, True, os.getpid(), True]
        raw = await pool.enqueue_job("raw_plain", "abc")
        assert raw is not None
        assert await raw.result(timeout=10) == "ABC"


async def test_a_soft_limit_reaches_a_thread(pool: Pool) -> None:
    async with working(pool):
        assert await (await enqueued(pool, jobs.soft_in_thread)).result(timeout=10) == "partial"


async def test_a_process_runs_kills_and_is_replaced(pool: Pool) -> None:
    async with working(pool, processes=1, max_calls_per_process=1):
        first = await (await enqueued(pool, jobs.in_process, 4)).result(timeout=30)
        second = await (await enqueued(pool, jobs.in_process, 5)).result(timeout=30)
        assert (first[0], second[0]) == (8, 10)
        assert first[1:2] + first[3:] == [1, False, 7]
        assert len({first[2], second[2], os.getpid()}) == 3
        with pytest.raises(TimeoutError):
            await (await enqueued(pool, jobs.hangs_in_process)).result(timeout=30)
        assert await (await enqueued(pool, jobs.soft_in_process)).result(timeout=30) == "partial"
        with pytest.raises(Exception, match=r"died|expired|Abnormal"):
            await (await enqueued(pool, jobs.dies_in_process)).result(timeout=30)
        assert (await (await enqueued(pool, jobs.in_process, 6)).result(timeout=30))[0] == 12


@pytest.mark.parametrize("what", ["stop", "interrupt"])
async def test_what_no_future_can_carry_fails_a_job_in_a_thread(pool: Pool, what: str) -> None:
    async with working(pool):
        with pytest.raises(RuntimeError, match=r"the job raised (StopIteration|KeyboardInterrupt)"):
            await (await enqueued(pool, jobs.awkward_in_thread, what)).result(timeout=10)
        assert await (await enqueued(pool, jobs.in_thread, 4)).result(timeout=10)


async def test_what_cannot_leave_a_process_fails_its_job_alone(pool: Pool) -> None:
    async with working(pool, processes=1):
        for what, expected in (
            ("value", "expected a result that can be pickled"),
            ("error", "Unpicklable: number 1"),
            ("stop", "the job raised StopIteration"),
            ("interrupt", "the job raised KeyboardInterrupt"),
        ):
            with pytest.raises(Exception, match=expected):
                await (await enqueued(pool, jobs.awkward_in_process, what)).result(timeout=30)
        with pytest.raises(TimeoutError, match=r"soft time limit of 0\.2 s exceeded"):
            await (await enqueued(pool, jobs.soft_out_of_process)).result(timeout=30)
        assert (await (await enqueued(pool, jobs.in_process, 6)).result(timeout=30))[0] == 12


async def test_a_broken_pool_of_processes_is_replaced(pool: Pool) -> None:
    async with working(pool, processes=1) as worker:
        assert (await (await enqueued(pool, jobs.in_process, 5)).result(timeout=30))[0] == 10
        # Private: pebble replaces a killed process; a pool that broke as a whole is stopped from within.
        worker.executors._processes.stop()  # type: ignore[union-attr]
        assert (await (await enqueued(pool, jobs.in_process, 6)).result(timeout=30))[0] == 12


# -- acknowledgement ----------------------------------------------------------------------------------------------


async def test_an_early_acknowledged_job_fails_when_its_worker_stops(pool: Pool) -> None:
    async with working(pool) as worker:
        job = await enqueued(pool, jobs.at_most_once)
        await worker.ctx["started"].wait()
        await worker.close()
        with pytest.raises(JobExecutionFailed, match="at most once"):
            await job.result(timeout=10)

    assert jobs.TOLD == ["started"]


async def test_an_early_acknowledged_job_completes_as_any_other(pool: Pool) -> None:
    async with working(pool) as worker:
        worker.ctx["let_go"].set()
        assert await (await enqueued(pool, jobs.at_most_once)).result(timeout=10) == 1


# -- middleware ---------------------------------------------------------------------------------------------------


class Tracing(Middleware):
    """Writes down what it surrounds, and passes a header on."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name = name
        self.seen = seen

    @contextlib.asynccontextmanager
    async def around_enqueue(self, call: EnqueuedCall) -> AsyncIterator[None]:
        call.headers[self.name] = call.function
        self.seen.append(f"{self.name} enqueue")
        yield

    @contextlib.asynccontextmanager
    async def around_run(self, job: RunningJob) -> AsyncIterator[None]:
        self.seen.append(f"{self.name} run {job.headers[self.name]}")
        try:
            yield
        finally:
            self.seen.append(f"{self.name} ran")


async def test_middleware_surrounds_enqueue_and_run_and_headers_travel(pool: Pool) -> None:
    seen: list[str] = []
    middleware = [Tracing("outer", seen), Tracing("inner", seen)]
    pool.middleware = tuple(middleware)
    async with working(pool, middleware=middleware):
        job = await pool.enqueue(jobs.headers_of.options(headers={"tenant": "t"}))
        assert job is not None
        expected = {"tenant": "t", "outer": "headers_of", "inner": "headers_of"}
        assert await job.result(timeout=10) == expected
        [many] = await pool.enqueue_many([jobs.headers_of.bind()])
        assert many is not None
        assert await many.result(timeout=10) == {"outer": "headers_of", "inner": "headers_of"}

    assert seen[:6] == [
        *("outer enqueue", "inner enqueue"),
        *("outer run headers_of", "inner run headers_of", "inner ran", "outer ran"),
    ]


class Swallowing(Middleware):
    @contextlib.asynccontextmanager
    async def around_run(self, job: RunningJob) -> AsyncIterator[None]:
        with contextlib.suppress(BaseException):
            yield


async def test_a_middleware_may_swallow_an_error_but_not_what_somebody_asked_for(pool: Pool) -> None:
    async with working(pool, middleware=[Swallowing()], allow_abort_jobs=True) as worker:
        assert await (await enqueued(pool, jobs.flaky, 1, "value")).result(timeout=10) is None
        assert await (await enqueued(pool, jobs.snooze, "raise")).result(timeout=10) == 1
        with pytest.raises(JobCancelled):
            await (await enqueued(pool, jobs.cancel, "raise")).result(timeout=10)
        running = await enqueued(pool, jobs.at_most_once)
        await worker.ctx["started"].wait()
        assert await running.abort(timeout=10)


async def test_log_records_of_a_job_carry_its_id(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "", (), None)
    assert JobLogFilter().filter(record)
    assert (record.job_id, record.job_function, record.job_try) == ("-", "-", 0)  # type: ignore[attr-defined]
