"""A child process that a job forks is no second worker, and signals to it are its own."""

from __future__ import annotations

import asyncio
import sys

import pytest

from arqestra import create_pool

PATIENCE_S = 60.0

# What each job gives: mostly exit codes of children. 1 is that of a child that came back to its worker.
EXPECTED: list[tuple[str, tuple[str, ...], object]] = [
    ("terminates_a_process", (), [-15, -15]),
    ("works_in_a_process", (), ["sent", "0"]),
    *(("forks", (how,), 1) for how in ("return", "await", "raise", "caught")),
    ("forks", ("exit",), 7),
    ("forks", ("_exit",), 5),
    ("forks", ("subprocess",), 0),
    ("forks_in_a_task", (), 1),
    ("forks_in_a_thread", (), 1),
    ("runs_a_program", (), -15),
    ("is_alone", (), True),
]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_fork_is_no_second_worker(redis_url: str, loop: str) -> None:
    async with await create_pool(redis_url) as pool:
        jobs = [await pool.enqueue_job(name, *args) for name, args, _ in EXPECTED]
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.forking_worker", redis_url, loop),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(worker.communicate(), PATIENCE_S)

        assert output.decode().splitlines() == ["ended True"], errors.decode()
        results = [None if job is None else await job.result(timeout=1) for job in jobs]
        assert results == [result for _, _, result in EXPECTED], errors.decode()
        for job in jobs:
            info = None if job is None else await job.result_info()
            assert info is not None
            assert info.job_try == 1
    assert errors.decode().count("came back to its worker") == 6
