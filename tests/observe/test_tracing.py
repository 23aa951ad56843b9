"""Spans of enqueues and attempts, read from the SDK's in-memory exporter; real Redis, real workers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from arqestra import JobExecutionFailed, Middleware, Pool, RunningJob, Worker, chain, every, group, schedule
from arqestra.observe.tracing import TracingMiddleware
from tests.observe import traced_jobs as jobs
from tests.observe.conftest import Spans, Working, attributes_of, is_child
from tests.support.replies import accepted
from tests.support.wait import wait_until

QUEUE = "arq:queue"


async def test_a_job_is_a_producer_span_and_a_consumer_span_that_is_its_child(
    pool: Pool, working: Working, spans: Spans
) -> None:
    with spans.tracer.start_as_current_span("request", attributes={"messaging.operation.name": ""}) as request:
        handle = accepted(await pool.enqueue(jobs.add, 1, 2))
    async with working():
        assert await handle.result(timeout=10) == 3

    sent, ran = spans.one("send"), spans.one("process")
    assert is_child(sent, request)
    assert is_child(ran, sent)
    assert (sent.name, sent.kind) == (f"send {QUEUE}", SpanKind.PRODUCER)
    assert attributes_of(sent) == {
        "messaging.system": "arqestra",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": QUEUE,
        "messaging.message.id": handle.job_id,
        "arqestra.job.function": "add",
        "arqestra.enqueue.accepted": True,
    }
    assert (ran.name, ran.kind) == (f"process {QUEUE}", SpanKind.CONSUMER)
    assert attributes_of(ran) == {
        "messaging.system": "arqestra",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": QUEUE,
        "messaging.message.id": handle.job_id,
        "arqestra.job.function": "add",
        "arqestra.job.attempt": 1,
    }
    assert ran.status.status_code is StatusCode.UNSET
    assert not ran.links


async def test_an_enqueue_that_was_refused_says_so(pool: Pool, spans: Spans) -> None:
    await pool.enqueue_job("add", _job_id="a")
    assert await pool.enqueue_job("add", _job_id="a") is None

    first, second = spans.of("send")
    assert attributes_of(first)["messaging.message.id"] == "a"
    assert (attributes_of(first)["arqestra.enqueue.accepted"], attributes_of(second)["arqestra.enqueue.accepted"]) == (
        True,
        False,
    )


async def test_an_enqueue_that_failed_is_an_error(pool: Pool, spans: Spans) -> None:
    pool.max_payload_bytes = 10
    with pytest.raises(Exception, match="max_payload_bytes"):
        await pool.enqueue(jobs.add, 1)

    sent = spans.one("send")
    assert sent.status.status_code is StatusCode.ERROR
    assert attributes_of(sent)["error.type"] == "arqestra.errors.PayloadTooLarge"


async def test_a_job_that_fails_is_an_error_with_its_exception(pool: Pool, working: Working, spans: Spans) -> None:
    async with working():
        with pytest.raises(ValueError, match="no good"):
            await accepted(await pool.enqueue(jobs.fail)).result(timeout=10)

    ran = spans.one("process")
    assert (ran.status.status_code, ran.status.description) == (StatusCode.ERROR, "ValueError: no good")
    assert (attributes_of(ran)["error.type"], attributes_of(ran)["arqestra.job.outcome"]) == ("ValueError", "failed")
    (event,) = ran.events
    assert event.attributes is not None
    assert event.attributes["exception.message"] == "no good"


async def test_a_time_limit_is_an_error(pool: Pool, working: Working, spans: Spans) -> None:
    async with working():
        with pytest.raises(TimeoutError):
            await accepted(await pool.enqueue(jobs.too_slow)).result(timeout=10)

    ran = spans.one("process")
    assert (attributes_of(ran)["arqestra.job.outcome"], attributes_of(ran)["error.type"]) == ("timeout", "TimeoutError")


async def test_an_abort_is_none(pool: Pool, working: Working, spans: Spans) -> None:
    async with working(allow_abort_jobs=True) as worker:
        handle = accepted(await pool.enqueue(jobs.hold))
        await asyncio.wait_for(worker.ctx["started"].wait(), 10)
        assert await handle.abort(timeout=10)

    ran = spans.one("process")
    assert (attributes_of(ran)["arqestra.job.outcome"], ran.status.status_code) == ("abort", StatusCode.UNSET)


@pytest.mark.parametrize("serial", [False, True])
async def test_each_attempt_links_to_the_one_before_also_in_another_worker(
    pool: Pool, working: Working, spans: Spans, serial: bool
) -> None:
    handle = accepted(await pool.enqueue(jobs.again, 2))
    if serial:  # each attempt in a worker of its own
        for _ in range(3):
            async with working(burst=True, max_burst_jobs=1) as worker:

                async def has_run(worker: Worker = worker) -> bool:
                    return worker.jobs_retried + worker.jobs_complete > 0

                await wait_until(has_run, "an attempt has ended")
    else:
        async with working():
            await handle.result(timeout=10)

    sent = spans.one("send")
    first, second, third = spans.of("process")
    assert [attributes_of(span)["arqestra.job.attempt"] for span in (first, second, third)] == [1, 2, 3]
    assert all(is_child(span, sent) for span in (first, second, third))
    assert not first.links
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert [link.context.span_id for link in third.links] == [second.context.span_id]
    assert attributes_of(first)["arqestra.job.outcome"] == "retried"
    assert first.status.status_code is StatusCode.UNSET


async def test_a_retry_by_policy_is_a_failed_attempt_and_its_arguments_stay_as_they_were_enqueued(
    pool: Pool, working: Working, spans: Spans
) -> None:
    async with working():
        assert await accepted(await pool.enqueue(jobs.flaky, [])).result(timeout=10) == 1

    first, second = spans.of("process")
    assert first.status.status_code is StatusCode.ERROR
    assert [link.context.span_id for link in second.links] == [first.context.span_id]


async def test_a_snoozed_job_is_linked_too(pool: Pool, working: Working, spans: Spans) -> None:
    async with working():
        await accepted(await pool.enqueue(jobs.again, 1, "snooze")).result(timeout=10)

    first, second = spans.of("process")
    assert attributes_of(first)["arqestra.job.outcome"] == "snoozed"
    assert [link.context.span_id for link in second.links] == [first.context.span_id]


async def test_a_job_that_is_run_again_links_to_its_last_attempt(pool: Pool, working: Working, spans: Spans) -> None:
    async with working():
        handle = accepted(await pool.enqueue(jobs.fail))
        with pytest.raises(ValueError, match="no good"):
            await handle.result(timeout=10)
        await handle.retry()
        with pytest.raises(ValueError, match="no good"):
            await handle.result(timeout=10)

    first, second = spans.of("process")
    assert [link.context.span_id for link in second.links] == [first.context.span_id]


async def test_attempts_can_begin_traces_of_their_own(pool: Pool, working: Working, spans: Spans) -> None:
    async with working(middleware=[TracingMiddleware(spans.provider, new_traces=True)]):
        await accepted(await pool.enqueue(jobs.again, 1)).result(timeout=10)

    sent = spans.one("send")
    first, second = spans.of("process")
    assert first.parent is None
    assert len({span.context.trace_id for span in (sent, first, second)}) == 3
    assert [link.context.span_id for link in first.links] == [sent.context.span_id]
    assert {link.context.span_id for link in second.links} == {sent.context.span_id, first.context.span_id}


async def test_what_a_job_enqueues_is_its_child(pool: Pool, working: Working, spans: Spans) -> None:
    async with working():
        await accepted(await pool.enqueue(jobs.enqueue_another)).result(timeout=10)

    outer, inner = spans.one("process", function="enqueue_another"), spans.one("send", function="add")
    assert is_child(inner, outer)
    assert is_child(spans.one("process", function="add"), inner)


async def test_a_plain_function_knows_span_and_job_in_its_thread(pool: Pool, working: Working, spans: Spans) -> None:
    async with working():
        handle = accepted(await pool.enqueue(jobs.in_thread))
        told = await handle.result(timeout=10)

    span_id = trace.format_span_id(spans.one("process").context.span_id)
    assert told == f"{handle.job_id} {span_id}"


async def test_jobs_enqueued_together_share_one_span(pool: Pool, working: Working, spans: Spans) -> None:
    async with working():
        handles = await pool.enqueue_many([jobs.add.bind(1), jobs.add.bind(2), jobs.add.bind(3)])
        await asyncio.gather(*(accepted(handle).result(timeout=10) for handle in handles))

    sent = spans.one("send")
    assert attributes_of(sent)["messaging.batch.message_count"] == 3
    ran = spans.of("process", function="add")
    assert len(ran) == 3
    assert all(is_child(span, sent) for span in ran)


async def test_the_nodes_of_a_flow_belong_to_its_enqueue(pool: Pool, working: Working, spans: Spans) -> None:
    async with working():
        flow = await pool.enqueue_flow(chain(group(jobs.add.s(1), jobs.add.s(2)), jobs.in_thread.si()))
        await flow.result(timeout=10)

    sent = spans.one("send")
    assert attributes_of(sent)["messaging.batch.message_count"] == 3
    assert attributes_of(sent)["arqestra.flow.id"] == flow.flow_id
    ran = spans.of("process")
    assert len(ran) == 3
    assert all(is_child(span, sent) for span in ran)


async def test_a_workflow_and_its_steps_are_one_trace(pool: Pool, working: Working, spans: Spans) -> None:
    async with working():
        assert await accepted(await pool.enqueue(jobs.sum_up, 1)).result(timeout=10) == 7

    enqueued = spans.one("send", function="sum_up")
    stay = spans.one("process", function="sum_up")
    assert is_child(stay, enqueued)
    one, two = spans.of("send", function="add")
    assert (
        attributes_of(one)["messaging.batch.message_count"],
        attributes_of(two)["messaging.batch.message_count"],
    ) == (1, 2)
    assert is_child(one, stay)
    assert is_child(two, stay)
    first, second, third = spans.of("process", function="add")
    assert is_child(first, one)
    assert is_child(second, two)
    assert is_child(third, two)


async def test_a_workflow_that_is_replayed_elsewhere_goes_on_in_its_trace(
    pool: Pool, working: Working, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arqestra.worker.run.workflows.PARK_AFTER_S", 0.0)
    async with working():
        assert await accepted(await pool.enqueue(jobs.sum_up, 1)).result(timeout=10) == 7

    enqueued = spans.one("send", function="sum_up")
    stays = spans.of("process", function="sum_up")
    assert len(stays) > 1
    assert all(is_child(stay, enqueued) for stay in stays)
    for before, stay in itertools.pairwise(stays):
        assert [link.context.span_id for link in stay.links] == [before.context.span_id]
    assert len(spans.of("process", function="add")) == 3  # nothing was enqueued again


async def test_a_workflow_that_fails_is_an_error(pool: Pool, working: Working, spans: Spans) -> None:
    async with working():
        with pytest.raises(ValueError, match="no good"):
            await accepted(await pool.enqueue(jobs.breaks)).result(timeout=10)

    assert attributes_of(spans.one("process", function="breaks"))["error.type"] == "ValueError"


async def test_a_middleware_cannot_swallow_the_end_of_a_workflow(pool: Pool, working: Working) -> None:
    class Swallowing(Middleware):
        @contextlib.asynccontextmanager
        async def around_run(self, job: RunningJob) -> AsyncIterator[None]:
            with contextlib.suppress(Exception):
                yield

    async with working(middleware=[Swallowing()]):
        with pytest.raises(ValueError, match="no good"):
            await accepted(await pool.enqueue(jobs.breaks)).result(timeout=10)


async def test_the_jobs_of_a_schedule_are_traced_from_its_tick(pool: Pool, working: Working, spans: Spans) -> None:
    async with working():
        await pool.schedules.upsert(schedule(every(1), jobs.add, name="sums", args=[1]))

        async def has_run() -> bool:
            return bool(spans.of("process", function="add"))

        await wait_until(has_run, "the schedule's job has run")
        await pool.schedules.remove("sums")

    sent, ran = spans.of("send")[0], spans.of("process")[0]
    assert sent.parent is None
    assert is_child(ran, sent)
    assert attributes_of(sent)["messaging.message.id"] == attributes_of(ran)["messaging.message.id"]


async def test_a_context_that_the_enqueuer_chose_stays(pool: Pool, working: Working, spans: Spans) -> None:
    chosen = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with working():
        handle = accepted(await pool.enqueue(jobs.add.options(headers={"traceparent": chosen})))
        await handle.result(timeout=10)

    assert trace.format_trace_id(spans.one("process").context.trace_id) == chosen.split("-")[1]


async def test_a_worker_without_tracing_runs_traced_jobs_and_the_other_way_round(
    pool: Pool, working: Working, spans: Spans
) -> None:
    async with working(middleware=[]):
        assert await accepted(await pool.enqueue(jobs.again, 1)).result(timeout=10) == 2
    assert spans.of("process") == []
    pool.middleware = ()
    async with working():
        assert await accepted(await pool.enqueue(jobs.add, 1)).result(timeout=10) == 1
    assert spans.one("process").parent is None


async def test_without_a_provider_nothing_is_recorded_and_jobs_run(pool: Pool, working: Working) -> None:
    off = TracingMiddleware(trace.NoOpTracerProvider())
    pool.middleware = (off,)
    async with working(middleware=[off]):
        handle = accepted(await pool.enqueue(jobs.again, 1))
        assert await handle.result(timeout=10) == 2


async def test_traces_that_are_not_sampled_are_not_sampled_in_the_worker_either(pool: Pool, working: Working) -> None:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    pool.middleware = (TracingMiddleware(provider),)
    spans = Spans()
    async with working(middleware=[TracingMiddleware(spans.provider)]):
        await accepted(await pool.enqueue(jobs.add, 1)).result(timeout=10)

    assert spans.all() == []


async def test_an_unknown_function_has_no_consumer_span(pool: Pool, working: Working, spans: Spans) -> None:
    async with working(unknown_functions="fail"):
        with pytest.raises(JobExecutionFailed, match="not found"):
            await accepted(await pool.enqueue_job("nobody")).result(timeout=10)

    assert spans.of("process") == []


def test_the_library_does_not_import_opentelemetry() -> None:
    code = "import sys, arqestra; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
