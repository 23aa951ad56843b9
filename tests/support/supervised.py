"""`arqestra worker` as a process, whose processes do not outlive the test."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.support.repository import REPOSITORY
from tests.support.run_log import PATH_VARIABLE, RunLog
from tests.support.wait import wait_until

SETTINGS = "tests.support.supervised_jobs.Settings"
Supervise = Callable[..., "Supervised"]


class Supervised:
    """A supervisor process."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, log: RunLog) -> None:
        self.process = process
        self.log = log
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def pids(self) -> list[int]:
        """Worker processes that were started, in order."""
        return [int(pid) for pid in re.findall(r"process (\d+) runs", self.output)]

    @property
    def exit_codes(self) -> dict[int, str]:
        """Of the worker processes that have ended."""
        return {int(pid): code for pid, code in re.findall(r"process (\d+) has ended with (\S+)", self.output)}

    @property
    def alive(self) -> list[int]:
        return [pid for pid in self.pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]

    async def ended(self) -> int:
        await wait_until(lambda: self.process.poll() is not None, lambda: f"it to end:\n{self.output}")
        return self.process.returncode


@contextlib.contextmanager
def supervising(redis_url: str, folder: Path) -> Iterator[Supervise]:
    """Starts supervisors; none of them, and none of their processes, outlives it."""
    started: list[Supervised] = []

    def start(*options: str, settings: str = SETTINGS) -> Supervised:
        log = folder / f"runs-{len(started)}.log"
        output = folder / f"output-{len(started)}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "arqestra.cli", "worker", settings, *options],
                cwd=REPOSITORY,
                env={**os.environ, "REDIS_URL": redis_url, PATH_VARIABLE: str(log), "NO_COLOR": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        started.append(Supervised(process, output, RunLog(log)))
        return started[-1]

    yield start
    for supervised in started:
        if supervised.process.poll() is None:
            supervised.process.kill()
            supervised.process.wait()
        for pid in supervised.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
