"""A fault of the code never counts as success, an interruption by us never as a failure of the job."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest

from arqestra import (
    FlowCancelled,
    Job,
    JobExecutionFailed,
    Pool,
    RemoteError,
    RemoteTraceback,
    SerializationError,
    SettingsError,
    Worker,
    chain,
    create_pool,
    job,
)
from arqestra.embedded import EmbeddedRedis
from tests.integration import outcome_jobs as jobs
from tests.support.pools import serializers
from tests.support.proxies.lossy import LossyProxy
from tests.support.wait import PATIENCE_S, wait_until
from tests.support.workers import worker_running


@pytest.fixture(autouse=True)
def fresh() -> None:
    jobs.TOLD.clear()


serializer = serializers("pickle", "msgpack", "json")


@pytest.fixture
async def pickling(redis_url: str) -> AsyncIterator[Pool]:
    """Where it makes no difference which serializer is used."""
    async with await create_pool(redis_url, serializer="pickle") as pool:
        yield pool


def working(pool: Pool, **settings: Any) -> AbstractAsyncContextManager[Worker]:
    ctx = settings.pop("ctx", None) or {"let_go": asyncio.Event(), "started": asyncio.Event()}
    return worker_running(pool, **{"functions": jobs.ALL, "allow_abort_jobs": True, "ctx": ctx, **settings})


async def enqueued(pool: Pool, function: Any, *args: Any) -> Job[Any]:
    found: Job[Any] | None = await pool.enqueue(function, *args)
    assert found is not None
    return found


async def ended(pool: Pool, function: Any, *args: Any) -> Any:
    """The result's record of a job that has run to its end."""
    waiting = await enqueued(pool, function, *args)
    await asyncio.gather(waiting.result(timeout=PATIENCE_S), return_exceptions=True)
    return await waiting.result_info()


# -- a result that does not serialize -----------------------------------------------------------------------------


@pytest.mark.parametrize("function", [jobs.gives_a_lock, jobs.gives_a_lock_in_a_thread, jobs.gives_a_lock_in_a_process])
async def test_a_value_that_does_not_serialize_has_failed_its_job(pool: Pool, function: Any) -> None:
    async with working(pool) as worker:
        waiting = await enqueued(pool, function)
        with pytest.raises(SerializationError, match="lock"):
            await waiting.result(timeout=PATIENCE_S)

        assert (worker.jobs_complete, worker.jobs_failed) == (0, 1)
        assert [entry.type.rsplit(".", 1)[-1] for entry in await waiting.errors()] == ["SerializationError"]
        assert [dead.job_id for dead in await pool.queue().dead()] == [waiting.job_id]

    assert [(row["complete"], row["failed"]) for row in await pool.statistics()] == [(0, 1)]


async def test_a_retry_policy_and_its_hook_hear_of_a_value_that_does_not_serialize(pool: Pool) -> None:
    async with working(pool):
        jobs.failed(await ended(pool, jobs.gives_locks))

    assert jobs.TOLD == [1, 2, 3, ("exhausted", "SerializationError")]


async def test_a_chain_does_not_go_on_behind_a_value_that_does_not_serialize(pool: Pool) -> None:
    async with working(pool):
        flow = await pool.enqueue_flow(chain(jobs.gives_a_lock.s(), jobs.takes.s()).link_error(jobs.errback.s()))
        with pytest.raises(SerializationError):
            await flow.result(timeout=PATIENCE_S)

        async def told() -> bool:
            return bool(jobs.TOLD)

        await wait_until(told, "the errback has run")
    assert jobs.TOLD == [("errback", "UpstreamFailed")]


async def test_workflows_and_their_steps_fail_with_a_value_that_does_not_serialize(pool: Pool) -> None:
    async with working(pool):
        step = await ended(pool, jobs.step_gives_a_lock)
        assert (step.success, step.result) == (True, "SerializationError")
        assert isinstance(jobs.failed(await ended(pool, jobs.workflow_gives_a_lock)), SerializationError)


async def test_a_value_that_nobody_keeps_need_not_serialize(pickling: Pool) -> None:
    async with working(pickling, keep_result=0) as worker:
        await enqueued(pickling, jobs.gives_a_lock)

        async def complete() -> bool:
            return worker.jobs_complete == 1

        await wait_until(complete, "the job is complete")
        assert worker.jobs_failed == 0


# -- interruptions ------------------------------------------------------------------------------------------------

WAYS = ["finally", "from", "group", "exit"]


@pytest.mark.parametrize("function", [jobs.cleans_up, jobs.cleans_up_within_a_soft_limit])
@pytest.mark.parametrize("how", WAYS)
async def test_a_shutdown_gives_a_job_back_whatever_its_clean_up_raises(
    pickling: Pool, function: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    ctx = {"let_go": asyncio.Event(), "started": asyncio.Event()}
    async with working(pickling, ctx=ctx):
        waiting = await enqueued(pickling, function, how)
        await ctx["started"].wait()
    assert await waiting.result_info() is None
    assert "its clean-up raised" in caplog.text

    ctx["let_go"].set()
    async with working(pickling, ctx=ctx):
        assert await waiting.result(timeout=PATIENCE_S) == 1  # no attempt was counted


@pytest.mark.parametrize("swallow", [False, True])
@pytest.mark.parametrize("how", ["finally", "raise"])
async def test_a_shutdown_gives_a_job_back_whatever_its_middleware_does(
    pickling: Pool, how: str, swallow: bool
) -> None:
    ctx = {"let_go": asyncio.Event(), "started": asyncio.Event()}
    async with working(pickling, ctx=ctx, middleware=[jobs.Raises(swallow=swallow)]):
        waiting = await enqueued(pickling, jobs.cleans_up, how)
        await ctx["started"].wait()
    assert await waiting.result_info() is None

    ctx["let_go"].set()
    async with working(pickling, ctx=ctx):
        assert await waiting.result(timeout=PATIENCE_S) == 1


async def test_a_shutdown_ends_no_workflow_whatever_its_middleware_does(pickling: Pool) -> None:
    async with working(pickling, middleware=[jobs.Raises()]) as worker:
        waiting = await enqueued(pickling, jobs.waits_in_a_workflow)

        async def has_begun() -> bool:
            return bool(jobs.TOLD)

        await wait_until(has_begun, "the workflow has begun")
        worker.tasks[waiting.job_id].cancel()  # as a shutdown does in the middle of a call
        worker.stopping = True
    assert await waiting.result_info() is None
    async with working(pickling):
        assert await waiting.result(timeout=PATIENCE_S) == "complete"


@pytest.mark.parametrize("how", WAYS)
async def test_an_abort_is_an_abort_whatever_the_clean_up_raises(
    pickling: Pool, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(pickling) as worker:
        waiting = await enqueued(pickling, jobs.cleans_up, how)
        await worker.ctx["started"].wait()
        assert await waiting.abort(timeout=PATIENCE_S)
        info = await waiting.result_info()

    assert isinstance(jobs.failed(info), asyncio.CancelledError)
    assert "its clean-up raised" in caplog.text


@pytest.mark.parametrize("how", WAYS)
async def test_a_lost_lease_writes_nothing_whatever_the_clean_up_raises(pickling: Pool, how: str) -> None:
    async with working(pickling, lease=1.5) as worker:
        waiting = await enqueued(pickling, jobs.cleans_up, how)
        await worker.ctx["started"].wait()
        task = worker.tasks[waiting.job_id]
        await pickling.set(pickling.store.keys.lease(waiting.job_id), "other.1|9999999999999|1|0", px=60_000)
        await asyncio.wait([task], timeout=PATIENCE_S)

        assert task.done()
        assert await waiting.result_info() is None
        assert await waiting.errors() == []


async def test_aborts_are_heard_while_a_worker_waits_for_its_jobs_to_complete(pickling: Pool) -> None:
    """At once, and not with the next renewal of the leases."""
    async with working(pickling, job_completion_wait=PATIENCE_S, lease=3 * PATIENCE_S) as worker:
        job = await enqueued(pickling, jobs.hangs)
        await worker.ctx["started"].wait()
        worker.ctx["started"].clear()
        flow = await pickling.enqueue_flow(chain(jobs.hangs.s(), jobs.takes.s()))
        await worker.ctx["started"].wait()
        worker.handle_sig_wait_for_completion(signal.SIGTERM)
        waiting = pickling.store.keys.waiting(worker.queue_name)

        async def has_left() -> bool:
            return await pickling.zscore(waiting, worker.worker_id) is None

        await wait_until(has_left, "no wake-up is spent on the worker")
        assert await job.abort(timeout=PATIENCE_S / 2)
        await flow.cancel()
        with pytest.raises(FlowCancelled):
            await flow.result(timeout=PATIENCE_S / 2)

        async def is_done() -> bool:
            return not worker.tasks

        await wait_until(is_done, "both jobs have ended")


# -- awaitables ---------------------------------------------------------------------------------------------------


async def test_what_comes_back_from_a_plain_function_is_awaited(pool: Pool) -> None:
    async with working(pool):
        job = await pool.enqueue_job("behind_a_decorator", 3)
        assert job is not None
        assert await job.result(timeout=PATIENCE_S) == 6
        assert jobs.TOLD == [("ran", 3)]
        assert (await ended(pool, jobs.decorated_in_a_process, 4)).result == 8
        assert (await ended(pool, jobs.decorated_with_a_soft_limit)).result == "SoftTimeLimitExceeded"
        assert isinstance(jobs.failed(await ended(pool, jobs.decorated_with_a_hard_limit)), TimeoutError)
        for name, expected in (("forgets_an_await", 8), ("runs_a_loop_of_its_own", 6)):
            job = await pool.enqueue_job(name)
            assert job is not None
            assert await job.result(timeout=PATIENCE_S) == expected


@pytest.mark.parametrize("name", ["yields", "yields_plainly"])
@pytest.mark.parametrize("keep_result", [0, 60])
async def test_a_generator_that_comes_back_is_a_failure(pickling: Pool, name: str, keep_result: int) -> None:
    async with working(pickling, keep_result=keep_result) as worker:
        job = await pickling.enqueue_job(name)
        assert job is not None

        async def over() -> bool:
            return worker.jobs_complete + worker.jobs_failed == 1

        await wait_until(over, "the job has ended")
        assert worker.jobs_failed == 1
    assert jobs.TOLD == []


class Callable:
    async def __call__(self, ctx: Any) -> None: ...


@pytest.mark.parametrize("target", [partial(jobs.behind_a_decorator, 1), Callable()])
def test_what_is_no_function_is_refused_at_the_start(target: Any) -> None:
    with pytest.raises(SettingsError, match="expected a function"):
        job(target)
    with pytest.raises((SettingsError, RuntimeError), match="not a coroutine function"):
        Worker([target], handle_signals=False)


def test_a_partial_without_a_name_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="name="):
        Worker([partial(jobs.takes.coroutine, value=1)], handle_signals=False)


# -- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["unpicklable", "local", "bad text"])
async def test_an_error_that_does_not_pickle_keeps_type_text_and_traceback(pool: Pool, what: str) -> None:
    async with working(pool):
        waiting = await enqueued(pool, jobs.raises, what)
        with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is the question
            await waiting.result(timeout=PATIENCE_S)

    error = raised.value
    expected = {"unpicklable": ("Unpicklable", "code 7"), "local": ("Local", "here"), "bad text": ("BadText", "")}[what]
    if what != "bad text":
        name = error.type_name if isinstance(error, RemoteError) else type(error).__name__
        assert name.rsplit(".", 1)[-1] == expected[0]
        assert expected[1] in str(error)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in raises" in str(error.__cause__)


@pytest.mark.parametrize(
    ("what", "tries", "last"),
    [
        ("alone", 2, ("outcome_jobs.Unpicklable", "code 7")),
        ("group", 2, ("builtins.ExceptionGroup", "several (2 sub-exceptions)")),
        ("base", 1, ("outcome_jobs.Ends", "ends 3")),
    ],
)
async def test_an_error_that_cannot_be_sent_out_of_a_process_keeps_its_type(
    pool: Pool, what: str, tries: int, last: tuple[str, str]
) -> None:
    """In the history and for its retry policy; and it does not end the process."""
    async with working(pool):
        info = await ended(pool, jobs.raises_in_a_process, what)
        assert (await ended(pool, jobs.raises_in_a_process, "retry in a group")).result == 2

    errors = await pool.job(info.job_id).errors()
    assert info.job_try == len(errors) == tries
    assert errors[-1].type.endswith(last[0])
    assert errors[-1].message == last[1]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (jobs.late, "time limit of 0.1 s"),
        (jobs.late_in_a_thread, "time limit of 0.1 s"),
        (jobs.late_in_a_process, "time limit of 0.3 s"),
        (jobs.softly_late, "soft time limit of 0.1 s"),
        (jobs.softly_late_in_a_thread, "soft time limit of 0.1 s"),
    ],
)
async def test_a_timeout_says_which_limit_it_was(pickling: Pool, function: Any, text: str) -> None:
    async with working(pickling):
        error = jobs.failed(await ended(pickling, function))

    assert isinstance(error, TimeoutError)
    assert text in str(error)


async def test_a_clean_up_that_raises_at_the_time_limit_says_which_it_was(pickling: Pool) -> None:
    async with working(pickling):
        waiting = await enqueued(pickling, jobs.late_and_raises)
        with pytest.raises(ValueError, match="in the clean-up") as raised:
            await waiting.result(timeout=PATIENCE_S)

    assert "time limit of 0.1 s" in str(raised.value.__cause__)


@pytest.mark.parametrize("how", ["await", "group", "wait_for in a group", "gather in a group"])
async def test_a_job_that_cancels_itself_says_why(pool: Pool, how: str, caplog: pytest.LogCaptureFixture) -> None:
    async with working(pool):
        child = await enqueued(pool, jobs.hangs)
        waiting = await enqueued(pool, jobs.awaits, child.job_id, how)
        assert await child.abort(timeout=PATIENCE_S)
        with pytest.raises(JobExecutionFailed, match=f"max 3 retries exceeded: .*job {child.job_id} was aborted"):
            await waiting.result(timeout=PATIENCE_S)
        errors = await waiting.errors()

    assert jobs.TOLD == [1, 2, 3]
    assert [entry.job_try for entry in errors] == [1, 2, 3]
    assert all(child.job_id in entry.message for entry in errors)
    assert f"CancelledError: job {child.job_id} was aborted" in caplog.text


@pytest.mark.parametrize("how", ["handled", "handled in a group"])
async def test_an_abort_that_a_job_handles_does_not_fail_it(pool: Pool, how: str) -> None:
    async with working(pool):
        child = await enqueued(pool, jobs.hangs)
        waiting = await enqueued(pool, jobs.awaits, child.job_id, how)
        assert await child.abort(timeout=PATIENCE_S)
        assert await waiting.result(timeout=PATIENCE_S) == "CancelledError"


# -- groups -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "attempts"),
    [(["reset"], 2), (["reset", "reset"], 2), (["value"], 1), (["reset", "value"], 1), (["reset", "refused"], 1)],
)
async def test_a_policy_sees_through_groups(pickling: Pool, errors: list[str], attempts: int) -> None:
    async with working(pickling):
        info = await ended(pickling, jobs.fails_in_a_group, errors)

    assert (info.job_try, info.success) == (attempts, attempts == 2)


@pytest.mark.parametrize(("what", "attempts"), [("retry", [1, 2]), ("retry job", [1, 2]), ("snooze", [1, 1])])
async def test_what_a_job_asks_for_in_a_group_is_heard(pickling: Pool, what: str, attempts: list[int]) -> None:
    async with working(pickling):
        assert (await ended(pickling, jobs.asks_in_a_group, what)).success

    assert attempts == jobs.TOLD


async def test_an_argument_whose_repr_raises_does_not_fail_its_job(
    pickling: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "arq.worker")
    async with working(pickling):
        assert (await ended(pickling, jobs.takes_anything, jobs.Unprintable())).success
        assert (await ended(pickling, jobs.takes_anything, [jobs.Unprintable()])).success
    assert "no repr" in caplog.text


# -- replies that are lost ----------------------------------------------------------------------------------------


async def test_a_lost_reply_is_not_taken_for_a_lost_lease(
    pickling: Pool, redis_server: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """The outcome was written; the worker asks again, and counts it."""
    caplog.set_level(logging.INFO, "arq.worker")
    async with LossyProxy(redis_server.port) as proxy:
        async with working(pickling, redis_settings=proxy.url, poll_delay=60, lease=3 * PATIENCE_S) as worker:
            worker.ctx["lose"] = proxy.lose_next_reply
            job = await enqueued(pickling, jobs.loses_a_reply)
            assert await job.result(timeout=PATIENCE_S) == "complete"

            async def is_settled() -> bool:
                return not worker.slots.leases

            await wait_until(is_settled, "the worker knows of the outcome")
        assert proxy.lost == 1

    assert "lease was lost" not in caplog.text
    assert [row["complete"] for row in await pickling.statistics()] == [1]
