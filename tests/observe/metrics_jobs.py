"""Jobs that come to each outcome."""

from __future__ import annotations

import asyncio
from typing import Any

from arqestra import Retry, job


@job
async def work(ctx: dict[Any, Any]) -> None:
    """Nothing."""


@job
async def take(ctx: dict[Any, Any], seconds: float) -> None:
    await asyncio.sleep(seconds)


@job
async def fail(ctx: dict[Any, Any]) -> None:
    raise ValueError("as it was told")


@job(max_tries=3)
async def twice(ctx: dict[Any, Any]) -> None:
    if ctx["job_try"] == 1:
        raise Retry(defer=0)


@job
async def hand_on(ctx: dict[Any, Any]) -> None:
    await ctx["redis"].enqueue_job("work")


ALL = [work, take, fail, twice, hand_on]
