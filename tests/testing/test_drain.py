"""`drain`: all that is due, in the test's own loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from arqestra import Pool, Retry, SettingsError, chain, chord, cron, every, func, group, schedule
from arqestra.testing import Clock, drain, enqueued, perform, travelling
from tests.support.wait import wait_until
from tests.testing import jobs

HOUR_MS = 3_600_000


async def test_nothing_is_nothing(arqestra_pool: Pool) -> None:
    drained = await drain(arqestra_pool, [jobs.add])
    assert (drained.outcomes, repr(drained)) == ([], "<Drained nothing>")


async def test_values_and_errors(arqestra_pool: Pool) -> None:
    await arqestra_pool.enqueue(jobs.add, 1, 2)
    await arqestra_pool.enqueue(jobs.broken)
    await arqestra_pool.enqueue(jobs.gives_up)

    drained = await drain(arqestra_pool, [jobs.add, jobs.broken, jobs.gives_up])

    assert (drained.complete, drained.failed, drained.retried, drained.cancelled) == (1, 1, 1, 1)
    assert [outcome.value for outcome in drained.of(jobs.add)] == [3]
    assert [(outcome.state, outcome.job_try) for outcome in drained.of("broken")] == [("retry", 1), ("failed", 2)]
    assert await enqueued(arqestra_pool) == []


async def test_retries_and_delays_take_no_time(arqestra_pool: Pool) -> None:
    retried = await arqestra_pool.enqueue_job("retries", _defer_by=86_400)
    flaky = await arqestra_pool.enqueue(jobs.flaky)
    begin_s = time.monotonic()

    drained = await drain(arqestra_pool, [jobs.retries, jobs.flaky])

    assert time.monotonic() - begin_s < 30
    assert (drained.complete, drained.retried) == (2, 3)
    assert retried is not None
    assert flaky is not None
    assert (await retried.result(timeout=5), await flaky.result(timeout=5)) == ("done", 3)


async def test_what_is_due_later_can_be_left(arqestra_pool: Pool) -> None:
    await arqestra_pool.enqueue_job("add", 1)
    await arqestra_pool.enqueue_job("add", 2, _defer_by=60)
    drained = await drain(arqestra_pool, [jobs.add], with_scheduled=False)
    assert [outcome.args for outcome in drained.outcomes] == [(1,)]
    assert [each.args for each in await enqueued(arqestra_pool)] == [(2,)]


async def test_it_travels_so_far_and_no_further(arqestra_pool: Pool, arqestra_clock: Clock) -> None:
    begin = arqestra_clock.now()
    for hours in (1, 23, 25):
        await arqestra_pool.enqueue_job("add", hours, _defer_by=hours * 3600)
    drained = await drain(arqestra_pool, [jobs.add], travel="1 day")
    assert [outcome.args for outcome in drained.outcomes] == [(1,), (23,)]
    assert timedelta(days=1) <= arqestra_clock.now() - begin < timedelta(days=1, minutes=1)
    drained = await drain(arqestra_pool, [jobs.add], travel=timedelta(hours=2))
    assert [outcome.args for outcome in drained.outcomes] == [(25,)]


async def test_without_a_clock_of_the_test_the_time_is_as_before(arqestra_pool: Pool) -> None:
    await arqestra_pool.enqueue_job("add", 1, _defer_by=86_400)
    begin_s = time.time()
    await drain(arqestra_pool, [jobs.add])
    with travelling() as clock:
        assert clock.now().timestamp() - begin_s < 3600


async def test_what_jobs_enqueue_in_other_queues(arqestra_pool: Pool) -> None:
    await arqestra_pool.enqueue_job("spreads", 3)
    await arqestra_pool.enqueue(jobs.send, "you@example.com")
    drained = await drain(arqestra_pool, [jobs.spreads, jobs.send])
    assert Counter(outcome.function for outcome in drained.outcomes) == {"spreads": 4, "send": 1}
    assert {outcome.queue for outcome in drained.of(jobs.spreads)} == {"arq:queue", "depth-3", "depth-2", "depth-1"}


async def test_queues_that_are_named_are_the_only_ones(arqestra_pool: Pool) -> None:
    await arqestra_pool.enqueue_job("add", 1)
    await arqestra_pool.enqueue(jobs.send, "you@example.com")
    drained = await drain(arqestra_pool, [jobs.add, jobs.send], queue_name="mail")
    assert [outcome.function for outcome in drained.outcomes] == ["send"]


async def test_flows(arqestra_pool: Pool) -> None:
    chained = await arqestra_pool.enqueue_flow(chain(jobs.add.s(1, 2), jobs.add.s(3)))
    grouped = await arqestra_pool.enqueue_flow(group(jobs.add.s(number) for number in range(20)))
    joined = await arqestra_pool.enqueue_flow(chord([jobs.add.s(1), jobs.add.s(2)], jobs.total.s()))
    drained = await drain(arqestra_pool, [jobs.add, jobs.total])
    assert drained.complete == 25
    assert await chained.result(timeout=5) == 6
    assert await grouped.result(timeout=5) == list(range(20))
    assert await joined.result(timeout=5) == 3


async def test_limits(arqestra_pool: Pool, arqestra_clock: Clock) -> None:
    begin = arqestra_clock.now()
    await arqestra_pool.enqueue_many([jobs.once_an_hour.bind(number) for number in range(4)])
    await arqestra_pool.enqueue_many([jobs.one_at_a_time.bind() for _ in range(5)])
    drained = await drain(arqestra_pool, [jobs.once_an_hour, jobs.one_at_a_time])
    assert drained.complete == 9
    assert timedelta(hours=2.9) <= arqestra_clock.now() - begin <= timedelta(hours=3.1)


async def test_a_workflow_of_a_week(arqestra_pool: Pool, arqestra_clock: Clock) -> None:
    begin = arqestra_clock.now()
    handle = await arqestra_pool.enqueue(jobs.week)
    await drain(arqestra_pool, [jobs.week, jobs.add])
    assert handle is not None
    assert await handle.result(timeout=5) == [1, 2, 3, 4, 5, 6, 7]
    assert timedelta(days=7) <= arqestra_clock.now() - begin < timedelta(days=7, minutes=1)


async def test_a_workflow_that_waits_for_an_event(arqestra_pool: Pool) -> None:
    late = await arqestra_pool.enqueue(jobs.approval)
    assert late is not None
    drained = await drain(arqestra_pool, [jobs.approval], travel="1 day")
    assert drained.outcomes == []
    await arqestra_pool.signal(late.job_id, "approved", "yes")
    drained = await drain(arqestra_pool, [jobs.approval])
    assert drained.of(jobs.approval)[0].value == "yes"
    await arqestra_pool.enqueue(jobs.approval)
    drained = await drain(arqestra_pool, [jobs.approval])
    assert drained.of(jobs.approval)[0].value == "nobody said yes"


async def test_a_workflow_that_waits_for_ever_is_left(arqestra_pool: Pool, arqestra_clock: Clock) -> None:
    begin = arqestra_clock.now()
    handle = await arqestra_pool.enqueue(jobs.until_somebody_comes)
    assert handle is not None
    await arqestra_pool.enqueue_job("add", 1, _defer_by=100 * 86_400)
    assert (await drain(arqestra_pool, [jobs.until_somebody_comes, jobs.add], timeout=20)).complete == 1
    assert timedelta(days=100) <= arqestra_clock.now() - begin < timedelta(days=101)
    assert [each.state for each in await enqueued(arqestra_pool)] == ["waiting"]
    await arqestra_pool.signal(handle.job_id, "somebody", "ada")
    assert (await drain(arqestra_pool, [jobs.until_somebody_comes])).outcomes[0].value == "ada"


async def test_a_job_that_drains_is_told_so(arqestra_pool: Pool) -> None:
    async def drains(ctx: dict[Any, Any]) -> None:
        await drain(ctx["redis"], [jobs.add])

    await arqestra_pool.enqueue_job("drains")
    drained = await drain(arqestra_pool, [func(drains, name="drains")], timeout=20)
    assert str(drained.outcomes[0].error) == "drain: expected a call by a test, got one by the job drains that runs"
    assert (await perform(drains, _pool=arqestra_pool)).state == "complete"


async def test_schedules_and_cron_jobs_fire_on_the_way(arqestra_pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    settings: dict[str, Any] = {
        "functions": [jobs.tick],
        "cron_jobs": [cron(jobs.tick, hour=3, minute=0, name="nightly")],
        "schedules": [schedule(every("1h"), "tick", name="hourly")],
    }
    drained = await drain(arqestra_pool, settings, travel="3 days")
    counts = Counter(outcome.function for outcome in drained.outcomes)
    assert counts == {"nightly": 3, "tick": 72}
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


async def test_cron_jobs_that_are_not_unique_fire_too(arqestra_pool: Pool) -> None:
    settings = {"functions": [], "cron_jobs": [cron(jobs.tick, hour=3, minute=0, unique=False)]}
    assert (await drain(arqestra_pool, settings, travel="2 days")).complete == 2


async def test_until_a_job_has_ended(arqestra_pool: Pool) -> None:
    handles = [await arqestra_pool.enqueue_job("add", hours, _defer_by=hours * 3600) for hours in (1, 2, 3)]
    drained = await drain(arqestra_pool, [jobs.add], until=handles[1])
    assert [outcome.args for outcome in drained.outcomes] == [(1,), (2,)]
    assert len(await enqueued(arqestra_pool)) == 1


async def test_until_a_job_that_has_ended_before(arqestra_pool: Pool) -> None:
    ended = await arqestra_pool.enqueue_job("add", 1)
    await drain(arqestra_pool, [jobs.add])
    await arqestra_pool.enqueue_job("add", 2, _defer_by=60)
    assert (await drain(arqestra_pool, [jobs.add], until=ended)).outcomes == []


async def test_until_something_holds(arqestra_pool: Pool) -> None:
    for hours in (1, 2, 3):
        await arqestra_pool.enqueue_job("add", hours, _defer_by=hours * 3600)

    async def one_left() -> bool:
        return len(await enqueued(arqestra_pool)) == 1

    assert (await drain(arqestra_pool, [jobs.add], until=one_left)).complete == 2


async def test_a_drain_that_takes_too_long_says_what_is_left(arqestra_pool: Pool) -> None:
    await arqestra_pool.enqueue_job("snoozes", _job_id="again")
    with pytest.raises(TimeoutError, match=r"within 0.5 s; <Drained .* snooze>, left are again \(\w+\) in arq:queue"):
        await drain(arqestra_pool, [jobs.snoozes], timeout=0.5)


async def test_an_application_s_settings(arqestra_pool: Pool) -> None:
    seen: list[str] = []

    class Settings:
        functions = (jobs.add, jobs.retries)
        max_jobs = 3
        queue_name = "arq:queue"
        redis_settings = "redis://nowhere:1"

        @staticmethod
        async def on_startup(ctx: dict[Any, Any]) -> None:
            seen.append("startup")

    await arqestra_pool.enqueue_job("add", 1)
    assert (await drain(arqestra_pool, Settings)).complete == 1
    assert seen == ["startup"]


async def test_the_ctx_of_a_test_goes_over_that_of_the_settings(arqestra_pool: Pool) -> None:
    async def shows(ctx: dict[Any, Any]) -> tuple[str, str]:
        return ctx["mailer"], ctx["database"]

    settings = {"functions": [func(shows, name="shows")], "ctx": {"mailer": "real", "database": "real"}}
    await arqestra_pool.enqueue_job("shows")
    drained = await drain(arqestra_pool, settings, ctx={"mailer": "fake"})
    assert drained.outcomes[0].value == ("fake", "real")
    assert settings["ctx"] == {"mailer": "real", "database": "real"}


async def test_cron_jobs_are_found_by_their_function(arqestra_pool: Pool) -> None:
    async def plain(ctx: dict[Any, Any]) -> int:
        return 1

    settings = {"functions": [], "cron_jobs": [cron(jobs.tick, hour=3, minute=0), cron(plain, hour=4, minute=0)]}
    drained = await drain(arqestra_pool, settings, travel="2 days")
    assert [len(drained.of(function)) for function in (jobs.tick, plain, jobs.add, "cron:tick")] == [2, 2, 0, 2]


async def test_outcomes_are_told_in_a_line_without_secrets(arqestra_pool: Pool) -> None:
    async def log_in(ctx: dict[Any, Any], user: str, password: str, **more: Any) -> dict[str, str]:
        if ctx["job_try"] == 1:
            raise Retry(defer=5)
        return {"user": user, "token": "t0ken"}

    await arqestra_pool.enqueue_job("log_in", "ada", "s3cret", api_key="k3y")
    drained = await drain(arqestra_pool, [func(log_in, name="log_in")])
    call = "log_in('ada', '[redacted]', api_key='[redacted]')"
    assert [repr(outcome) for outcome in drained.outcomes] == [
        f"<retry {call}, again in 5 s: <Retry defer 5.00s>>",
        f"<complete {call}, try 2 -> {{'user': 'ada', 'token': '[redacted]'}}>",
    ]


async def test_jobs_of_a_live_worker_are_waited_for(arqestra_pool: Pool, arqestra_worker: Any) -> None:
    """Its lease is no due time: the clock does not run away."""
    goes_on = asyncio.Event()

    async def waits(ctx: dict[Any, Any]) -> str:
        await goes_on.wait()
        return f"try {ctx['job_try']}"

    functions = [func(waits, name="waits"), jobs.add]
    handle = await arqestra_pool.enqueue_job("waits")
    assert handle is not None
    async with arqestra_worker(functions).running() as worker:
        await wait_until(lambda: worker.slots.running)
        later = await arqestra_pool.enqueue_job("add", 1, _defer_by=3600)
        draining = asyncio.create_task(drain(arqestra_pool, functions))
        await asyncio.sleep(0.1)
        assert not draining.done()
        goes_on.set()
        await draining
        assert await handle.result(timeout=5) == "try 1"
        assert later is not None
        assert await later.result(timeout=5) == 1


async def test_a_function_that_is_not_there_fails_its_jobs_at_once(arqestra_pool: Pool) -> None:
    await arqestra_pool.enqueue_job("add", 1)
    drained = await drain(arqestra_pool, [jobs.tick])
    assert [(outcome.state, str(outcome.error)) for outcome in drained.outcomes] == [
        ("failed", "function 'add' not found")
    ]
    assert repr(drained.outcomes[0]) == (
        "<failed add(1): JobExecutionFailed(\"function 'add' not found\"); drain has the functions 'tick'>"
    )


async def test_an_id_is_free_again_when_its_result_has_expired(arqestra_pool: Pool) -> None:
    """As in production; at the end the last result can be read."""

    async def again(ctx: dict[Any, Any], day: int) -> int:
        if day < 5:
            assert await ctx["redis"].enqueue_job("later", day + 1, _defer_by=86_400)
        return day

    async def later(ctx: dict[Any, Any], day: int) -> bool:
        return await ctx["redis"].enqueue_job("again", day, _job_id="daily") is not None

    handle = await arqestra_pool.enqueue_job("again", 1, _job_id="daily")
    assert handle is not None
    drained = await drain(arqestra_pool, [func(again, name="again"), func(later, name="later")])
    assert [outcome.value for outcome in drained.of("again")] == [1, 2, 3, 4, 5]
    assert await handle.result(timeout=5) == 5


async def test_bad_arguments(arqestra_pool: Pool) -> None:
    with pytest.raises(SettingsError, match="travel: expected 0 or more seconds"):
        await drain(arqestra_pool, [jobs.add], travel="a while")
    with pytest.raises(SettingsError, match="until: expected a function or a Job, got True"):
        await drain(arqestra_pool, [jobs.add], until=True)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="got both"):
        await drain(arqestra_pool, [jobs.add], travel=1, with_scheduled=False)
    with pytest.raises(SettingsError, match="expected job functions or a worker's settings"):
        await drain(arqestra_pool, "jobs")
    with pytest.raises(SettingsError, match="no_such_setting"):
        await drain(arqestra_pool, [jobs.add], no_such_setting=1)


@pytest.mark.parametrize("text", ["1 day", "24 hours", "1d", "1440 minutes", "1 day 0 seconds", "86400s"])
async def test_lengths_of_time_in_words(arqestra_pool: Pool, arqestra_clock: Clock, text: str) -> None:
    begin = arqestra_clock.now()
    await drain(arqestra_pool, [jobs.add], travel=text)
    assert timedelta(days=1) <= arqestra_clock.now() - begin < timedelta(days=1, minutes=1)
