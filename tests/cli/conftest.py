"""A Redis, a pool, and the command line as a user calls it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from arqestra import Pool, Worker
from tests.cli.cli_jobs import WorkerSettings
from tests.support.command_line import CommandLine
from tests.support.pools import serializers
from tests.support.wait import wait_until


@pytest.fixture
def arqestra(redis_url: str) -> CommandLine:
    return CommandLine(redis_url)


serializer = serializers("msgpack")


@pytest.fixture
async def working(redis_url: str, pool: Pool) -> AsyncIterator[Worker]:
    """A worker in this loop that waits for jobs."""
    options = {name: value for name, value in vars(WorkerSettings).items() if not name.startswith("_")}
    worker = Worker(**{**options, "redis_settings": redis_url, "handle_signals": False})
    running = asyncio.ensure_future(worker.async_run())
    try:
        await wait_until(lambda: pool.zscore(pool.store.keys.waiting(worker.queue_name), worker.worker_id))
        yield worker
    finally:
        await worker.close()
        with contextlib.suppress(asyncio.CancelledError):
            await running
