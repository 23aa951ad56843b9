"""A reader who follows one job from the enqueue to its result opens few files (`make trace-job` prints them)."""

from __future__ import annotations

from tests.trace_job import trace_job

MAX_FILES = 25


async def test_one_job_goes_through_few_files(redis_url: str) -> None:
    called = await trace_job(redis_url)

    files = "\n".join(called)
    assert {"client/pool.py", "store/store.py", "worker/run/execute.py", "handles/job.py"} <= set(called), files
    assert len(called) <= MAX_FILES, f"expected {MAX_FILES} files at most, got {len(called)}:\n{files}"
