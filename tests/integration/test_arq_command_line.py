"""`arq worker.WorkerSettings` and each of its flags, with a settings class that carries @arqestra.worker_settings.

Each run is a process of its own, and each proves that the worker is ours: the job asks `arqestra.current_job()`,
which only our Worker sets, and returns where the answer comes from.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import arq
import pytest
import redis

from arqestra import Pool, create_pool
from tests.support.pools import serializers
from tests.support.wait import PATIENCE_S, block_until

from .arq_process import ArqProcess

SETTINGS = """
import logging
import os

import arqestra

log_dict = {
    "version": 1,
    "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
    "formatters": {"own": {"format": "own format: %(message)s"}},
    "loggers": {"arq": {"handlers": ["own"], "level": "INFO"}},
}


VERSION = 1


async def who_runs_me(ctx, note):
    job = arqestra.current_job()
    return [type(job).__module__.split(".")[0], note, logging.getLogger("arq").level]


async def wait_forever(ctx):
    import asyncio
    await asyncio.Event().wait()


class Base:
    redis_settings = arqestra.RedisSettings.from_dsn(os.environ["TEST_REDIS_URL"])
    poll_delay = 0.1


@arqestra.worker_settings
class WorkerSettings(Base):
    functions = [who_runs_me, wait_forever]
    lease = 5
    serializer = "msgpack"
    job_completion_wait = 0


@arqestra.worker_settings
class PatientSettings(WorkerSettings):
    job_completion_wait = 600


@arqestra.worker_settings
class BurstSettings(WorkerSettings):
    burst = True


async def which_version(ctx):
    return VERSION


async def which_loop(ctx):
    import asyncio
    return type(asyncio.get_running_loop()).__module__.split(".")[0]


async def which_worker(ctx):
    return arqestra.current_job() is not None


SHARED = {"functions": [which_version, which_worker], "poll_delay": 0.1, "redis_settings": Base.redis_settings}
DICT = arqestra.worker_settings(dict(SHARED))
OBJECT = arqestra.worker_settings(type("Settings", (), SHARED)())
MADE = arqestra.worker_settings(type("Settings", (), SHARED))
STOCK_DICT = dict(SHARED)
StockSettings = type("StockSettings", (), SHARED)
SEVERAL = arqestra.worker_settings({**SHARED, "queues": ["mail", "arq:queue"]})
LOOP = arqestra.worker_settings({**SHARED, "functions": [which_loop]})
PLAIN_LOOP = arqestra.worker_settings({**SHARED, "uvloop": False, "functions": [which_loop]})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's project: one module of settings."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "worker.py").write_text(SETTINGS, encoding="utf-8")
    return project


serializer = serializers("msgpack")


class CommandLine:
    """Starts `arq` in the project, each run with a log file of its own."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._folder = folder
        self._redis_url = redis_url
        self._runs = 0

    def __call__(self, *arguments: str) -> ArqProcess:
        self._runs += 1
        log = self._folder.parent / f"output-{self._runs}.log"
        return ArqProcess(arguments, self._folder, {"TEST_REDIS_URL": self._redis_url}, log)


@pytest.fixture
def arq_command(folder: Path, redis_url: str) -> CommandLine:
    return CommandLine(folder, redis_url)


async def assert_ours(pool: Pool, note: str, log_level: str = "INFO") -> None:
    """Send a job to the running worker and see from its result who ran it."""
    levels = {"INFO": 20, "DEBUG": 10}
    job = await pool.enqueue_job("who_runs_me", note)
    assert job is not None
    assert await job.result(timeout=PATIENCE_S) == ["arqestra", note, levels[log_level]]


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_it_runs_until_a_signal(arq_command: CommandLine, pool: Pool, signal_number: signal.Signals) -> None:
    with arq_command("worker.WorkerSettings") as run:
        run.wait_for("Starting worker for 2 functions: who_runs_me, wait_forever")
        await assert_ours(pool, "plain")
        run.wait_for(":who_runs_me ● ")  # arq's line for the end of a job
        run.send(signal_number)
        assert await asyncio.to_thread(run.wait) == 0
        assert f"shutdown on {signal_number.name} ◆ 1 jobs complete ◆ 0 failed ◆ 0 retries ◆ 0 ongoing" in run.output
        assert "Traceback" not in run.output


async def test_a_running_job_is_given_back_on_sigterm(arq_command: CommandLine, pool: Pool, redis_url: str) -> None:
    job = await pool.enqueue_job("wait_forever", _job_id="long")
    assert job is not None
    with arq_command("worker.WorkerSettings") as run:
        run.wait_for("long:wait_forever(")
        run.send(signal.SIGTERM)
        assert await asyncio.to_thread(run.wait) == 0
    with redis.Redis.from_url(redis_url) as client:
        assert client.exists("arq:in-progress:long") == 0
        assert client.zscore("arq:queue", "long") is not None
        assert int(client.get("arq:retry:long") or 0) == 0  # no attempt was consumed


async def test_a_second_signal_ends_the_waiting_for_jobs(arq_command: CommandLine, pool: Pool, redis_url: str) -> None:
    job = await pool.enqueue_job("wait_forever", _job_id="long")
    assert job is not None
    with arq_command("worker.PatientSettings") as run:
        run.wait_for("long:wait_forever(")
        run.send(signal.SIGINT)
        run.wait_for("shutdown on SIGINT ◆ 0 jobs complete ◆ 0 failed ◆ 0 retries ◆ 1 to be completed")
        run.send(signal.SIGINT)
        assert await asyncio.to_thread(run.wait) == 0
        assert "1 ongoing to cancel" in run.output
        assert "Traceback" not in run.output
    with redis.Redis.from_url(redis_url) as client:
        assert client.zscore("arq:queue", "long") is not None
        assert int(client.get("arq:retry:long") or 0) == 0


async def test_burst_ends_when_the_queue_is_empty(arq_command: CommandLine, pool: Pool) -> None:
    jobs = [await pool.enqueue_job("who_runs_me", str(number)) for number in range(5)]
    with arq_command("worker.WorkerSettings", "--burst") as run:
        assert await asyncio.to_thread(run.wait) == 0
    for number, job in enumerate(jobs):
        assert job is not None
        assert await job.result(timeout=1) == ["arqestra", str(number), 20]


async def test_no_burst_overrules_the_settings(arq_command: CommandLine, pool: Pool) -> None:
    with arq_command("worker.BurstSettings", "--no-burst") as run:
        await assert_ours(pool, "first")
        # A burst worker would have ended on the empty queue between the two.
        await assert_ours(pool, "second")
        run.send(signal.SIGTERM)
        assert await asyncio.to_thread(run.wait) == 0


async def test_the_settings_alone_can_ask_for_burst(arq_command: CommandLine, pool: Pool) -> None:
    job = await pool.enqueue_job("who_runs_me", "inherited")
    assert job is not None
    with arq_command("worker.BurstSettings") as run:
        assert await asyncio.to_thread(run.wait) == 0
    assert await job.result(timeout=1) == ["arqestra", "inherited", 20]


async def test_check_tells_whether_a_worker_lives(arq_command: CommandLine, pool: Pool, redis_url: str) -> None:
    with arq_command("worker.WorkerSettings", "--check") as check:
        assert await asyncio.to_thread(check.wait) == 1
        assert "Health check failed: no health check sentinel value found" in check.output

    with arq_command("worker.WorkerSettings") as run:
        await assert_ours(pool, "healthy")
        with redis.Redis.from_url(redis_url) as client:
            block_until(lambda: client.exists("arq:queue:health-check") == 1, "the health check key")
        with arq_command("worker.WorkerSettings", "--check") as check:
            assert await asyncio.to_thread(check.wait) == 0
            assert "Health check successful: " in check.output
        run.send(signal.SIGTERM)
        assert await asyncio.to_thread(run.wait) == 0

    with arq_command("worker.WorkerSettings", "--check") as check:
        assert await asyncio.to_thread(check.wait) == 1


async def test_watch_reloads_on_a_change(arq_command: CommandLine, pool: Pool, folder: Path) -> None:
    with arq_command("worker.WorkerSettings", "--watch", ".") as run:
        await assert_ours(pool, "before the change")
        await asyncio.to_thread(change_until, run, folder, SETTINGS, "files changed, reloading arq worker...")
        run.wait_for("has ended with 0")  # the old process; its replacement is up
        await assert_ours(pool, "after the change")
        run.send(signal.SIGTERM)
        assert await asyncio.to_thread(run.wait) == 0
        assert "Traceback" not in run.output


def change_until(run: ArqProcess, folder: Path, code: str, text: str) -> None:
    """Change the settings' module until the output has the text: the watcher may not watch yet when the worker runs."""
    looks = itertools.count()

    def seen() -> bool:
        look = next(looks)
        if look % 150 == 0:
            (folder / "worker.py").write_text(f"{code}\n# {look}\n", encoding="utf-8")
        return text in run.output

    block_until(seen, lambda: f"{text!r}, got:\n{run.output}")


async def test_watch_runs_the_new_code_and_goes_on_with_the_old_while_the_new_does_not_run(
    arq_command: CommandLine, folder: Path, redis_url: str
) -> None:
    pool = await create_pool(redis_url)

    async def version() -> int:
        job = await pool.enqueue_job("which_version")
        assert job is not None
        return cast(int, await job.result(timeout=PATIENCE_S))

    with arq_command("worker.DICT", "--watch", ".", "-v") as run:
        assert await version() == 1
        await asyncio.to_thread(change_until, run, folder, "VERSION = (", "SyntaxError")
        assert await version() == 1
        changed = SETTINGS.replace("VERSION = 1", "VERSION = 2")
        await asyncio.to_thread(change_until, run, folder, changed, "has ended with 0")
        assert await version() == 2
        run.send(signal.SIGTERM)
        assert await asyncio.to_thread(run.wait) == 0
    await pool.aclose()


async def test_watch_uses_a_custom_log_dict(arq_command: CommandLine, folder: Path) -> None:
    with arq_command("worker.DICT", "--watch", ".", "--custom-log-dict", "worker.log_dict") as run:
        run.wait_for("own format: Starting worker for 2 functions")
        run.send(signal.SIGTERM)
        assert await asyncio.to_thread(run.wait) == 0


STOCK_LINE = "runs under stock arq, although arqestra is imported"


@pytest.mark.parametrize(
    ("settings", "ours"),
    [("DICT", True), ("OBJECT", True), ("MADE", True), ("STOCK_DICT", False), ("StockSettings", False)],
)
async def test_whose_worker_runs_is_decided_by_the_decorator_and_said_if_it_is_arqs(
    arq_command: CommandLine, redis_url: str, settings: str, ours: bool
) -> None:
    pool = await create_pool(redis_url)
    job = await pool.enqueue_job("which_worker")
    assert job is not None
    with arq_command(f"worker.{settings}", "--burst") as run:
        assert await asyncio.to_thread(run.wait) == 0
        assert run.output.count(STOCK_LINE) == (0 if ours else 1)
        assert run.output.index("Starting worker") > run.output.find(STOCK_LINE)
    assert await job.result(timeout=1) is ours
    await pool.aclose()


async def test_check_knows_the_key_of_a_worker_of_several_queues(arq_command: CommandLine, redis_url: str) -> None:
    with arq_command("worker.SEVERAL") as run:
        with redis.Redis.from_url(redis_url) as client:
            block_until(lambda: client.exists("mail:health-check") == 1, lambda: f"the key:\n{run.output}")
        with arq_command("worker.SEVERAL", "--check") as check:
            assert await asyncio.to_thread(check.wait) == 0
            assert "Health check successful: " in check.output
        run.send(signal.SIGTERM)
        assert await asyncio.to_thread(run.wait) == 0


@pytest.mark.parametrize(("settings", "loop"), [("PLAIN_LOOP", "asyncio"), ("LOOP", "uvloop")])
async def test_a_setting_keeps_asyncios_loop(
    arq_command: CommandLine, redis_url: str, settings: str, loop: str
) -> None:
    pool = await create_pool(redis_url)
    job = await pool.enqueue_job("which_loop")
    assert job is not None
    with arq_command(f"worker.{settings}", "--burst") as run:
        assert await asyncio.to_thread(run.wait) == 0
    assert await job.result(timeout=1) == loop
    await pool.aclose()


async def test_verbose_turns_debug_lines_on(arq_command: CommandLine, pool: Pool) -> None:
    with arq_command("worker.WorkerSettings", "-v") as run:
        await assert_ours(pool, "verbose", log_level="DEBUG")
        run.send(signal.SIGTERM)
        assert await asyncio.to_thread(run.wait) == 0


async def test_a_custom_log_dict_formats_the_lines(arq_command: CommandLine, pool: Pool) -> None:
    with arq_command("worker.WorkerSettings", "--custom-log-dict", "worker.log_dict") as run:
        run.wait_for("own format: Starting worker for 2 functions")
        await assert_ours(pool, "own format")
        run.wait_for("own format: ")
        run.send(signal.SIGTERM)
        assert await asyncio.to_thread(run.wait) == 0
        assert "own format: shutdown on SIGTERM" in run.output


def test_version_is_arqs(arq_command: CommandLine) -> None:
    with arq_command("--version") as run:
        assert run.wait() == 0
        assert arq.VERSION in run.output


async def test_the_installed_script_does_the_same(folder: Path, pool: Pool, redis_url: str) -> None:
    script = shutil.which("arq", path=str(Path(sys.executable).parent))
    assert script is not None
    job = await pool.enqueue_job("who_runs_me", "script")
    assert job is not None
    done = await asyncio.to_thread(
        subprocess.run,
        [script, "worker.WorkerSettings", "--burst"],
        cwd=folder,
        env={**os.environ, "TEST_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert await job.result(timeout=1) == ["arqestra", "script", 20]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("max_job = 5", ["'max_job'", "'max_jobs'"]),
        ("leese = 5", ["'leese'", "'lease'"]),
        ("max_jobs = 'ten'", ["max_jobs", "expected an int", "'ten'"]),
        ("lease = 'long'", ["lease", "seconds", "'long'"]),
        ("serializer = 'xml'", ["serializer", "expected", "msgpack", "xml"]),
    ],
)
def test_a_wrong_setting_is_an_error_that_says_what_was_expected(
    arq_command: CommandLine, folder: Path, line: str, expected: list[str]
) -> None:
    wrong = f"\n\n@arqestra.worker_settings\nclass WrongSettings(Base):\n    functions = [who_runs_me]\n    {line}\n"
    (folder / "worker.py").write_text(SETTINGS + wrong, encoding="utf-8")
    with arq_command("worker.WrongSettings", "--burst") as run:
        assert run.wait() != 0
        message = run.output.strip().splitlines()[-1]
        assert message.startswith("arqestra.errors.SettingsError")
        for part in expected:
            assert part in message
