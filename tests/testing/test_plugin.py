"""The fixtures in a project of their own, in a pytest of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """
import unittest

import pytest
from arqestra import job
from arqestra.testing import assert_enqueued, drain, manual


@job
async def add(ctx, a, b):
    return a + b


@pytest.mark.parametrize("number", range(6))
async def test_each_begins_empty(arqestra_pool, number):
    await assert_enqueued(arqestra_pool, add, count=0)
    await arqestra_pool.enqueue(add, 1, 2)
    assert (await drain(arqestra_pool, [add])).complete == 1


async def test_a_worker_and_the_time(arqestra_pool, arqestra_worker, arqestra_clock):
    handle = await arqestra_pool.enqueue_job("add", 1, 2, _defer_by=3600)
    async with arqestra_worker([add]).running():
        arqestra_clock.travel(hours=2)
        assert await handle.result(timeout=10) == 3


class TestWithUnittest(unittest.IsolatedAsyncioTestCase):
    async def test_it(self):
        async with manual() as pool:
            await pool.enqueue(add, 1, 2)
            self.assertEqual((await drain(pool, [add])).complete, 1)
"""

SETTINGS = """
import pytest
from arqestra.testing import enqueued


@pytest.fixture
def arqestra_pool_settings():
    return {"default_queue_name": "app", "serializer": "json"}


async def test_a_pool_of_the_projects_own(arqestra_pool):
    await arqestra_pool.enqueue_job("f", [1])
    assert [job.queue for job in await enqueued(arqestra_pool)] == ["app"]
    assert arqestra_pool.serializer.name == "json"
"""

UNUSED = """
import sys


def test_nothing_is_imported_until_it_is_used():
    assert "pytest_arqestra" in sys.modules
    assert not [name for name in sys.modules if name.partition(".")[0] in ("arqestra", "arq", "redis")]
"""


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
            "-o",
            "asyncio_default_fixture_loop_scope=function",
            *arguments,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "two"])
def test_a_project(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (tmp_path / "test_project.py").write_text(PROJECT)
    (tmp_path / "test_settings.py").write_text(SETTINGS)
    assert "9 passed" in run(tmp_path, *arguments)


def test_it_is_quiet_until_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_unused.py").write_text(UNUSED)
    assert "1 passed" in run(tmp_path)
