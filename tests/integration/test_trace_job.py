"""A reader who follows one job from the enqueue to its result opens few files (`make trace-job` prints them)."""

from __future__ import annotations

import subprocess
import sys

from tests.support.repository import REPOSITORY

MAX_FILES = 18


def test_one_job_goes_through_few_files() -> None:
    """In a process of its own: what else runs in this one is not on the job's way."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.trace_job"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    *files, _ = [line.split()[0] for line in ran.stdout.splitlines()]
    assert {"client/enqueue.py", "store/store.py", "worker/run/execute.py", "handles/job.py"} <= set(files), ran.stdout
    assert len(files) <= MAX_FILES, f"expected {MAX_FILES} files at most, got {len(files)}:\n{ran.stdout}"
