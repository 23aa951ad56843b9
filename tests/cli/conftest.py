"""A Redis, a pool, and the command line as a user calls it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from arqestra import Pool, Worker, create_pool
from arqestra.cli import app
from tests.cli.cli_jobs import WorkerSettings
from tests.support.repository import REPOSITORY
from tests.support.wait import wait_until


class Ran(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output, which is to be one JSON document."""
        assert self.out, f"exit code {self.code}: {self.err}"
        return json.loads(self.out)


class CommandLine:
    """`arqestra ...` with a Redis.

    :param url: of the Redis
    """

    def __init__(self, url: str) -> None:
        self.environment = {"REDIS_URL": url, "ARQESTRA_SERIALIZER": "msgpack", "NO_COLOR": "1"}

    async def __call__(self, *words: str) -> Ran:
        """In a thread of this process: the command has an event loop of its own."""
        return await asyncio.to_thread(self._run, words)

    def _run(self, words: tuple[str, ...]) -> Ran:
        result = CliRunner().invoke(app, list(words), env=self.environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    def process(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """As a process, without a terminal."""
        environment = {**os.environ, **self.environment, **options.pop("env", {})}
        return subprocess.run(
            [sys.executable, "-m", "arqestra.cli", *words],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def arqestra(redis_url: str) -> CommandLine:
    return CommandLine(redis_url)


@pytest.fixture
async def pool(redis_url: str) -> AsyncIterator[Pool]:
    pool = await create_pool(redis_url, serializer="msgpack")
    yield pool
    await pool.aclose()


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


def plain(text: str) -> str:
    """Text with each run of spaces as one, whatever the width of a table was."""
    return re.sub(r"[ \t]+", " ", text)
