"""`arqestra events`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from arqestra import Pool, Worker
from arqestra.cli.events import EventFilter
from arqestra.protocol.events import Event
from tests.support.command_line import CommandLine, plain
from tests.support.repository import REPOSITORY
from tests.support.wait import wait_until


@pytest.fixture
def listening(pool: Pool) -> Callable[[], Any]:
    """Waits until somebody listens."""

    async def wait(listeners: int = 1) -> None:
        async def listened() -> bool:
            ((_, number),) = await pool.pubsub_numsub(pool.store.keys.events)
            return int(number) == listeners

        await wait_until(listened)

    return wait


async def test_what_happens_is_told(
    arqestra: CommandLine, pool: Pool, working: Worker, listening: Callable[..., Any]
) -> None:
    async with (
        _process(arqestra, "--function", "fail", "--count", "4") as for_people,
        _process(arqestra, "--kind", "complete", "--kind", "failed", "--json", "--count", "2") as as_json,
    ):
        await listening(2)
        await wait_until(lambda: _told(working))
        await pool.enqueue_job("fail", _job_id="bad")
        await wait_until(pool.job("bad").result_info)
        await pool.enqueue_job("double", 1, _job_id="good")
        lines, documents = [(await asyncio.to_thread(each.communicate, None, 20))[0] for each in (for_people, as_json)]

    assert (for_people.returncode, as_json.returncode) == (0, 0)
    told = [plain(line).split(" ", 1)[1] for line in lines.splitlines()]
    assert told[0] == "started fail bad"
    assert told[1].startswith("retried fail bad ran ")
    assert told[2] == "started fail bad attempt 2"
    assert told[3].startswith("failed fail bad attempt 2 ran ")
    assert told[3].endswith(" ValueError: no good")
    found = [json.loads(line) for line in documents.splitlines()]
    assert [(each["kind"], each["job_id"]) for each in found] == [("failed", "bad"), ("complete", "good")]
    assert found[0]["error"] == "ValueError: no good"


async def _told(worker: Worker) -> bool:
    return worker.reporter.publisher.listened


@pytest.mark.parametrize(
    ("kinds", "function", "queue", "wanted"),
    [
        (None, None, None, ["failed", "started", "worker-started", "dropped"]),
        (["failed"], None, None, ["failed", "dropped"]),
        (None, "fetch", None, ["failed", "dropped"]),
        (None, None, "mail", ["started", "dropped"]),
    ],
)
def test_filters(kinds: list[str] | None, function: str | None, queue: str | None, wanted: list[str]) -> None:
    happened = [
        Event("failed", 1, "w", "a", "fetch", "arq:queue"),
        Event("started", 1, "w", "b", "send", "mail"),
        Event("worker-started", 1, "w"),
        Event("dropped", 1, "w", count=3),
    ]

    assert [event.kind for event in happened if EventFilter(kinds, function, queue).wants(event)] == wanted


async def test_a_kind_that_is_none(arqestra: CommandLine) -> None:
    ran = await arqestra("events", "--kind", "finished")

    assert (ran.code, ran.out) == (2, "")
    assert "--kind: expected one of started, complete," in ran.err


@contextlib.asynccontextmanager
async def _process(arqestra: CommandLine, *words: str) -> AsyncIterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # noqa: ASYNC220 - it only starts
        [sys.executable, "-m", "arqestra.cli", "events", *words],
        cwd=REPOSITORY,
        env={**os.environ, **arqestra.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_end_it(arqestra: CommandLine, listening: Callable[..., Any], number: signal.Signals) -> None:
    async with _process(arqestra) as process:
        await listening()
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == "events from now on; Ctrl-C ends\n"


async def test_a_closed_pipe_ends_it_although_nothing_happens(
    arqestra: CommandLine, listening: Callable[..., Any]
) -> None:
    async with _process(arqestra) as process:
        await listening()
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


async def test_lines_come_at_once_and_the_connection_is_made_again(
    arqestra: CommandLine, pool: Pool, working: Worker, listening: Callable[..., Any]
) -> None:
    async with _process(arqestra, "--kind", "complete") as process:
        for number in range(2):
            await listening()
            await wait_until(lambda: _told(working))
            await pool.enqueue_job("double", 1, _job_id=f"job{number}")
            assert process.stdout is not None
            line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 20)
            assert f"job{number}" in line
            await pool.client_kill_filter(_type="pubsub")
            await listening()
