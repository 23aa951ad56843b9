"""Settings and jobs of the supervisor's tests. Runs are written to the log that `CHAOS_RUN_LOG` names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arqestra import job, worker_settings
from tests.support.run_log import noted

HOARD: list[bytearray] = []


@job
async def nap(ctx: dict[Any, Any], seconds: float) -> dict[str, int]:
    with noted(ctx):
        await asyncio.sleep(seconds)
    return {"pid": os.getpid(), "job_try": ctx["job_try"]}


@job
async def hoard(ctx: dict[Any, Any], megabytes: int) -> int:
    with noted(ctx):
        HOARD.append(bytearray(os.urandom(1024) * 1024 * megabytes))
    return os.getpid()


@job(timeout=1)
async def spin(ctx: dict[Any, Any]) -> None:
    with noted(ctx):
        while True:
            pass


@job(timeout=1)
async def swallow(ctx: dict[Any, Any]) -> None:
    with noted(ctx):
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue


@job(timeout=60)
async def until_file(ctx: dict[Any, Any], path: str) -> dict[str, int]:
    with noted(ctx):
        while not Path(path).exists():  # noqa: ASYNC110, ASYNC240 - a file has no event
            await asyncio.sleep(0.02)
    return {"pid": os.getpid(), "job_try": ctx["job_try"]}


@job(executor="process")
def whereabouts(ctx: dict[Any, Any]) -> int:
    return os.getpid()


async def fail_to_start(ctx: dict[Any, Any]) -> None:
    raise RuntimeError("no database")


@worker_settings
class Settings:
    functions: Sequence[Any] = (nap, hoard, spin, swallow, until_file, whereabouts)
    redis_settings = os.environ.get("REDIS_URL", "redis://127.0.0.1:1")
    max_jobs = 10
    lease = 5
    cancel_grace = 0.5


@worker_settings
class Broken(Settings):
    on_startup = fail_to_start


@worker_settings
class Burst(Settings):
    burst = True


BURST_DICT = {"functions": Settings.functions, "redis_settings": Settings.redis_settings, "burst": True}
BURST_OBJECT = Burst()


@worker_settings
class WornBurst(Burst):
    max_jobs_per_child = 5


@worker_settings
class Hasty(Settings):
    """Without a time for jobs to end in, as arq's default is."""

    max_jobs_per_child = 50
