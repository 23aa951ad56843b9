"""`arqestra dev`, and the command as a process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from typer.main import get_command
from typer.testing import CliRunner

from arqestra.cli import COMMANDS, app
from tests.support.command_line import CommandLine
from tests.support.repository import REPOSITORY

# Python takes old bytecode for that of a file that has kept its length and was changed within the same second.
NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}
WORKER = """
from arqestra import job, worker_settings

@job
async def answer(ctx):
    return 1

@job
async def nap(ctx):
    import asyncio
    await asyncio.sleep(60)

@worker_settings
class WorkerSettings:
    functions = [answer, nap]
    redis_settings = "redis://127.0.0.1:1"
"""


async def test_dev_runs_everything_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    output = tmp_path / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - it only starts
            [sys.executable, "-m", "arqestra.cli", "dev", "worker.WorkerSettings"],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **NO_BYTECODE},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        url = await _found(output, r"Redis started at (\S+)")
        arqestra = CommandLine(url)
        arqestra.environment["ARQESTRA_SERIALIZER"] = "pickle"
        first = await arqestra("enqueue", "answer", "--wait", "--timeout", "20")
        assert (first.code, first.out) == (0, "1\n")

        (tmp_path / "worker.py").write_text(WORKER.replace("return 1", "return 2"))
        await _found(output, r"(shutdown on SIGTERM)")
        second = await arqestra("enqueue", "answer", "--wait", "--timeout", "20")
        assert (second.code, second.out) == (0, "2\n"), output.read_text()

        await arqestra("enqueue", "nap")
        await _found(output, r"→ \w+:(nap)")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 20) == 0, output.read_text()
        assert psutil.wait_procs(children, timeout=5)[1] == []
    finally:
        process.kill()
        process.wait()


async def _found(output: Path, pattern: str) -> str:
    async with asyncio.timeout(20):
        while not (match := re.search(pattern, output.read_text())):  # noqa: ASYNC110, ASYNC240 - a process writes it
            await asyncio.sleep(0.02)
        return match[1]


def test_dev_with_code_that_does_not_import(arqestra: CommandLine) -> None:
    ran = arqestra.process("dev", "tests.cli.nowhere.WorkerSettings")

    assert ran.returncode == 1
    assert "cannot be run" in ran.stderr


def test_a_pipe_that_is_closed_early(arqestra: CommandLine) -> None:
    ran = subprocess.run(
        f"{sys.executable} -m arqestra.cli queues list --json | true",
        shell=True,
        executable="/bin/bash",
        cwd=REPOSITORY,
        env={**os.environ, **arqestra.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ran.stderr


def test_each_command_has_help() -> None:
    def walk(command: object, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        children = getattr(command, "commands", None) or {}
        return [path, *(found for name, child in children.items() for found in walk(child, (*path, name)))]

    commands = walk(get_command(app), ())
    assert ("jobs", "retry") in commands
    for words in commands:
        result = CliRunner().invoke(app, [*words, "--help"])
        assert result.exit_code == 0
        assert "Usage:" in result.stdout


def test_the_help_of_the_whole_says_of_each_command_what_its_own_help_says() -> None:
    for name, about in COMMANDS.items():
        own = get_command(app).commands[name].load()  # type: ignore[attr-defined]
        assert " ".join(own.help.split("\n\n")[0].split()) == about
