"""The jobs that the fleets run. Each writes its runs to the log outside Redis and returns which process ran it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from arq import Retry, func

from arqestra import RateLimit, job

from .run_log import noted

__all__ = ("FUNCTIONS", "block", "capped", "die", "nap", "pass_gate", "rated", "second_time_lucky")

GATE_POLL_S = 0.01


async def nap(ctx: dict[Any, Any], seconds: float) -> dict[str, int]:
    """A job that waits, as most do."""
    with noted(ctx):
        await asyncio.sleep(seconds)
    return _run_of(ctx)


@job(rate_limit=RateLimit("100/s", burst=5))
async def rated(ctx: dict[Any, Any]) -> dict[str, int]:
    """A job of which 100 start in a second."""
    with noted(ctx):
        await asyncio.sleep(0.01)
    return _run_of(ctx)


@job(concurrency=8)
async def capped(ctx: dict[Any, Any], seconds: float) -> dict[str, int]:
    """A job of which 8 run at once."""
    with noted(ctx):
        await asyncio.sleep(seconds)
    return _run_of(ctx)


async def pass_gate(ctx: dict[Any, Any], gates: str, ending: str) -> dict[str, int]:
    """Run until the test opens the gate of this process (a file named by its id), then end in the given way.

    :param ending: `return` | `retry` | `raise`; the last two in the first attempt only
    """
    with noted(ctx):
        gate = Path(gates) / str(os.getpid())
        while not gate.exists():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(GATE_POLL_S)
        if ctx["job_try"] == 1 and ending == "retry":
            raise Retry(defer=0)
        if ctx["job_try"] == 1 and ending == "raise":
            raise ValueError("the first attempt fails")
    return _run_of(ctx)


async def second_time_lucky(ctx: dict[Any, Any]) -> dict[str, int]:
    """Ask for one retry."""
    with noted(ctx):
        if ctx["job_try"] == 1:
            raise Retry(defer=0)
    return _run_of(ctx)


async def die(ctx: dict[Any, Any], after_s: float) -> None:
    """Take the whole worker process along."""
    with noted(ctx):
        await asyncio.sleep(after_s)
        os._exit(13)


async def block(ctx: dict[Any, Any], seconds: float, only_first: bool = False) -> dict[str, int]:
    """Block the event loop, as code that was not written for asyncio does.

    :param only_first: block in the first attempt only
    """
    with noted(ctx):
        if ctx["job_try"] == 1 or not only_first:
            time.sleep(seconds)  # noqa: ASYNC251 - the point of it
    return _run_of(ctx)


def _run_of(ctx: dict[Any, Any]) -> dict[str, int]:
    return {"pid": os.getpid(), "job_try": ctx["job_try"]}


FUNCTIONS = (
    nap,
    func(nap, name="nap_without_result", keep_result=0),
    rated,
    capped,
    pass_gate,
    second_time_lucky,
    die,
    block,
)
