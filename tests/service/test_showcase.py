"""`make run` and `make send` as processes: what they produce, how they fail, and that nothing outlives them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import matplotlib
import psutil
import pytest

from tests.support.repository import REPOSITORY

PHOTOGRAPH = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
CHILDREN = 8  # Redis, S3, a scheduler, a dashboard, a supervisor, its fork server and two worker processes
PATIENCE_S = 40.0


class Showcase:
    """One `python -m jobs.showcase`, whose output is read as it comes."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.output = ""

    async def until(self, text: str) -> None:
        """Read until the output has that text; fail with all of it otherwise."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while text not in self.output:
                line = await self.process.stdout.readline()
                assert line, f"{text!r} did not come:\n{self.output}"
                self.output += line.decode()

    async def exit_code(self) -> int:
        """Read to the end and return the exit code."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            self.output += (await self.process.stdout.read()).decode()
            return await self.process.wait()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def environment(folder: Path, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SERVICE_", "REDIS_URL"))}
    fast = {"SERVICE_IMAGE_RATE": "600/m", "SERVICE_MAIL_RETRY_BASE_S": "0.5"}
    return {**kept, **fast, "SHOWCASE_FOLDER": str(folder), "COLUMNS": "200", **variables}


async def run(module: str, folder: Path, *arguments: str, **variables: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=REPOSITORY,
        env=environment(folder, **variables),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


Start = Callable[..., Awaitable[Showcase]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts showcases, and sees to it that none is left."""
    started: list[Showcase] = []

    async def start_showcase(**variables: str) -> Showcase:
        folder = tmp_path / "data"
        started.append(Showcase(await run("jobs.showcase", folder, **variables), folder))
        return started[-1]

    yield start_showcase
    for showcase in started:
        if showcase.process.returncode is None:
            showcase.process.terminate()
        await showcase.exit_code()


def wait_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert not alive


async def test_once_on_the_sample_data(start: Start) -> None:
    showcase = await start(ONCE="1")
    assert await showcase.exit_code() == 0, showcase.output
    assert showcase.output.count("✓") == 11
    assert "✗" not in showcase.output
    folder = showcase.folder
    (report,) = (folder / "reports").glob("*.pdf")
    assert report.read_bytes().startswith(b"%PDF-")
    assert len(list((folder / "images" / "processed").iterdir())) == 104
    assert len(list((folder / "mail").rglob("*.eml"))) == 3
    assert not (folder / "service.env").exists()
    attached = max((folder / "mail").rglob("*.eml"), key=lambda path: path.stat().st_size)
    assert b"application/pdf" in attached.read_bytes()


@pytest.mark.slow
async def test_once_on_the_users_own_data(start: Start, tmp_path: Path) -> None:
    images = tmp_path / "own"
    images.mkdir()
    for name in ("one.jpg", "two.jpeg"):
        shutil.copy(PHOTOGRAPH, images / name)
    (images / "notes.txt").write_text("no image")
    table = tmp_path / "own table.csv"
    table.write_text("name,amount\n" + "".join(f"n{number},{number}\n" for number in range(1_000)))
    before = sorted(images.iterdir())
    showcase = await start(ONCE="1", IMAGES=str(images), DATA=str(table))
    assert await showcase.exit_code() == 0, showcase.output
    assert "9 pictures" in showcase.output
    assert "1,000 rows, 1 columns" in showcase.output
    assert sorted(images.iterdir()) == before


async def test_a_failed_step_is_shown_and_makes_the_exit_code_1(start: Start, tmp_path: Path) -> None:
    images = tmp_path / "own"
    images.mkdir()
    (images / "broken.jpg").write_bytes(PHOTOGRAPH.read_bytes()[:20_000])
    showcase = await start(ONCE="1", IMAGES=str(images))
    assert await showcase.exit_code() == 1
    assert "InvalidInput: libvips cannot process this image" in showcase.output
    assert (showcase.output.count("✓"), showcase.output.count("✗")) == (8, 3)


@pytest.mark.parametrize("variable", ["IMAGES", "DATA"])
async def test_input_that_is_not_there_is_a_clear_error(start: Start, tmp_path: Path, variable: str) -> None:
    showcase = await start(ONCE="1", **{variable: str(tmp_path / "nothing")})
    assert await showcase.exit_code() == 2
    assert showcase.output.startswith("there are no images in" if variable == "IMAGES" else "there is no file")


async def test_serving_a_second_terminal_until_sigterm(start: Start) -> None:
    showcase = await start()
    await showcase.until("Ctrl-C stops everything")
    assert len(showcase.children()) == CHILDREN

    send = await run("jobs.send", showcase.folder, "--to", "someone@example.org", "--subject", "From the second")
    output, _ = await send.communicate()
    assert (send.returncode, b"sent to someone@example.org" in output) == (0, True), output
    await showcase.until("mail to someone@example.org: From the second")

    refused = await run("jobs.send", showcase.folder, "--to", "nobody")
    output, _ = await refused.communicate()
    assert (refused.returncode, b"InvalidMessage" in output) == (1, True), output

    second = await start(ONCE="1")
    assert await second.exit_code() == 2
    assert "already runs" in second.output

    # Worker processes that are killed are replaced.
    before = supervisor_of(showcase).children()
    for child in before:
        child.kill()
    send = await run("jobs.send", showcase.folder, "--to", "someone@example.org")
    output, _ = await send.communicate()
    assert send.returncode == 0, output
    assert not {child.pid for child in supervisor_of(showcase).children()} & {child.pid for child in before}

    children = showcase.children()
    showcase.process.send_signal(signal.SIGTERM)
    assert await showcase.exit_code() == 0
    wait_gone(children)
    assert not (showcase.folder / "service.env").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for a parent's death")
@pytest.mark.slow
async def test_nothing_outlives_a_killed_showcase(start: Start) -> None:
    showcase = await start()
    await showcase.until("Ctrl-C stops everything")
    children = showcase.children()
    showcase.process.kill()
    await showcase.exit_code()
    wait_gone(children)


async def test_interrupted_work_stops_everything(start: Start) -> None:
    showcase = await start()
    await showcase.until("runs 2 worker processes")
    children = showcase.children()
    showcase.process.send_signal(signal.SIGINT)
    assert await showcase.exit_code() in (0, 130)
    wait_gone(children)


def supervisor_of(showcase: Showcase) -> psutil.Process:
    (supervisor,) = [child for child in showcase.children() if {"arqestra.cli", "worker"} <= set(child.cmdline())]
    return supervisor


@pytest.mark.slow
async def test_a_supervisor_that_ends_is_noticed(start: Start) -> None:
    showcase = await start()
    await showcase.until("Ctrl-C stops everything")
    supervisor_of(showcase).kill()
    assert await showcase.exit_code() == 1
    assert "worker worker.WorkerSettings ended on its own" in showcase.output


async def test_a_scheduler_that_ends_is_noticed(start: Start) -> None:
    showcase = await start()
    await showcase.until("runs 2 worker processes")
    (scheduler,) = [child for child in showcase.children() if {"arqestra.cli", "scheduler"} <= set(child.cmdline())]
    scheduler.kill()
    assert await showcase.exit_code() == 1
    assert "scheduler scheduler.SCHEDULES ended on its own" in showcase.output


async def test_a_supervisor_that_ends_during_the_work_is_noticed(start: Start) -> None:
    showcase = await start()
    await showcase.until("runs 2 worker processes")
    supervisor_of(showcase).kill()
    assert await showcase.exit_code() == 1
    assert "ended on its own" in showcase.output


async def test_sending_without_a_service_is_a_clear_error(tmp_path: Path) -> None:
    started = time.monotonic()
    send = await run("jobs.send", tmp_path)
    output, _ = await send.communicate()
    assert send.returncode == 2
    assert b"start `make run` first" in output
    assert time.monotonic() - started < PATIENCE_S
