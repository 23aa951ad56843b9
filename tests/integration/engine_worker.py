"""A worker in the test's own process, ready when the test goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from arqestra import Job, Pool, Worker
from arqestra.protocol.wire import decode_payload
from arqestra.store.health import redis_time_ms
from tests.integration import engine_jobs as jobs
from tests.support.wait import wait_until


async def until_too_late(pool: Pool, job: Job[Any]) -> None:
    """Wait until a job that expires must not start: the producer knows Redis' clock to half a round trip only."""
    deadline_ms = decode_payload(pool.serializer, await pool.get(pool.store.keys.job(job.job_id))).options["x"]

    async def is_too_late() -> bool:
        return await redis_time_ms(pool) > deadline_ms

    await wait_until(is_too_late, "Redis' clock is past the deadline")


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


def url_of(pool: Pool) -> str:
    options = pool.connection_pool.connection_kwargs
    return f"unix://{options['path']}" if "path" in options else f"redis://{options['host']}:{options['port']}"
