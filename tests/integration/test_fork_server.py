"""Worker processes that are forks of a process which has imported the settings once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from arqestra import Pool
from arqestra.worker.processes.forkable import platform_can_fork
from tests.support.supervised import Supervise, Supervised
from tests.support.wait import wait_until

pytestmark = pytest.mark.skipif(not platform_can_fork(), reason="this system has no fork server")

# A settings module that notes who imports it.
MODULE = """
import asyncio, atexit, numpy, os, random
from pathlib import Path

LOG = Path(os.environ["IMPORT_LOG"])
with LOG.open("a") as log:
    log.write(f"import {os.getpid()}\\n")

async def look(ctx, seconds=0):
    await asyncio.sleep(seconds)
    return {"pid": os.getpid(), "parent": os.getppid(), "code": CODE, "session": os.getsid(0)}

async def draw(ctx):
    await asyncio.sleep(0.5)
    return os.getpid(), random.random(), float(numpy.random.random())

class Settings:
    functions = (look, draw)
    redis_settings = os.environ["REDIS_URL"]
    lease = 5

CODE = "first"
"""


class Preloaded:
    """Supervisors of a settings module in a folder of the test."""

    def __init__(self, supervise: Supervise, folder: Path) -> None:
        self._supervise = supervise
        self.module = folder / "preloaded_settings.py"
        self.log = folder / "imports.log"
        self.log.touch()

    def start(self, *options: str, more: str = "") -> Supervised:
        """Start one.

        :param more: what else the module does
        """
        self.module.write_text(MODULE + more)
        return self._supervise(*options, settings="preloaded_settings.Settings")

    @property
    def imports(self) -> list[int]:
        """The processes that have imported the module."""
        return self.noted("import")

    def noted(self, what: str) -> list[int]:
        return [int(line.split()[1]) for line in self.log.read_text().splitlines() if line.startswith(what)]


@pytest.fixture
def preloaded(supervise: Supervise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preloaded:
    preloaded = Preloaded(supervise, tmp_path)
    monkeypatch.setenv("IMPORT_LOG", str(preloaded.log))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return preloaded


async def look(pool: Pool, seconds: float = 0) -> Any:
    """What a job sees of its process."""
    job = await pool.enqueue_job("look", seconds)
    assert job is not None
    return await job.result(timeout=60)


def family(supervised: Supervised) -> list[psutil.Process]:
    return psutil.Process(supervised.process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process]) -> Callable[[], bool]:
    def gone() -> bool:
        return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)

    return gone


async def test_recycled_processes_are_forks_and_the_module_is_imported_once(preloaded: Preloaded, pool: Pool) -> None:
    supervised = preloaded.start("--processes", "2", "--max-jobs-per-child", "20", "--shutdown-timeout", "10")
    jobs = [await pool.enqueue_job("look", 0.01) for _ in range(200)]
    seen = [await job.result(timeout=60) for job in jobs if job is not None]
    await wait_until(lambda: len(supervised.pids) >= 4, lambda: supervised.output)

    [server] = preloaded.imports
    assert {each["parent"] for each in seen} == {server}
    assert psutil.Process(server).ppid() == supervised.process.pid
    assert {each["pid"] for each in seen} <= set(supervised.pids)
    assert all(each["session"] == each["pid"] for each in seen), "expected a session for each: Ctrl-C is not for them"

    processes = family(supervised)
    supervised.process.terminate()
    assert await supervised.ended() == 0
    assert all_gone(processes)()
    assert set(map(int, supervised.exit_codes.values())) == {0}


async def test_forks_draw_different_random_numbers(preloaded: Preloaded, pool: Pool) -> None:
    supervised = preloaded.start("--processes", "3", "--concurrency", "1")
    await wait_until(lambda: supervised.output.count("Starting worker") == 3, lambda: supervised.output)
    jobs = [await pool.enqueue_job("draw") for _ in range(3)]
    drawn = [await job.result(timeout=60) for job in jobs if job is not None]

    assert len(preloaded.imports) == 1
    assert [len(set(each)) for each in zip(*drawn, strict=True)] == [3, 3, 3]


async def test_what_the_module_does_at_exit_is_done_by_each_process(preloaded: Preloaded, pool: Pool) -> None:
    more = 'atexit.register(lambda: LOG.open("a").write(f"exit {os.getpid()}\\n"))\n'
    supervised = preloaded.start("--processes", "2", more=more)
    await look(pool)
    await wait_until(lambda: len(supervised.pids) == 2, lambda: supervised.output)
    supervised.process.terminate()
    await supervised.ended()

    assert sorted(preloaded.noted("exit")) == sorted([*supervised.pids, *preloaded.imports])


async def test_a_killed_fork_server_is_replaced_when_it_is_needed(preloaded: Preloaded, pool: Pool) -> None:
    supervised = preloaded.start("--shutdown-timeout", "10")
    first = await look(pool)
    job = await pool.enqueue_job("look", 1.0)
    assert job is not None

    os.kill(first["parent"], signal.SIGKILL)
    during = await job.result(timeout=60)
    assert during["pid"] == first["pid"], "expected the process to go on"

    os.kill(first["pid"], signal.SIGKILL)
    second = await look(pool)
    assert preloaded.imports == [first["parent"], second["parent"]]

    processes = family(supervised)
    supervised.process.terminate()
    assert await supervised.ended() == 0
    assert all_gone(processes)()


async def test_a_killed_process_is_replaced_by_another_fork(preloaded: Preloaded, pool: Pool) -> None:
    supervised = preloaded.start()
    first = await look(pool)

    os.kill(first["pid"], signal.SIGKILL)

    second = await look(pool)
    assert second["parent"] == first["parent"]
    assert f"process {first['pid']} has ended with -9" in supervised.output


async def test_nothing_is_left_when_the_supervisor_is_killed(preloaded: Preloaded, pool: Pool) -> None:
    supervised = preloaded.start("--processes", "2")
    await look(pool)
    await wait_until(lambda: len(supervised.pids) == 2, lambda: supervised.output)
    processes = family(supervised)
    assert len(processes) == 3

    supervised.process.kill()

    await wait_until(all_gone(processes), lambda: f"{processes} to end")


async def test_signals_to_the_whole_service_end_it_in_order(preloaded: Preloaded, pool: Pool) -> None:
    """systemd sends SIGTERM to every process of a unit."""
    supervised = preloaded.start("--processes", "2", "--shutdown-timeout", "10")
    await look(pool)
    await wait_until(lambda: len(supervised.pids) == 2, lambda: supervised.output)
    processes = family(supervised)
    for each in processes:
        each.terminate()
    supervised.process.terminate()

    assert await supervised.ended() == 0
    assert all_gone(processes)()
    assert set(supervised.exit_codes.values()) == {"0"}


async def test_sighup_imports_anew(preloaded: Preloaded, pool: Pool) -> None:
    supervised = preloaded.start("--processes", "2")
    first = await look(pool)
    assert first["code"] == "first"
    preloaded.module.write_text(MODULE.replace('"first"', '"second one"'))

    supervised.process.send_signal(signal.SIGHUP)

    await wait_until(lambda: len(supervised.exit_codes) == 2, lambda: supervised.output)
    second = await look(pool)
    assert second["code"] == "second one"
    assert second["parent"] != first["parent"]
    await wait_until(lambda: not psutil.pid_exists(first["parent"]), "the server of the code before to end")
    assert preloaded.imports == [first["parent"], second["parent"]]


async def test_a_signal_during_a_long_import_ends_it_at_once(preloaded: Preloaded) -> None:
    supervised = preloaded.start(more="import time; time.sleep(600)\n")
    await wait_until(lambda: preloaded.imports, lambda: supervised.output)
    processes = family(supervised)

    supervised.process.terminate()

    assert await supervised.ended() == 0
    assert all_gone(processes)()
    assert supervised.pids == []


async def test_an_import_that_fails_is_told_once(preloaded: Preloaded) -> None:
    supervised = preloaded.start(more="raise RuntimeError('no configuration')\n")

    assert await supervised.ended() == 1
    assert supervised.output.count("RuntimeError: no configuration") == 1
    assert "preloaded_settings.Settings cannot be run" in supervised.output
    assert len(supervised.pids) == 1


async def test_settings_that_must_not_be_forked_are_not(preloaded: Preloaded, pool: Pool) -> None:
    more = (
        "import threading, time; threading.Thread(target=time.sleep, args=(600,), name='poller', daemon=True).start()"
    )
    supervised = preloaded.start("--max-jobs-per-child", "1", "--concurrency", "1", more=f"{more}\n")

    first = await look(pool)
    await wait_until(lambda: first["pid"] in supervised.exit_codes, lambda: supervised.output)
    second = await look(pool)

    assert first["pid"] != second["pid"]
    assert first["parent"] == second["parent"] == supervised.process.pid
    assert supervised.output.count("preloaded_settings.Settings are not forked: threads were started: poller") == 1
    server = preloaded.imports[0]
    await wait_until(lambda: not psutil.pid_exists(server), "the process that must not fork to end")


async def test_a_setting_turns_it_off(preloaded: Preloaded, pool: Pool) -> None:
    supervised = preloaded.start(more="Settings.preload = False\n")
    seen = await look(pool)
    assert seen["parent"] == supervised.process.pid
    assert "are not forked: preload is off" in supervised.output


async def test_the_option_wins_over_the_setting(preloaded: Preloaded, pool: Pool) -> None:
    supervised = preloaded.start("--no-preload")
    seen = await look(pool)
    assert seen["parent"] == supervised.process.pid
    assert preloaded.imports == [seen["pid"]]


def reason_after(import_of: str, folder: Path) -> str:
    """Why a process that has run these lines is not forked; "None" if it is."""
    lines = (
        "from arqestra.worker.processes.forkable import open_descriptors, reason_not_to_fork",
        "before = open_descriptors()",
        import_of,
        "print(reason_not_to_fork(before), flush=True)",
        "import os; os._exit(0)",
    )
    command = [sys.executable, "-W", "error", "-c", "\n".join(lines)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout.strip()


@pytest.mark.parametrize(
    ("import_of", "reason"),
    [
        (
            "import socket; server = socket.create_server(('127.0.0.1', 0))",
            "connections or files were opened: socket:[",
        ),
        ("import select; poll = select.epoll()", "connections or files were opened: anon_inode:[eventpoll]"),
        ("import sqlite3; database = sqlite3.connect('some.db')", "connections or files were opened: {folder}/some.db"),
        ("import tempfile; folder = tempfile.TemporaryDirectory()", "a temporary folder was made"),
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(600,), name='poller').start()",
            "threads were started: poller",
        ),
        ("import pyvips; pyvips.Image.black(100, 100).avg()", "a library has started threads of its own"),
        ("import numpy; numpy.ones((500, 500)) @ numpy.ones((500, 500))", "None"),  # OpenBLAS knows of forks
        ("log, random = open('some.log', 'a'), open('/dev/urandom', 'rb')", "None"),
    ],
    ids=["socket", "epoll", "file", "folder", "thread", "thread of a library", "OpenBLAS", "log and device"],
)
def test_what_forks_must_not_share(import_of: str, reason: str, tmp_path: Path) -> None:
    assert reason_after(import_of, tmp_path).startswith(reason.format(folder=tmp_path))


@pytest.fixture(autouse=True)
def no_server_outlives_the_test(preloaded: Preloaded) -> Any:
    yield
    for pid in preloaded.imports:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
