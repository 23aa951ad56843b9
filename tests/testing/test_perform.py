"""`perform`: one attempt without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from arqestra import (
    ArgumentsError,
    JobCancelled,
    Middleware,
    RunningJob,
    SerializationError,
    SettingsError,
    SoftTimeLimitExceeded,
    job,
)
from arqestra.testing import perform
from tests.testing import jobs

chosen: ContextVar[str] = ContextVar("chosen", default="nothing")


async def test_a_value() -> None:
    outcome = await perform(jobs.add, 1, b=2)
    assert (outcome.state, outcome.value, outcome.error, outcome.delay_s) == ("complete", 3, None, None)
    assert (outcome.function, outcome.args, outcome.kwargs, outcome.job_try) == ("add", (1,), {"b": 2}, 1)
    assert outcome.result() == 3


@pytest.mark.parametrize("serializer", ["pickle", "msgpack", "json"])
async def test_arguments_and_value_go_through_the_serializer_and_the_hints(serializer: str) -> None:
    outcome = await perform(jobs.moved, jobs.Point(1, 2), timedelta(hours=1), _serializer=serializer)
    assert outcome.result() == jobs.Point(2, 2)


async def test_a_retry_policy() -> None:
    outcome = await perform(jobs.flaky)
    assert (outcome.state, outcome.delay_s) == ("retry", 60)
    assert isinstance(outcome.error, ConnectionError)
    assert (await perform(jobs.flaky, job_try=3)).value == 3


async def test_a_retry_that_the_job_asks_for() -> None:
    outcome = await perform(jobs.retries)
    assert (outcome.state, outcome.delay_s) == ("retry", 3600)
    with pytest.raises(Exception, match="defer"):
        outcome.result()


async def test_the_last_attempt_fails() -> None:
    outcome = await perform(jobs.broken, job_try=2)
    assert outcome.state == "failed"
    with pytest.raises(ValueError, match="no good"):
        outcome.result()


async def test_an_attempt_too_many() -> None:
    outcome = await perform(jobs.broken, job_try=3)
    assert outcome.state == "failed"
    assert "max 2 retries exceeded" in str(outcome.error)


async def test_snooze_and_cancel() -> None:
    snoozed, cancelled = await perform(jobs.snoozes), await perform(jobs.gives_up)
    assert (snoozed.state, snoozed.delay_s, snoozed.error) == ("snooze", 30, None)
    assert cancelled.state == "cancel"
    assert isinstance(cancelled.error, JobCancelled)


async def test_the_time_limit() -> None:
    outcome = await perform(jobs.sleeps)
    assert outcome.state == "failed"
    assert isinstance(outcome.error, TimeoutError)
    await asyncio.sleep(0)  # the test itself is not cancelled


async def test_the_soft_limit() -> None:
    @job(soft_timeout=0.05, timeout=10)
    async def saves(ctx: dict[Any, Any]) -> str:
        try:
            await asyncio.sleep(30)
        except SoftTimeLimitExceeded:
            return "saved"
        return "all"

    assert (await perform(saves)).value == "saved"


async def test_a_job_that_swallows_its_cancellation_ends_late() -> None:
    @job(timeout=0.05)
    async def deaf(ctx: dict[Any, Any]) -> None:
        for _ in range(10):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)

    outcome = await perform(deaf, _settings={"cancel_grace": 0.1})
    assert outcome.state == "failed"
    assert "did not end after its time limit" in str(outcome.error)


async def test_who_cancels_the_test_cancels_the_test() -> None:
    @job(timeout=10)
    async def waits(ctx: dict[Any, Any]) -> None:
        await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await perform(waits)


async def test_it_runs_in_the_task_of_the_test() -> None:
    async def sets(ctx: dict[Any, Any]) -> Any:
        chosen.set("by the job")
        return id(asyncio.current_task())

    assert (await perform(sets)).value == id(asyncio.current_task())
    assert chosen.get() == "by the job"


async def test_in_a_thread() -> None:
    assert (await perform(jobs.in_a_thread, "try", job_try=2)).value == "try 2"


async def test_early_acknowledgement() -> None:
    assert (await perform(jobs.at_most_once)).value == "once"


async def test_ctx() -> None:
    async def shows(ctx: dict[Any, Any]) -> Any:
        return ctx["job_id"], ctx["job_try"], ctx["client"], sorted(ctx)

    job_id, job_try, client, names = (await perform(shows, job_try=2, ctx={"client": "http"}, _job_id="mine")).value
    assert (job_id, job_try, client) == ("mine", 2, "http")
    assert names == ["client", "enqueue_time", "job_id", "job_try", "redis", "score"]


async def test_a_job_that_needs_redis_says_so() -> None:
    outcome = await perform(jobs.uses_redis)
    assert outcome.state == "failed"
    assert "enqueue_job" in str(outcome.error)
    assert "_pool=" in str(outcome.error)


async def test_with_a_pool(arqestra_pool: Any) -> None:
    assert (await perform(jobs.uses_redis, _pool=arqestra_pool)).state == "complete"
    assert [each.function for each in await arqestra_pool.queued_jobs()] == ["add"]


class Noting(Middleware):
    def __init__(self) -> None:
        self.seen: list[str] = []

    @asynccontextmanager
    async def around_run(self, running: RunningJob) -> AsyncIterator[None]:
        self.seen.append(f"{running.function} {dict(running.headers)}")
        yield


async def test_middleware_headers_and_hooks() -> None:
    middleware, ended = Noting(), list[str]()

    async def on_job_end(ctx: dict[Any, Any]) -> None:
        ended.append(ctx["job_id"])

    async def after_job_end(ctx: dict[Any, Any]) -> None:
        ended.append("after")

    class Settings:
        functions = ("tests.testing.jobs.add",)
        middleware = (Noting(),)

    Settings.middleware = (middleware,)
    settings = {"middleware": [middleware], "on_job_end": on_job_end, "after_job_end": after_job_end}
    await perform(jobs.add.options(headers={"tenant": "a"}), 1, _settings=settings, _job_id="j")
    await perform(jobs.add, 1, _settings=Settings)
    assert middleware.seen == ["add {'tenant': 'a'}", "add {}"]
    assert ended == ["j", "after"]


async def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ArgumentsError):
        await perform(jobs.add, "a", 1, 2)
    with pytest.raises(SerializationError):
        await perform(jobs.add, lambda: 1)


async def test_a_result_that_cannot_be_stored() -> None:
    async def makes(ctx: dict[Any, Any]) -> Any:
        return lambda: 1

    outcome = await perform(makes)
    assert outcome.state == "failed"
    assert isinstance(outcome.error, SerializationError)


async def test_a_workflow_is_not_for_it() -> None:
    with pytest.raises(SettingsError, match="run_workflow"):
        await perform(jobs.week)


async def test_limits_and_locks_do_not_apply() -> None:
    for _ in range(2):
        assert (await perform(jobs.once_an_hour, 1)).state == "complete"
        assert (await perform(jobs.once, 1)).state == "complete"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"job_try": 0}, "job_try: expected an int of at least 1, got 0"),
        ({"job_try": "2"}, "job_try: expected an int of at least 1, got '2'"),
        ({"_pool": "redis://nowhere"}, r"_pool: expected a pool \(.*\), got 'redis://nowhere'"),
        ({"ctx": ["mailer"]}, r"ctx: expected a dict, got \['mailer'\]"),
    ],
    ids=str,
)
async def test_what_is_no_try_or_ctx(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^perform: {message}$"):
        await perform(jobs.add, 1, **given)
