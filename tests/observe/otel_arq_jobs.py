"""The same jobs for stock arq and for arqestra under `opentelemetry-instrumentation-arq`.

`python -m tests.observe.otel_arq_jobs <engine> <first|last>`: enqueues, runs, and prints the spans as JSON. The second
argument says whether arq is instrumented before arqestra is imported or after it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

ENGINE, WHEN = sys.argv[1:]
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)


def instrument() -> None:
    from opentelemetry.instrumentation.arq import ArqInstrumentor

    ArqInstrumentor().instrument()


if WHEN == "first":
    instrument()
import arq  # noqa: E402
import arq.worker  # noqa: E402
from arq.connections import RedisSettings  # noqa: E402

import arqestra  # noqa: E402

if WHEN == "last":
    instrument()


async def add(ctx: dict[Any, Any], *numbers: int, **more: int) -> int:
    return sum(numbers) + sum(more.values())


async def fail(ctx: dict[Any, Any]) -> None:
    raise ValueError("no good")


async def again(ctx: dict[Any, Any]) -> None:
    if ctx["job_try"] == 1:
        raise arq.Retry()


async def parent(ctx: dict[Any, Any]) -> None:
    await ctx["redis"].enqueue_job("add", 1, two=2)


@arqestra.job
def in_thread(ctx: dict[Any, Any]) -> int:
    return int(trace.get_current_span().get_span_context().is_valid)


@arqestra.job(concurrency=arqestra.ConcurrencyLimit(1, key=lambda number: number), unique=True)
async def double(ctx: dict[Any, Any], /, number: int, **more: int) -> int:
    """Limited and unique by its arguments, to which the instrumentation adds one."""
    assert not more
    return 2 * number


@arqestra.workflow
async def steps(flow: arqestra.Flow) -> int:
    first = await flow.run(double.s(1))
    await flow.sleep(0.01)
    return await flow.run(double.s(first))


async def common(pool: Any) -> None:
    await pool.enqueue_job("add", 1, 2, _job_id="one")
    await pool.enqueue_job("add", 3, _job_id="one")  # refused
    for name in ("fail", "again", "parent"):
        await pool.enqueue_job(name)


async def only_ours(pool: Any) -> list[Any]:
    many = await pool.enqueue_many([double.bind(1), ("double", (2,))])
    assert await pool.enqueue(double, 1) is None  # it is unique
    flow = await pool.enqueue_flow(arqestra.chain(double.s(1), double.s()))
    run = await pool.enqueue(steps)
    return [*many, await pool.enqueue(in_thread), flow, run]


async def main() -> None:
    settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
    functions: list[Any] = [add, fail, again, parent]
    options: dict[str, Any] = {"burst": True, "handle_signals": False, "poll_delay": 0.05, "redis_settings": settings}
    if ENGINE == "ours":
        options["serializer"] = "msgpack"
        pool: Any = await arqestra.create_pool(settings, serializer="msgpack")
    else:
        pool = await arq.create_pool(settings)
    handles = []
    with trace.get_tracer("test").start_as_current_span("request"):
        await common(pool)
        if ENGINE == "ours":
            handles = await only_ours(pool)
    if ENGINE == "arq":
        worker: Any = arq.worker.Worker(functions, **options)
    else:
        worker = arqestra.Worker([*functions, in_thread, double, steps], **options)
    await worker.async_run()
    results = [await handle.result(timeout=10) for handle in handles]
    await worker.close()
    await pool.aclose()
    print(json.dumps({"results": results, "spans": told()}))


def told() -> list[dict[str, Any]]:
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    return [
        {
            "name": span.name,
            "kind": span.kind.name,
            "parent": None if span.parent is None else names[span.parent.span_id],
            "status": span.status.status_code.name,
            "attributes": {name: value for name, value in (span.attributes or {}).items() if name != "arq.job.score"},
            "events": [event.name for event in span.events],
            "one trace": span.context.trace_id == spans[0].context.trace_id,
        }
        for span in spans
    ]


asyncio.run(main())
