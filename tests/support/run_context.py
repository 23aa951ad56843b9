"""A `RunContext` without a worker, for the stages of a run that do no I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from arqestra import func
from arqestra.protocol.serializers import serializer_of
from arqestra.worker.run.context import Hooks, JobCounts, RunContext, StickyWorkflows
from arqestra.worker.run.effective_options import effective_options
from arqestra.worker.settings import WorkerOptions

NOTHING = cast(Any, None)  # what the stages under test do not use


def run_context(function: Callable[..., Any], **settings: Any) -> RunContext:
    """The context of a worker with one job function, under the JSON serializer."""
    options = WorkerOptions.of({"functions": [function], **settings})
    serializer = serializer_of("json", None, None)
    made = func(function)
    return RunContext(
        loop=asyncio.get_running_loop(),
        worker_id="w1",
        queue_name="q",
        pool=NOTHING,
        store=NOTHING,
        serializer=serializer,
        options=options,
        functions={made.name: effective_options(made, options, serializer)},
        ctx={},
        slots=NOTHING,
        outbox=NOTHING,
        publisher=NOTHING,
        counters=NOTHING,
        reporter=NOTHING,
        executors=NOTHING,
        hooks=Hooks(),
        counts=JobCounts(),
        workflows=StickyWorkflows(),
        is_stopping=lambda: False,
        cron_id_ms=lambda _: 0,
    )
