"""Workers in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arqestra import Pool, Worker

from .pools import url_of
from .wait import wait_until

__all__ = ("until_idle", "worker_idle", "worker_running")


@asynccontextmanager
async def worker_running(redis: Pool | Any, **settings: Any) -> AsyncIterator[Worker]:
    """A worker that runs while the test is in here, and that does not end unless it is told to.

    :param redis: a pool, whose server and serializer it shares; or a URL or other `redis_settings`
    :param settings: keywords of `arqestra.Worker`
    """
    if isinstance(redis, Pool):
        settings = {"redis_settings": url_of(redis), "serializer": redis.serializer, **settings}
    else:
        settings = {"redis_settings": redis, **settings}
    worker = Worker(**{"handle_signals": False, **settings})
    running = asyncio.ensure_future(worker.async_run())
    try:
        yield worker
        assert worker.burst or not running.done() or running.cancelled(), (
            f"the worker ended, and nobody told it to: {running}"
        )
    finally:
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)


async def until_idle(pool: Pool, worker: Worker) -> None:
    """Wait until a worker has looked at its queue and waits to be woken."""
    waiting = pool.store.keys.waiting(worker.queue_name)

    async def is_idle() -> bool:
        return await pool.zscore(waiting, worker.worker_id) is not None

    await wait_until(is_idle, "the worker to wait for jobs")


@asynccontextmanager
async def worker_idle(pool: Pool, **settings: Any) -> AsyncIterator[Worker]:
    """`worker_running`, for a queue without jobs that are due: the worker waits to be woken."""
    async with worker_running(pool, **settings) as worker:
        await until_idle(pool, worker)
        yield worker


async def until_looked(worker: Worker) -> None:
    """Wait until a worker has made its first round trip for jobs."""
    await wait_until(lambda: worker.redis_session is not None and worker.sync.round_trips > 0, "a round trip")
