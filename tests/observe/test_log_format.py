"""`--log-format json`: each line that the commands write is one JSON object, those of worker processes too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arqestra import create_pool
from tests.support.repository import REPOSITORY
from tests.support.run_log import PATH_VARIABLE
from tests.support.supervised_jobs import nap


def said(redis_url: str, tmp_path: Path, *arguments: str) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-m", "arqestra.cli", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "REDIS_URL": redis_url, PATH_VARIABLE: str(tmp_path / "runs.log"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return (ended.stdout + ended.stderr).splitlines()


async def test_a_worker_and_its_processes_write_json(redis_url: str, tmp_path: Path) -> None:
    pool = await create_pool(redis_url)
    handle = await pool.enqueue(nap, 0.01)
    await pool.aclose()
    assert handle is not None

    lines = said(
        redis_url, tmp_path, "worker", "tests.support.supervised_jobs.Settings", "--burst", "--log-format", "json"
    )

    records = [json.loads(line) for line in lines]
    of_job = [record for record in records if record.get("job_id") == handle.job_id]
    assert {record["function"] for record in of_job} == {"nap"}
    assert len(of_job) >= 2


def test_a_scheduler_that_finds_no_redis_says_so_in_json(tmp_path: Path) -> None:
    lines = said(
        "redis://127.0.0.1:1", tmp_path, "scheduler", "tests.schedule.timetables.UNREACHABLE", "--log-format", "json"
    )
    assert json.loads(lines[-1])["logger"].startswith("arq.")


@pytest.mark.parametrize("command", ["worker", "scheduler"])
def test_another_format_is_refused(redis_url: str, tmp_path: Path, command: str) -> None:
    assert any("'text'" in line for line in said(redis_url, tmp_path, command, "x.Y", "--log-format", "xml"))
