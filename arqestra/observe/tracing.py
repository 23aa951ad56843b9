"""OpenTelemetry spans of enqueues and runs, by its conventions for messaging. Needs `pip install arqestra[otel]`.

    pool = await create_pool(middleware=[TracingMiddleware()])

    @worker_settings
    class WorkerSettings:
        middleware = [TracingMiddleware()]

WHICH SPAN BELONGS TO WHICH. An enqueue is a PRODUCER span, a child of the current span. An enqueue of many jobs, a flow
and the steps that a workflow starts at once are one span each, with the number of messages. The context of the span
travels in the job's headers (`traceparent`, or whatever the propagators of the process write). An attempt is a CONSUMER
span, and the enqueue is its parent: a job is one message that one request caused, and people look for both in one
trace. The conventions want a link where a consumer has messages of several producers; a job never has. With
`new_traces=True` each attempt begins its own trace, which links to the enqueue: use it for jobs that run long after the
request. Each further attempt links to the attempt before.

Names are those of OpenTelemetry's "Semantic conventions for messaging spans" (in development there): operation types
"send" and "process", span names "<operation> <destination>". Spans carry no arguments.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

try:
    from opentelemetry import context as otel_context
    from opentelemetry import propagate, trace
except ImportError as error:
    raise ImportError("tracing needs OpenTelemetry's API: pip install 'arqestra[otel]'") from error
from arq.worker import Retry, RetryJob
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

from ..definitions.context import RunningJob, cancelled_by
from ..definitions.middleware import EnqueuedBatch, EnqueuedCall, Middleware
from ..definitions.retry import Cancel, Snooze

__all__ = ("TracingMiddleware",)

SYSTEM = "arqestra"
SEND, PROCESS = "send", "process"
PREVIOUS = "arqestra-attempt-"  # prefix of the headers that carry the context of the previous attempt
OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (Retry, "retried"),
    (RetryJob, "retried"),
    (Snooze, "snoozed"),
    (Cancel, "cancelled"),
)


class TracingMiddleware(Middleware):
    """Spans of enqueues and attempts.

    :param tracer_provider: default the global one
    :param new_traces: each attempt begins its own trace, which links to the enqueue; else it is a child of the enqueue
    """

    def __init__(self, tracer_provider: TracerProvider | None = None, *, new_traces: bool = False) -> None:
        self._tracer = trace.get_tracer("arqestra", tracer_provider=tracer_provider)
        self._new_traces = new_traces

    @asynccontextmanager
    async def around_enqueue(self, call: EnqueuedCall) -> AsyncIterator[None]:
        """Put a producer span around the enqueue of one job."""
        attributes = {"arqestra.job.function": call.function}
        with self._sending({call.queue}, attributes) as span:
            _inject(span, call.headers)
            yield
            if call.job_id is not None:
                span.set_attribute("messaging.message.id", call.job_id)
            span.set_attribute("arqestra.enqueue.accepted", call.job_id is not None)

    @asynccontextmanager
    async def around_enqueue_batch(self, batch: EnqueuedBatch) -> AsyncIterator[None]:
        """Put one producer span around the enqueue of many jobs; each job carries its context."""
        functions = sorted({call.function for call in batch.calls})
        attributes: dict[str, Any] = {"messaging.batch.message_count": len(batch.calls)}
        if len(functions) == 1:
            attributes["arqestra.job.function"] = functions[0]
        if batch.flow_id is not None:
            attributes["arqestra.flow.id"] = batch.flow_id
        with self._sending({call.queue for call in batch.calls}, attributes) as span:
            for call in batch.calls:
                _inject(span, call.headers)
            yield

    def _sending(self, queues: set[str], attributes: Mapping[str, Any]) -> "_Sending":
        return _Sending(self._tracer.start_span(**_span_of(SEND, SpanKind.PRODUCER, queues, attributes)))

    @asynccontextmanager
    async def around_run(self, job: RunningJob) -> AsyncIterator[None]:
        """Put a consumer span around one attempt."""
        attributes = {
            "messaging.message.id": job.job_id,
            "arqestra.job.function": job.function,
            "arqestra.job.attempt": job.job_try,
        }
        sent = propagate.extract(job.headers, otel_context.Context())
        links = [*_links_of(_previous_context(job.headers)), *(_links_of(sent) if self._new_traces else ())]
        if self._new_traces:
            sent = otel_context.Context()
        span = self._tracer.start_span(
            context=sent, links=links, **_span_of(PROCESS, SpanKind.CONSUMER, {job.queue}, attributes)
        )
        if span.get_span_context().is_valid:
            for name, text in _context_headers(span).items():
                job.carry[PREVIOUS + name] = text
        token = otel_context.attach(trace.set_span_in_context(span, sent))
        try:
            yield
        except BaseException as error:
            _record_outcome(span, error)
            raise
        finally:
            otel_context.detach(token)
            span.end()


class _Sending:
    """A span that is never the current one: another task may end it, and many may be open at once."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        return self._span

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            _record_failure(self._span, error)
        self._span.end()


def _span_of(operation: str, kind: SpanKind, queues: set[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `start_span`."""
    common: dict[str, Any] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }
    name = operation
    if len(queues) == 1:
        (queue,) = queues
        common["messaging.destination.name"] = queue
        name = f"{operation} {queue}"
    return {
        "name": name,
        "kind": kind,
        "attributes": {**common, **attributes},
        "record_exception": False,
        "set_status_on_exception": False,
    }


def _inject(span: Span, headers: dict[str, str]) -> None:
    """Put the span's context into the headers of a job, unless its producer set another one."""
    if "traceparent" not in headers:
        propagate.inject(headers, trace.set_span_in_context(span))


def _context_headers(span: Span) -> dict[str, str]:
    headers: dict[str, str] = {}
    _inject(span, headers)
    return {name: text for name, text in headers.items() if name != "baggage"}


def _previous_context(headers: Mapping[str, str]) -> otel_context.Context:
    """The context of the previous attempt."""
    carried = {name.removeprefix(PREVIOUS): text for name, text in headers.items() if name.startswith(PREVIOUS)}
    return propagate.extract(carried, otel_context.Context()) if carried else otel_context.Context()


def _links_of(context: otel_context.Context) -> list[Link]:
    linked = trace.get_current_span(context).get_span_context()
    return [Link(linked)] if linked.is_valid else []


def _record_outcome(span: Span, error: BaseException) -> None:
    """Record what an attempt raised: a failure, or an outcome that the job or somebody else asked for."""
    for kind, outcome in OUTCOMES:
        if isinstance(error, kind):
            span.set_attribute("arqestra.job.outcome", outcome)
            return
    if isinstance(error, asyncio.CancelledError):
        reason = cancelled_by()
        span.set_attribute("arqestra.job.outcome", reason or "cancelled")
        if reason == "timeout":
            _record_failure(span, TimeoutError("the job ran over its time limit"))
        return
    span.set_attribute("arqestra.job.outcome", "failed")
    _record_failure(span, error)


def _record_failure(span: Span, error: BaseException) -> None:
    span.record_exception(error)
    span.set_attribute("error.type", _class_name(error))
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))


def _class_name(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
