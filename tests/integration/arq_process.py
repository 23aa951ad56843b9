"""arq's command line as a process of its own, with its output in a file that a test can wait on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.wait import PATIENCE_S, block_until


class ArqProcess:
    """`python -m arq <arguments>`, a context manager; the process is killed if it still runs at the end."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "arq", *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the output has the text, this many times."""
        block_until(
            lambda: self.output.count(text) >= times or not self.is_running,
            lambda: f"{text!r} {times}x in the output within {PATIENCE_S} s, got:\n{self.output}",
        )
        assert self.output.count(text) >= times, f"the process ended without {text!r}:\n{self.output}"

    def send(self, signal_number: signal.Signals) -> None:
        self._process.send_signal(signal_number)

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"expected the process to end within {PATIENCE_S} s:\n{self.output}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_running:
            self._process.kill()
            self._process.wait()
