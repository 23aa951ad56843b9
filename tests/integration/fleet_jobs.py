"""The jobs of the mixed fleet and the settings of its stock workers. Plain arq: nothing here imports arqestra.

Every run of a job writes its start and its end to a file outside Redis. A line is one write with O_APPEND, so that
the lines of all processes stand in the order in which they were written.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar

from arq import Retry, func
from arq.connections import RedisSettings

LOG_VARIABLE = "FLEET_LOG"
URL_VARIABLE = "FLEET_REDIS_URL"


def note(event: str, subject: str) -> None:
    """Append one line: what happened, to which job or worker, in which process."""
    log = os.open(os.environ[LOG_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, f"{event} {subject} {os.getpid()}\n".encode())
    finally:
        os.close(log)


async def double(ctx: dict[Any, Any], number: int, *, pause_s: float) -> int:
    """A short job."""
    note("start", ctx["job_id"])
    await asyncio.sleep(pause_s)
    note("end", ctx["job_id"])
    return number * 2


async def second_time_lucky(ctx: dict[Any, Any], number: int) -> int:
    """A job that asks for a retry and then succeeds."""
    note("start", ctx["job_id"])
    await asyncio.sleep(0.001)
    note("end", ctx["job_id"])
    if ctx["job_try"] == 1:
        raise Retry(defer=0.2)
    return number * 2


async def fail(ctx: dict[Any, Any], number: int) -> None:
    """A job that fails for good."""
    note("start", ctx["job_id"])
    note("end", ctx["job_id"])
    raise ValueError(f"no use for {number}")


async def endless(ctx: dict[Any, Any], number: int) -> None:
    """A job that ends only when it is aborted."""
    note("start", ctx["job_id"])
    try:
        await asyncio.Event().wait()
    finally:
        note("end", ctx["job_id"])


async def announce(ctx: dict[Any, Any]) -> None:
    note("worker", "arq")


class StockSettings:
    """A settings class as an arq user has it."""

    functions: ClassVar[list[Any]] = [double, second_time_lucky, fail, func(endless, timeout=600)]
    redis_settings = RedisSettings.from_dsn(os.environ.get(URL_VARIABLE, "redis://127.0.0.1:6379"))
    on_startup = announce
    max_jobs = 10
    poll_delay = 0.05
    allow_abort_jobs = True
    log_results = False
