"""`arqestra scheduler` as a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arqestra import Pool, every, schedule
from arqestra.cli import main
from tests.support.pools import serializers
from tests.support.repository import REPOSITORY
from tests.support.wait import wait_until

TARGETS = "tests.schedule.timetables"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "arqestra.cli", "scheduler", *arguments]


def environment(redis_url: str | None) -> dict[str, str]:
    """Without a REDIS_URL of the machine that runs the tests."""
    kept = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    given = {} if redis_url is None else {"REDIS_URL": redis_url, "TEST_REDIS_URL": redis_url}
    return {**kept, **given, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "NO_COLOR": "1"}


@contextmanager
def scheduler(log: Path, redis_url: str | None, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(*arguments), cwd=REPOSITORY, env=environment(redis_url), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


serializer = serializers("msgpack")


def said(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


async def fired(pool: Pool, process: subprocess.Popen[bytes], log: Path, *, queue: str, name: str) -> None:
    async def has_runs() -> bool:
        assert process.poll() is None, said(log)
        return await pool.exists(pool.store.keys.schedule_runs(name)) == 1

    await wait_until(has_runs, f"a run of {name}")


@pytest.mark.parametrize(
    ("target", "name", "queue", "number"),
    [
        ("LIST", "from-list", "arq:queue", signal.SIGTERM),
        ("TIMETABLE", "from-timetable", "timetable", signal.SIGINT),
        ("Settings", "from-settings", "first", signal.SIGTERM),
        ("DICT", "from-settings", "first", signal.SIGTERM),
    ],
)
async def test_it_fires_the_schedules_of_its_target_and_ends_at_a_signal(
    pool: Pool, redis_url: str, tmp_path: Path, target: str, name: str, queue: str, number: int
) -> None:
    log = tmp_path / "log"
    arguments = ["--serializer", "msgpack"] if target == "LIST" else []
    with scheduler(log, redis_url, f"{TARGETS}.{target}", *arguments) as process:
        await fired(pool, process, log, queue=queue, name=name)
        process.send_signal(number)
        assert process.wait(timeout=10) == 0

    output = said(log)
    assert f"scheduler of {queue}" in output
    assert "jobs were fired by this process" in output
    infos = {info.name: info for info in await pool.schedules.list()}
    expected = {
        "LIST": {"from-list"},
        "TIMETABLE": {"from-timetable", "daily"},
        "Settings": {"from-settings", "arqs@first"},
        "DICT": {"from-settings", "arqs@first"},
    }
    assert set(infos) == expected[target]
    if target == "TIMETABLE":
        assert infos["daily"].words == "at 09:00 every day, Asia/Seoul"
    job_id = (await pool.schedules.history(name))[0].job_id
    info = await pool.job(job_id, queue=queue).info()
    assert info is not None
    assert info.function == "note"


async def test_options_come_before_what_the_target_says(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    await pool.schedules.upsert(schedule(every(0.1), "note", name="at-run-time", queue="more"))
    log = tmp_path / "log"
    arguments = (f"{TARGETS}.TIMETABLE", "--redis-url", redis_url, "--queue", "mine", "--queues", "more,most")
    with scheduler(log, None, *arguments, "--timezone", "Europe/Berlin") as process:
        await fired(pool, process, log, queue="mine", name="from-timetable")
        await fired(pool, process, log, queue="more", name="at-run-time")
        process.terminate()
        assert process.wait(timeout=10) == 0

    assert "scheduler of mine, more, most" in said(log)
    assert (await pool.schedules.get("daily")).timezone == "Asia/Seoul"  # the timetable has given it its zone


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tests.schedule.timetables.NOTHING"], "NOTHING"),
        (["tests.schedule.nowhere.LIST"], "nowhere"),
        (["LIST"], "LIST"),
        ([f"{TARGETS}.NUMBER"], "expected a list of schedules or a settings class, got int"),
        ([f"{TARGETS}.note"], "expected a list of schedules or a settings class, got function"),
        ([f"{TARGETS}.ONE"], f"expected a list of schedules, got one schedule: [{TARGETS}.ONE]"),
        ([f"{TARGETS}.TWICE"], "expected each name once, got 'note' twice"),
        ([f"{TARGETS}.NOT_SCHEDULES"], "expected schedule(...) or cron(...), got"),
        (
            [f"{TARGETS}.BadSettings"],
            "schedules: expected a sequence of schedule(...) or cron(...), or a Timetable, got 5",
        ),
        ([f"{TARGETS}.UNREACHABLE"], "no Redis answers: "),
        ([f"{TARGETS}.LIST", "--timezone", "Mars"], "--timezone: expected a time zone"),
        ([f"{TARGETS}.LIST", "--serializer", "yaml"], "--serializer: expected one of"),
        ([f"{TARGETS}.LIST", "--redis-url", "http://localhost"], "expected a URL redis://"),
        ([], "Missing argument"),
    ],
    ids=str,
)
def test_a_bad_target_is_told_in_words(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: only the line that a user reads is of interest."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setattr(sys, "argv", ["arqestra", "scheduler", *arguments])
    monkeypatch.setattr(sys, "path", [*sys.path])
    log = logging.getLogger("arq")
    monkeypatch.setattr(log, "handlers", [*log.handlers])  # the command sets up its own
    monkeypatch.setattr(log, "level", log.level)
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_bad_target_ends_the_process_with_2_and_without_traceback() -> None:
    ended = subprocess.run(
        command(f"{TARGETS}.NUMBER"), cwd=REPOSITORY, env=environment(None), capture_output=True, text=True, timeout=30
    )

    assert ended.returncode == 2
    assert "expected a list of schedules or a settings class" in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
