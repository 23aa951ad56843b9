"""The jobs that the fleets run. Each writes its runs to the log outside Redis and returns which process ran it."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from arq import Retry, func

from arqestra import Flow, RateLimit, current_job, job, workflow
from tests.support.canvases import shown
from tests.support.run_log import note_claim, noted

__all__ = (
    *(
        "FUNCTIONS",
        "STEPS_QUEUE",
        "block",
        "capped",
        "die",
        "fail_after",
        "flow_node",
        "flow_step",
        "nap",
        "pass_gate",
        "rated",
    ),
    *("SCHEDULED_QUEUE", "TICKS", "note_tick", "second_time_lucky", "twenty_steps"),
)

GATE_POLL_S = 0.01
STEPS_QUEUE = "steps"
SCHEDULED_QUEUE = "scheduled"
TICKS = "ticks"


async def nap(ctx: dict[Any, Any], seconds: float) -> dict[str, int]:
    """A job that waits, as most do."""
    with noted(ctx):
        await asyncio.sleep(seconds)
    return _run_of(ctx)


async def fail_after(ctx: dict[Any, Any], seconds: float) -> None:
    """A job that fails, and says in which process."""
    with noted(ctx):
        await asyncio.sleep(seconds)
    raise ValueError(f"failed in process {os.getpid()}")


@job(name="note_tick")
async def note_tick(ctx: dict[Any, Any], number: int) -> None:
    """The job of a tick: it notes of which."""
    running = current_job()
    assert running is not None
    tick = datetime.fromisoformat(running.headers["tick"])
    assert running.headers["schedule"] == f"s{number}"
    await ctx["redis"].rpush(TICKS, f"s{number} {round(tick.timestamp() * 1000)}")


@job(rate_limit=RateLimit("100/s", burst=5))
async def rated(ctx: dict[Any, Any]) -> dict[str, int]:
    """A job of which 100 start in a second."""
    note_claim(ctx)
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


@job
async def flow_node(ctx: dict[Any, Any], *args: Any) -> list[Any]:
    """A node of a random flow: `[label, input]`."""
    *inputs, label, fails = args
    with noted(ctx):
        await asyncio.sleep(0.1)
        if fails:
            raise ValueError(label)
    return [label, shown(inputs[0]) if inputs else None]


@job(queue=STEPS_QUEUE)
async def flow_step(ctx: dict[Any, Any], number: int) -> int:
    with noted(ctx):
        await asyncio.sleep(0.02)
    return number * number


@workflow
async def twenty_steps(flow: Flow, first: int) -> int:
    """Steps one after the other and side by side, timers and values from outside."""
    total = 0
    for number in range(first, first + 14):
        total += await flow.run(flow_step.s(number))
        if number % 5 == 0:
            await flow.sleep(seconds=0.05)
    total += sum(await flow.gather(*(flow_step.s(number) for number in range(6)), limit=2))
    return total + await flow.side_effect(lambda: 7)


def _run_of(ctx: dict[Any, Any]) -> dict[str, int]:
    return {"pid": os.getpid(), "job_try": ctx["job_try"]}


FUNCTIONS = (
    nap,
    fail_after,
    func(nap, name="nap_without_result", keep_result=0),
    rated,
    capped,
    flow_node,
    flow_step,
    twenty_steps,
    pass_gate,
    second_time_lucky,
    die,
    block,
)
