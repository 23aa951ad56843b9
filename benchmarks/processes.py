"""Adapters as child processes: every one started here is ended here, however the measurement ends."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from .environments import PeerEnvironment

POLL_S = 0.02
STOP_TIMEOUT_S = 8.0
# The first line of the job may wait for a slow import and, with some peers, for a poll of seconds.
WORK_LIMIT_S = 120.0
PRODUCE_LIMIT_S = 180.0


class MeasurementFailedError(Exception):
    """An adapter ended with an error or took too long; the message has its last words."""


class AdapterProcess:
    """One run of an adapter. Its standard input is a pipe, so that it ends if this process dies unheard."""

    def __init__(self, environment: PeerEnvironment, arguments: list[str], variables: dict[str, str]) -> None:
        # Files and not pipes: nobody reads while the adapter runs, and a full pipe would stop it.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - read after the process has ended
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - likewise
        self._child = subprocess.Popen(
            [*environment.command, *arguments],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._errors,
            env={**os.environ, **environment.variables, **variables},
            # A group of its own: Ctrl-C reaches the driver alone, which then stops the children in order.
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def answer(self, limit_s: float = PRODUCE_LIMIT_S) -> dict[str, Any]:
        """Wait for the end and return the line of JSON that a producer prints."""
        deadline = time.monotonic() + limit_s
        try:
            # Not communicate(): it closes standard input first, which ends the adapter.
            while self._child.poll() is None:
                if time.monotonic() > deadline:
                    raise MeasurementFailedError(f"no answer within {limit_s:.0f} s: {self.last_words()}")
                time.sleep(POLL_S)
        finally:
            self.stop()
        self._output.seek(0)
        output = self._output.read()
        if self._child.returncode != 0:
            raise MeasurementFailedError(f"the producer ended with {self._child.returncode}: {self.last_words()}")
        try:
            return json.loads(output.splitlines()[-1])
        except (IndexError, json.JSONDecodeError) as error:
            raise MeasurementFailedError(f"expected one line of JSON, got {output[-200:]!r}") from error

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._child.poll() is None

    def rss_bytes(self) -> int:
        """Resident memory of the process and its children."""
        try:
            process = psutil.Process(self._child.pid)
            return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])
        except psutil.NoSuchProcess as error:
            raise MeasurementFailedError(f"the worker is gone: {self.last_words()}") from error

    def cpu_s(self) -> float:
        """Processor seconds, user and system, of the process and the children that it still has."""
        process = psutil.Process(self._child.pid)
        times = [each.cpu_times() for each in [process, *process.children(recursive=True)]]
        return sum(each.user + each.system for each in times)

    def last_words(self) -> str:
        """The last line of standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "(nothing on standard error)"

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for its group if that is not enough."""
        if self._child.poll() is None:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_TIMEOUT_S)
        # The group is the child's own; a forgetful worker may have left children in it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()


class Bench:
    """Starts a peer's adapter against the run's server."""

    def __init__(self, environment: PeerEnvironment, server_url: str, folder: Path) -> None:
        self._environment = environment
        self._url = server_url
        self._folder = folder

    def produce(self, *arguments: object, variables: dict[str, str] | None = None) -> dict[str, Any]:
        """Run one producer command to its end."""
        with self.start(*arguments, variables=variables) as producer:
            return producer.answer()

    def start(
        self, *arguments: object, variables: dict[str, str] | None = None, marker: str = "marker.json"
    ) -> AdapterProcess:
        """Start an adapter; the caller stops it, by `with`."""
        self.marker(marker).unlink(missing_ok=True)
        given = {"BENCH_REDIS_URL": self._url, "BENCH_MARKER": str(self.marker(marker)), **(variables or {})}
        return AdapterProcess(self._environment, [str(argument) for argument in arguments], given)

    def marker(self, name: str = "marker.json") -> Path:
        """The file that a worker writes when it has run all the jobs expected."""
        return self._folder / name

    def wait_for_marker(self, worker: AdapterProcess, limit_s: float = WORK_LIMIT_S) -> dict[str, Any]:
        """The marker's content, once it is there."""
        deadline = time.monotonic() + limit_s
        while not self.marker().exists():
            if not worker.is_running():
                raise MeasurementFailedError(f"the worker ended before its jobs did: {worker.last_words()}")
            if time.monotonic() > deadline:
                raise MeasurementFailedError(f"the jobs took more than {limit_s:.0f} s: {worker.last_words()}")
            time.sleep(POLL_S)
        return json.loads(self.marker().read_text())
