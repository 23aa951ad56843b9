"""`make trace-job`: runs one no-op job, and prints each file of arqestra on its way from the enqueue to the result.

A reader of the code has to open these files. Once-a-second work of the worker is not the job's, and is left out.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

import arqestra
from arqestra.embedded import EmbeddedRedis

PACKAGE = Path(arqestra.__file__).parent
# What runs by itself, beside any job: the reporter's second, the housekeeping.
BESIDE = frozenset({"StatsReporter._run", "StatsReporter._write", "serve", "_housekeep"})


async def noop(ctx: dict[Any, Any]) -> None:
    """A job."""


async def trace_job(redis_url: str) -> dict[str, list[str]]:
    """The functions that one job calls, by file.

    :param redis_url: a server to run it on
    """
    settings = arqestra.RedisSettings.from_dsn(redis_url)
    pool = await arqestra.create_pool(settings)
    worker = arqestra.Worker([noop], redis_settings=settings, handle_signals=False, scheduler=False)
    running = asyncio.create_task(worker.async_run())
    try:
        for _ in range(3):  # what is made only once is not on the way
            await _run_one(pool)
        called: dict[str, list[str]] = defaultdict(list)

        def note(frame: FrameType, event: str, _: Any) -> None:
            path = Path(frame.f_code.co_filename)
            if event == "call" and PACKAGE in path.parents:
                name, file = frame.f_code.co_qualname, path.relative_to(PACKAGE).as_posix()
                if name not in called[file]:
                    called[file].append(name)

        await asyncio.sleep(0)
        sys.setprofile(note)
        try:
            await _run_one(pool)
        finally:
            sys.setprofile(None)
        return {file: names for file, names in called.items() if not BESIDE.issuperset(names)}
    finally:
        await worker.close()
        await asyncio.gather(running, return_exceptions=True)
        await pool.aclose()


async def _run_one(pool: arqestra.Pool) -> None:
    job = await pool.enqueue_job("noop")
    assert job is not None
    await job.result(timeout=10)


def main() -> None:
    """Print the files and their functions."""
    with EmbeddedRedis() as server:
        called = asyncio.run(trace_job(server.url))
    for file, names in called.items():
        print(f"{file:34} {', '.join(names)}")
    print(f"{len(called)} files")


if __name__ == "__main__":
    main()
