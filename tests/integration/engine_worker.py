"""A worker in the test's own process, ready when the test goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from arqestra import Pool, Worker
from tests.integration import engine_jobs as jobs
from tests.support.pools import url_of
from tests.support.wait import wait_until


def fresh_ctx() -> dict[Any, Any]:
    return {"notes": [], "started": asyncio.Event(), "let_go": asyncio.Event()}


@contextlib.asynccontextmanager
async def working(pool: Pool, **settings: Any) -> AsyncIterator[Worker]:
    """A worker in this loop that has looked at the queue and waits to be woken."""
    settings = {
        "redis_settings": url_of(pool),
        "serializer": pool.serializer,
        "handle_signals": False,
        "ctx": fresh_ctx(),
        **settings,
    }
    worker = Worker(jobs.ALL, **settings)
    running = asyncio.ensure_future(worker.async_run())
    try:
        waiting = pool.store.keys.waiting(worker.queue_name)

        async def is_ready() -> bool:
            assert not running.done(), running.exception()
            return await pool.zscore(waiting, worker.worker_id) is not None or bool(worker.tasks)

        await wait_until(is_ready, "the worker waits for jobs or has some")
        yield worker
    finally:
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)
