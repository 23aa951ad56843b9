"""Jobs of the engine's end-to-end tests. What they note is read by the test: they run in its process."""

from __future__ import annotations

import asyncio
import enum
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from arqestra import Retry, current_job, job


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Parcel:
    id: UUID
    size: Size
    due: datetime
    stops: list[str]


@job
async def double(ctx: dict[Any, Any], number: int) -> int:
    return number * 2


@job
async def note(ctx: dict[Any, Any], what: str) -> str:
    ctx["notes"].append(what)
    return what


@job
async def grow(ctx: dict[Any, Any], parcel: Parcel, by: list[str]) -> Parcel:
    assert isinstance(parcel.size, Size)
    return Parcel(parcel.id, Size.LARGE, parcel.due, parcel.stops + by)


@job
async def fail(ctx: dict[Any, Any], message: str) -> None:
    raise ValueError(message)


@job
async def fail_once(ctx: dict[Any, Any]) -> int:
    """Fails at its first run, also when that is the second life of the job."""
    ctx["notes"].append("run")
    if len(ctx["notes"]) == 1:
        raise ValueError("the first time")
    return int(ctx["job_try"])


@job
async def retry_once(ctx: dict[Any, Any], defer_s: float) -> int:
    ctx["notes"].append(time.monotonic())
    if ctx["job_try"] == 1:
        raise Retry(defer=defer_s)
    return int(ctx["job_try"])


@job
async def who_am_i(ctx: dict[Any, Any]) -> list[Any]:
    """Asked in a task of its own, without ctx."""

    async def ask() -> list[Any]:
        running = current_job()
        assert running is not None
        return [running.job_id, running.function, running.queue, running.job_try]

    return await asyncio.create_task(ask())


@job
async def hold(ctx: dict[Any, Any]) -> int:
    """Runs until the test lets it go; gives the number of its attempt."""
    ctx["started"].set()
    await ctx["let_go"].wait()
    return int(ctx["job_try"])


@job(timeout=0.05)
async def too_slow(ctx: dict[Any, Any]) -> None:
    await asyncio.Event().wait()


ALL = [double, note, grow, fail, fail_once, retry_once, who_am_i, hold, too_slow]
