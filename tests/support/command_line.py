"""The command line as a user calls it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from typing import Any, NamedTuple

from typer.testing import CliRunner

from arqestra.cli import app

from .repository import REPOSITORY

__all__ = ("CommandLine", "Ran", "plain")


# `python -c IN_A_TERMINAL program argument ...`: the program with its standard input as its terminal. Not by
# `preexec_fn`: in a process with threads the child may never come to its exec.
IN_A_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


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


def plain(text: str) -> str:
    """Text with each run of spaces as one, whatever the width of a table was."""
    return re.sub(r"[ \t]+", " ", text)
