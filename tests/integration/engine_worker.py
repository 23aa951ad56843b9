"""A worker in the test's own process, ready when the test goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from arqestra import Pool, Worker
from tests.integration import engine_jobs as jobs
from tests.support.wait import wait_until
from tests.support.workers import worker_running


def fresh_ctx() -> dict[Any, Any]:
    return {"notes": [], "started": asyncio.Event(), "let_go": asyncio.Event()}


@contextlib.asynccontextmanager
async def working(pool: Pool, **settings: Any) -> AsyncIterator[Worker]:
    """A worker in this loop that has looked at the queue and waits to be woken, or has jobs."""
    async with worker_running(pool, **{"functions": jobs.ALL, "ctx": fresh_ctx(), **settings}) as worker:
        waiting = pool.store.keys.waiting(worker.queue_name)

        async def is_ready() -> bool:
            return bool(worker.tasks) or await pool.zscore(waiting, worker.worker_id) is not None

        await wait_until(is_ready, "the worker to wait for jobs or to have some")
        yield worker
