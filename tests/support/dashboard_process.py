"""The dashboard as a process, as `arqestra dashboard` runs it: it stops with the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.repository import REPOSITORY


@contextmanager
def served(redis_url: str, *options: str) -> Iterator[str]:
    """Run it and yield its address, without a slash at the end."""
    command = [sys.executable, "-m", "arqestra.cli", "dashboard", "--port", "0", *options]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env={**os.environ, "REDIS_URL": redis_url}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith("dashboard: http://127.0.0.1:"), line
        yield line.removeprefix("dashboard: ").rstrip("/")
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.stdout.close()  # type: ignore[union-attr]
    assert process.returncode == 0, "expected SIGTERM to end it well"
