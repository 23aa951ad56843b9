"""A `SyncPool` in processes that fork, and at their end: nothing is lost, nothing hangs, nothing is said."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from arqestra import JobContext, Pool, create_pool
from tests.integration.sync_producer import JOBS, PROCESSES
from tests.integration.sync_producer import PATIENCE_S as PRODUCER_PATIENCE_S
from tests.support.ports import HOST, free_port
from tests.support.redis_process import redis_process
from tests.support.workers import worker_running

PATIENCE_S = 60.0
END_LIMIT_S = 15.0  # of a program whose Redis is away, on a busy machine


def started(url: str, scenario: str) -> subprocess.Popen[str]:
    """The program. Warnings of its end are to be seen; that of Python 3.12 on forks of threads is not ours."""
    options = ("-W", "default", "-W", "ignore::DeprecationWarning")
    return subprocess.Popen(
        [sys.executable, *options, "-m", "tests.integration.sync_producer", url, scenario],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(program: subprocess.Popen[str]) -> str:
    """What a program prints until it ends, well and without a complaint."""
    try:
        printed, errors = program.communicate(timeout=PATIENCE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):  # there is nobody left, unless something hangs
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
    assert (program.returncode, errors) == (0, "")
    return printed


async def enqueued(url: str) -> Counter[str]:
    """By whom."""
    async with await create_pool(url) as pool:
        return Counter(job.args[0] for job in await pool.queued_jobs())


async def counted(url: str) -> int:
    async with await create_pool(url) as pool:
        return sum(row["enqueued"] for row in await pool.statistics())


def test_a_pool_that_is_not_used_has_neither_thread_nor_connection(redis_url: str) -> None:
    end(started(redis_url, "unused"))


async def test_a_script_that_closes_nothing_ends_well(redis_url: str) -> None:
    end(started(redis_url, "plain"))

    assert await enqueued(redis_url) == {"script": 3}
    assert await counted(redis_url) == 3


async def test_parent_and_children_go_on_after_a_fork(redis_url: str) -> None:
    end(started(redis_url, "forks"))

    expected = {"parent": 2 * JOBS + 1, "child": 2 * JOBS, "grandchild": JOBS}
    assert await enqueued(redis_url) == expected
    assert await counted(redis_url) == sum(expected.values())


async def test_children_leave_what_they_inherit_alone(redis_url: str) -> None:
    end(started(redis_url, "forks_without_use"))

    assert await enqueued(redis_url) == {"parent": PROCESSES + 1}


async def noted(ctx: JobContext, who: str, number: int) -> str:
    return who


async def test_a_parent_goes_on_listening(pool: Pool, redis_url: str) -> None:
    program = started(redis_url, "forks_while_it_listens")
    assert program.stdout is not None
    assert await asyncio.to_thread(program.stdout.readline) == "ready\n"
    async with worker_running(pool, functions=[noted]):
        began = time.monotonic()
        assert await asyncio.to_thread(end, program) == "parent\n"
        assert time.monotonic() - began < PRODUCER_PATIENCE_S  # it was told; it would have looked later


async def test_processes_are_forked_while_threads_enqueue(redis_url: str) -> None:
    end(started(redis_url, "forks_in_threads"))

    found = await enqueued(redis_url)
    assert await counted(redis_url) == found.total()
    assert found.pop("thread") > 0
    assert found == {"process": PROCESSES * JOBS, "after": 1}


@pytest.mark.parametrize("scenario", ["ends_while_a_thread_waits", "ends_while_threads_enqueue"])
async def test_daemon_threads_do_not_hold_up_the_end(redis_url: str, scenario: str) -> None:
    end(started(redis_url, scenario))

    jobs = await enqueued(redis_url)
    assert jobs.total() >= 1
    if scenario == "ends_while_threads_enqueue":
        assert jobs["thread"] >= PROCESSES


async def test_functions_that_run_at_exit_can_enqueue(redis_url: str) -> None:
    end(started(redis_url, "enqueues_at_exit"))

    assert await enqueued(redis_url) == {"main": 1, "exit": 1}


def test_a_program_ends_while_redis_does_not_answer(tmp_path: Path) -> None:
    port = free_port()
    with redis_process(tmp_path / "server", port) as server:
        program = started(f"redis://{HOST}:{port}", "ends_when_told")
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "ready\n"
        server.freeze()
        began = time.monotonic()
        end(program)
        assert time.monotonic() - began < END_LIMIT_S


async def test_a_program_ends_while_it_connects() -> None:
    async with swallowing_server() as url:
        program = started(url, "ends_while_it_connects")
        assert program.stdout is not None
        await asyncio.to_thread(program.stdout.readline)
        began = time.monotonic()
        await asyncio.to_thread(end, program)
        assert time.monotonic() - began < END_LIMIT_S


@asynccontextmanager
async def swallowing_server() -> AsyncIterator[str]:
    """Takes connections and says nothing."""
    writers: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: writers.append(writer), HOST, 0) as server:
        yield f"redis://{HOST}:{server.sockets[0].getsockname()[1]}"
        for writer in writers:
            writer.close()


def test_ctrl_c_ends_the_wait_and_not_the_job(redis_url: str) -> None:
    program = started(redis_url, "waits")
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGINT)

    assert end(program) == "interrupted JobStatus.queued\n"
