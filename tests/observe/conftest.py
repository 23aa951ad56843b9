"""Spans in memory, a pool and workers that make them."""

from __future__ import annotations

import asyncio
import logging
import logging.config
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from arqestra import Pool, Worker, create_pool
from arqestra.observe.tracing import TracingMiddleware
from tests.observe import traced_jobs as jobs
from tests.observe.log_lines import Lines
from tests.support.workers import worker_running

Working = Callable[..., AbstractAsyncContextManager[Worker]]


class Spans:
    """What was traced."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests")

    def all(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def of(self, operation: str, **attributes: Any) -> list[ReadableSpan]:
        """Spans of an operation with attributes of ours, by time: `of("process", function="add")`."""
        wanted = {f"arqestra.job.{name}": value for name, value in attributes.items()}
        found = [
            span
            for span in self.all()
            if attributes_of(span)["messaging.operation.name"] == operation
            and all(attributes_of(span).get(name) == value for name, value in wanted.items())
        ]
        return sorted(found, key=lambda span: span.start_time or 0)

    def one(self, operation: str, **attributes: Any) -> ReadableSpan:
        (span,) = self.of(operation, **attributes)
        return span


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def is_child(span: ReadableSpan, parent: ReadableSpan | trace.Span) -> bool:
    context = parent.get_span_context()
    return (
        span.parent is not None
        and context is not None
        and span.parent.span_id == context.span_id
        and span.context.trace_id == context.trace_id
    )


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    yield spans
    spans.provider.shutdown()


@pytest.fixture(params=["pickle", "msgpack"])
async def pool(redis_url: str, spans: Spans, request: pytest.FixtureRequest) -> AsyncIterator[Pool]:
    pool = await create_pool(redis_url, serializer=request.param, middleware=[TracingMiddleware(spans.provider)])
    yield pool
    await pool.aclose()


@pytest.fixture
async def plain_pool(redis_url: str) -> AsyncIterator[Pool]:
    """A pool that does not trace."""
    async with await create_pool(redis_url) as pool:
        yield pool


@pytest.fixture
def working(pool: Pool, spans: Spans) -> Working:
    """A worker in this loop that traces; all its spans have ended when it is left."""

    def work(**settings: Any) -> AbstractAsyncContextManager[Worker]:
        options: dict[str, Any] = {
            "functions": jobs.ALL,
            "ctx": {"notes": set(), "started": asyncio.Event()},
            "middleware": [TracingMiddleware(spans.provider)],
            **settings,
        }
        return worker_running(pool, **options)

    return work


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger("arq")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)
