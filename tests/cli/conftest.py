"""A Redis, a pool, and the command line as a user calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from arqestra import Pool, Worker
from tests.cli.cli_jobs import WorkerSettings
from tests.support.command_line import CommandLine
from tests.support.pools import serializers, url_of
from tests.support.workers import worker_idle


@pytest.fixture
def arqestra(redis_url: str) -> CommandLine:
    return CommandLine(redis_url)


serializer = serializers("msgpack")


@pytest.fixture
async def working(pool: Pool) -> AsyncIterator[Worker]:
    """A worker in this loop that waits for jobs."""
    options = {name: value for name, value in vars(WorkerSettings).items() if not name.startswith("_")}
    async with worker_idle(pool, **{**options, "redis_settings": url_of(pool)}) as worker:
        yield worker
