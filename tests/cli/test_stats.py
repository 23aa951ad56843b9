"""`arqestra stats`, and the picture of its live view."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from arqestra import Pool, Worker
from arqestra.cli import fleet as cli_fleet
from arqestra.cli import output, watch
from arqestra.cli.fleet import COUNTERS, Fleet, History
from arqestra.cli.output import Output, progress_text, sparkline
from arqestra.cli.screen import Screen, share_lines
from arqestra.cli.shell import Shell
from arqestra.embedded import EmbeddedRedis
from arqestra.protocol.presence import JobOnWorker, Presence, WorkerInfo
from arqestra.protocol.recent_jobs import EndedJob, Failure
from arqestra.store.queues import QueueSurvey
from tests.support.command_line import IN_A_TERMINAL, CommandLine, plain
from tests.support.repository import REPOSITORY
from tests.support.wait import wait_until

NOW_MS = 1_800_000_000_000
NOTHING = dict.fromkeys(COUNTERS, 0)


@pytest.fixture
async def counted(pool: Pool, working: Worker) -> None:
    """Two jobs that are complete and one that failed, counted."""
    for function in ("double", "double", "fail"):
        await pool.enqueue_job(function, 1)

    async def all_counted() -> bool:
        rows = await pool.statistics()
        return sum(row["complete"] + row["failed"] for row in rows) == 3

    await wait_until(all_counted)


async def test_a_table(arqestra: CommandLine, counted: None) -> None:
    document = (await arqestra("stats", "--json")).document
    table = plain((await arqestra("stats", "--since", "10m")).out)
    narrowed = (await arqestra("stats", "--function", "double", "--hours", "700", "--json")).document

    rows = {row["function"]: row for row in document["rows"]}
    assert (rows["double"]["complete"], rows["fail"]["failed"], rows["fail"]["retried"]) == (2, 1, 1)
    assert rows["double"]["run_ms_p95"] is not None
    assert "queue function enqueued complete failed retried run p50 p95 p99 wait p50 p95 p99" in table
    assert "arq:queue double 0 2 0 0 " in table or "arq:queue double 2 2 0 0 " in table
    assert [row["function"] for row in narrowed["rows"]] == ["double"]
    assert narrowed["rows"][0]["complete"] == 2


async def test_nothing_was_counted(arqestra: CommandLine, counted: None) -> None:
    ran = await arqestra("stats", "--queue", "mail", "--hours", "2")

    assert (ran.code, ran.out) == (0, "nothing was counted in the last 2 h\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--hours", "2", "--since", "2h"), "--hours or --since or neither"),
        (("--since", "2099-01-01"), "within the last 30 days"),
        (("--watch", "--hours", "2"), "expected no --hours"),
        (("--watch",), "expected a terminal"),
    ],
)
async def test_wrong_usage(arqestra: CommandLine, words: tuple[str, ...], message: str) -> None:
    ran = await arqestra("stats", *words)

    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


# -- the picture --------------------------------------------------------------------------------------------------


def fleet(*, queues: int = 1, workers: int = 1, jobs: int = 1, failures: int = 1) -> Fleet:
    surveys = [
        QueueSurvey(f"queue{n}", NOW_MS, 9, 7, 0, 2, 0, 0, 0, 0, NOW_MS - 5_000, False, 1, 3, False)
        for n in range(queues)
    ]
    on_worker = [JobOnWorker(f"job{n}", "convert", "q", 1, NOW_MS - 9_000, 1, 4, "page 1") for n in range(jobs)]
    infos = [
        WorkerInfo(
            f"w{n}",
            datetime.fromtimestamp(NOW_MS / 1000, UTC),
            True,
            Presence(
                "host", n, "1", NOW_MS - 60_000, ["q"], 10, jobs, 0, on_worker, 0, 0, 0, 50_000_000, 1.0, 250, False
            ),
        )
        for n in range(workers)
    ]
    moment = datetime.fromtimestamp(NOW_MS / 1000 - 3, UTC)
    failure = Failure("ValueError", "no \x1b[31mgood", "f.py:1 in f")
    ended = [
        EndedJob(f"e{n}", "q", "fetch", "failed", 2, moment, moment, moment, "w", failure) for n in range(failures)
    ]
    return Fleet(NOW_MS, surveys, queues, infos, ended, NOTHING)


def drawn(picture: Fleet, width: int, height: int, problem: str = "") -> list[str]:
    screen = Screen("redis://here", picture, History(NOW_MS / 1000, NOTHING))
    screen.problem = problem
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(screen, end="")
    return console.file.getvalue().split("\n")  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (200, 60), (20, 5)])
@pytest.mark.parametrize("things", [0, 1, 60])
def test_the_picture_fits_the_terminal(size: tuple[int, int], things: int) -> None:
    width, height = size

    lines = drawn(fleet(queues=things, workers=things, jobs=things, failures=things), width, height)

    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert not any("\x1b[31m" in line for line in lines)


def test_what_is_in_the_picture() -> None:
    text = plain("\n".join(drawn(fleet(), 80, 24)))

    for words in (
        "arqestra redis://here 1 queue 1 worker",
        "queue0 7 0 2 0 3 5 s",
        "host:0 1/10 250 ms 48 MB 60 s ago working q",
        "convert 9 s ██▌░░░░░░░ 25% page 1",
        "fetch 3 s ago ValueError: no \\x1b[31mgood",
    ):
        assert words in text
    empty = "\n".join(drawn(fleet(queues=0, workers=0, jobs=0, failures=0), 80, 24))
    for words in ("no queue was used", "no worker was heard of", "nothing runs", "no job failed"):
        assert words in empty
    assert "60 of" not in text
    assert "queue (4 of 60)" in "\n".join(drawn(fleet(queues=60, workers=60, jobs=60, failures=60), 80, 24))
    assert "Redis does not answer" in drawn(fleet(), 80, 24, "Redis does not answer")[0]


def test_numbers_of_a_table_are_whole_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """1,234,567 in two lines reads as two numbers."""
    monkeypatch.setattr(output, "WIDTH_OF_A_FILE", 40)
    columns = ("queue", "function", *(f"number {place}" for place in range(8)))

    Output(as_json=False).table(columns, [("q", "some function", *["1,234,567"] * 8)], right=columns[2:])

    assert capsys.readouterr().out.splitlines()[-2].split()[-8:] == ["1,234,567"] * 8


def test_lines_are_shared() -> None:
    assert share_lines(10, [1, 2, 3]) == [1, 2, 3]
    assert share_lines(9, [1, 100, 100, 2]) == [1, 3, 3, 2]
    assert share_lines(3, [5, 5, 5, 5]) == [1, 1, 1, 0]
    assert share_lines(-1, [1]) == [0]


def test_rates_over_time() -> None:
    history = History(1_000.0, NOTHING)
    history.add(1_010.0, {**NOTHING, "complete": 100})
    history.add(1_020.0, {**NOTHING, "complete": 100})

    rates = history.rates("complete", 30)  # cells of ten seconds

    assert rates.recent == 0.0
    assert rates.series[-2:] == [pytest.approx(10), 0]
    assert sum(rates.series) == pytest.approx(10)
    history.add(1_021.0, {**NOTHING, "complete": 3})  # the counters began anew
    assert history.rates("complete", 300).series[-1] == 0


async def test_rates_of_the_minutes_before(pool: Pool, counted: None) -> None:
    now_s = datetime.now(UTC).timestamp()
    history = History(now_s, NOTHING)

    await history.begin(pool, None)

    assert sum(history.rates("complete", 300).series) == pytest.approx(2, rel=0.02)
    other = History(now_s, NOTHING)
    await other.begin(pool, "mail")
    assert sum(other.rates("complete", 300).series) == 0


def test_characters() -> None:
    assert sparkline([0, 0.001, 4, 8], 8) == " ▁▄█"
    assert sparkline([0, 0], 0) == "  "
    assert progress_text(1, 4, "x") == "██▌░░░░░░░  25% x"
    assert progress_text(9, 4, "") == "██████████ 100%"
    assert progress_text(7, None, "lines") == "7 done lines"
    assert progress_text(0, 0, "").endswith("100%")


# -- the live view ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"q", b"\x03"])
async def test_the_live_view_in_a_terminal(arqestra: CommandLine, counted: None, end: bytes) -> None:
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(there)
    process = subprocess.Popen(  # noqa: ASYNC220 - it only starts
        [sys.executable, "-c", IN_A_TERMINAL, sys.executable, "-m", "arqestra.cli", "stats", "--watch"],
        cwd=REPOSITORY,
        env={**os.environ, **arqestra.environment, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        stdin=there,
        stdout=there,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        await _read_until(here, b"no good")
        await _read_until(here, b"no good")  # once more: it goes on
        os.write(here, end)
        await _read_until(here, b"\x1b[?1049l")  # the screen of before is back
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert termios.tcgetattr(there) == before
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        process.communicate()
        os.close(here)
        os.close(there)


async def test_the_live_view_says_that_redis_hangs(
    pool: Pool, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures that stand still look like a queue that rests."""
    monkeypatch.setattr(watch, "LIMIT_S", 0.2)
    fleet = await cli_fleet.read_fleet(pool, None)
    screen = Screen("redis://here", fleet, History(fleet.now_ms / 1000, fleet.counters))
    monkeypatch.setattr(watch, "Console", lambda **_: Console(file=io.StringIO(), force_terminal=True))
    shell = Shell(pool, Output(as_json=False), "redis://here", None)
    showing = asyncio.ensure_future(watch.show(shell, screen))

    async def said(problem: str) -> None:
        async with asyncio.timeout(20):
            while screen.problem != problem:  # noqa: ASYNC110 - it is drawn once a second
                await asyncio.sleep(0.01)

    assert redis_server.pid is not None
    try:
        os.kill(redis_server.pid, signal.SIGSTOP)
        await said("Redis has not answered within 0.2 s")
        os.kill(redis_server.pid, signal.SIGCONT)
        await said("")
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


async def _read_until(number: int, words: bytes) -> None:
    seen = b""
    async with asyncio.timeout(20):
        while words not in seen:
            seen += await asyncio.to_thread(os.read, number, 65_536)


async def test_the_live_view_as_documents(arqestra: CommandLine, counted: None) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220 - it only starts
        [sys.executable, "-m", "arqestra.cli", "stats", "--watch", "--json"],
        cwd=REPOSITORY,
        env={**os.environ, **arqestra.environment},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        documents: list[Any] = [json.loads(await asyncio.to_thread(process.stdout.readline)) for _ in range(2)]
        process.terminate()
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.communicate()

    assert documents[0]["at"] < documents[1]["at"]
    assert documents[0]["queues"][0]["queue"] == "arq:queue"
    assert documents[0]["workers"][0]["slots"] == 10
