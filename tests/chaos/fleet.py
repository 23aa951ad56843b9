"""A fleet of worker processes that a test starts, signals and replaces; nothing of it outlives the test."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.support.repository import REPOSITORY
from tests.support.run_log import PATH_VARIABLE, RunLog
from tests.support.wait import PATIENCE_S, wait_until

__all__ = ("PATIENCE_S", "Fleet", "WorkerProcess")


class WorkerProcess:
    """One worker process.

    :ivar status: exit code once it has ended, negative for a signal; None while it runs
    :ivar replaced: another was started in its place
    """

    def __init__(self, pid: int, log_path: Path, send: Callable[[int, int], None]) -> None:
        self.pid = pid
        self.status: int | None = None
        self.replaced = False
        self._log_path = log_path
        self._send = send

    @property
    def is_running(self) -> bool:
        return self.status is None

    @property
    def output(self) -> str:
        """What it has logged."""
        return self._log_path.read_text(encoding="utf-8", errors="replace") if self._log_path.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; to a process that has ended nothing is sent."""
        self._send(self.pid, int(number))

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)

    async def freeze(self) -> None:
        """SIGSTOP, and wait until it stands still: the signal goes by way of another process."""
        self.signal(signal.SIGSTOP)
        await wait_until(self._stands_still, lambda: f"worker {self.pid} to stand still")

    def _stands_still(self) -> bool:
        """All of its threads are stopped."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(stat.read_text().rsplit(")", 1)[1].split()[0] == "T" for stat in tasks)

    def terminate(self) -> None:
        """SIGTERM, as a supervisor stops a worker."""
        self.signal(signal.SIGTERM)

    async def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        await wait_until(lambda: not self.is_running, lambda: f"worker {self.pid} to end:\n{self.output}")
        assert self.status is not None
        return self.status


class Fleet:
    """Worker processes with the same settings, as a context manager.

    :param folder: for the logs
    :param redis_url: what the workers connect to
    :param settings: keywords of `arqestra.Worker`, of types that JSON has
    """

    def __init__(self, folder: Path, redis_url: str, **settings: Any) -> None:
        self.log = RunLog(folder / "runs.log")
        self.members: list[WorkerProcess] = []
        self._folder = folder
        self._settings = {"redis_settings": redis_url, **settings}
        self._started: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._fork_server = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.fork_server", str(os.getpid())],
            cwd=REPOSITORY,
            env={**os.environ, PATH_VARIABLE: str(self.log.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read_reports, name="chaos-fleet", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._fork_server.stdin is not None
        assert self._fork_server.stdout is not None
        self._fork_server.stdin.close()
        try:
            self._fork_server.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._fork_server.kill()  # its workers go with it
            self._fork_server.wait()
        self._reader.join()
        self._fork_server.stdout.close()

    @property
    def running(self) -> list[WorkerProcess]:
        return [member for member in self.members if member.is_running]

    def start(self, count: int = 1, **settings: Any) -> list[WorkerProcess]:
        """Start workers.

        :param settings: in place of the fleet's
        """
        started = []
        for _ in range(count):
            log_path = self._folder / f"worker-{len(self.members)}.log"
            self._order({"start": {**self._settings, **settings}, "log": str(log_path)})
            started.append(self._started.get(timeout=PATIENCE_S))
        return started

    def member(self, pid: int) -> WorkerProcess:
        return next(member for member in reversed(self.members) if member.pid == pid)

    def replace_ended(self) -> int:
        """Start a worker for each that has ended since the last call, as a supervisor does; returns how many."""
        ended = [member for member in self.members if not member.is_running and not member.replaced]
        for member in ended:
            member.replaced = True
        self.start(len(ended))
        return len(ended)

    def _order(self, order: dict[str, Any]) -> None:
        assert self._fork_server.stdin is not None
        self._fork_server.stdin.write(json.dumps(order).encode() + b"\n")
        self._fork_server.stdin.flush()

    def _read_reports(self) -> None:
        assert self._fork_server.stdout is not None
        for line in self._fork_server.stdout:
            report = json.loads(line)
            if "started" in report:
                member = WorkerProcess(report["started"], Path(report["log"]), self._signal)
                self.members.append(member)
                self._started.put(member)
            else:
                self.member(report["ended"]).status = report["status"]

    def _signal(self, pid: int, number: int) -> None:
        self._order({"signal": number, "pid": pid})
