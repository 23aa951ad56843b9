"""`arqestra metrics`: the exporter as a process, and `--once`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from arqestra import Pool, Worker
from arqestra.embedded import EmbeddedRedis
from tests.support.command_line import CommandLine
from tests.support.repository import REPOSITORY
from tests.support.scrape import Scraped, fetch, scrape
from tests.support.wait import wait_until


@contextlib.asynccontextmanager
async def exporting(url: str, output: Path) -> AsyncIterator[tuple[str, subprocess.Popen[bytes]]]:
    """An exporter, and where it serves."""
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - it only starts
            [sys.executable, "-m", "arqestra.cli", "metrics", "--port", "0"],
            cwd=REPOSITORY,
            env={**os.environ, "REDIS_URL": url},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:

        async def told() -> bool:
            return " at http" in output.read_text()  # noqa: ASYNC240 - a process writes it

        await wait_until(told)
        match = re.search(r"http://\S+", output.read_text())  # noqa: ASYNC240
        assert match is not None
        yield match[0], process
    finally:
        process.kill()
        process.wait()


async def test_an_exporter_outlives_redis_and_ends_on_a_signal(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = tmp_path / "output.txt"
    async with exporting(f"redis://:secret@127.0.0.1:{port}/0", output) as (url, process):
        away = await scrape(url)  # it is started before Redis
        assert [(sample.name, sample.value) for sample in away.samples] == [("arqestra_up", 0)]
        assert (await fetch(url.replace("/metrics", "/healthz"))).status == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    assert "secret" not in output.read_text()
    assert "Traceback" not in output.read_text()


async def test_it_finds_a_redis_that_comes_later(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with exporting(f"redis://127.0.0.1:{port}/0", tmp_path / "output.txt") as (url, process):

        async def up(value: float) -> bool:
            return (await scrape(url)).one("arqestra_up") == value

        assert await up(0)
        with EmbeddedRedis(use_environment=False, port=port):
            await wait_until(lambda: up(1))
        await wait_until(lambda: up(0))
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 20) == 0


async def test_once(arqestra: CommandLine, pool: Pool, working: Worker) -> None:
    job = await pool.enqueue_job("double", 2)
    assert job is not None
    await job.result(timeout=20)

    async def counted() -> bool:
        ran = await arqestra("metrics", "--once")
        assert (ran.code, ran.err) == (0, "")
        return Scraped(ran.out).sum("arqestra_jobs_finished_total", function="double", outcome="complete") == 1

    await wait_until(counted)


async def test_what_cannot_be_served_ends_with_one_line(arqestra: CommandLine, redis_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = arqestra.process("metrics", "--port", str(port))
    assert ran.returncode == 2
    assert ran.stderr == f"arqestra: cannot listen at 127.0.0.1 port {port}: Address already in use\n"

    ran = arqestra.process("metrics", "--once", "--redis-url", f"redis://127.0.0.1:{port}")
    assert ran.returncode == 2
    assert f"no Redis answers at redis://127.0.0.1:{port}" in ran.stderr
    assert "Traceback" not in ran.stderr


async def test_without_the_extra_it_says_what_to_install(arqestra: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    ran = arqestra.process("metrics", env={"PYTHONPATH": path})
    assert ran.returncode == 2
    assert ran.stderr == "arqestra: metrics needs the package prometheus-client: pip install 'arqestra[metrics]'\n"
