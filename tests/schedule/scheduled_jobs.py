"""Job functions of the scheduler's tests. What they did is in `RUNS`; what they wait for in `GATES`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, NamedTuple

from arqestra import RunningJob, Unique, current_job, job


class Run(NamedTuple):
    """A call of a job function."""

    function: str
    arguments: tuple[Any, ...]
    job: RunningJob
    worker: str


RUNS: list[Run] = []
GATES: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
AT_ONCE: list[int] = [0, 0]  # jobs of `slow` that run, and the most that did


def runs_of(function: str) -> list[Run]:
    return [run for run in RUNS if run.function == function]


def _note(ctx: Any, function: str, *arguments: Any) -> None:
    running = current_job()
    assert running is not None
    RUNS.append(Run(function, arguments, running, ctx.get("name", "")))


@job
async def note(ctx: Any, *arguments: Any) -> None:
    _note(ctx, "note", *arguments)


@job
async def fail(ctx: Any) -> None:
    _note(ctx, "fail")
    raise ValueError("on purpose")


@job
async def slow(ctx: Any) -> None:
    _note(ctx, "slow")
    AT_ONCE[0] += 1
    AT_ONCE[1] = max(AT_ONCE)
    await asyncio.sleep(0.15)
    AT_ONCE[0] -= 1


@job
async def wait(ctx: Any) -> None:
    _note(ctx, "wait")
    await GATES["wait"].wait()


@job(concurrency=1)
async def one_at_a_time(ctx: Any) -> None:
    _note(ctx, "one_at_a_time")
    await GATES["one_at_a_time"].wait()


@job(rate_limit="1/h")
async def rarely(ctx: Any) -> None:
    _note(ctx, "rarely")


@job(unique=True)
async def alone(ctx: Any) -> None:
    _note(ctx, "alone")
    await GATES["alone"].wait()


@job(unique=Unique(on_conflict="return"))
async def stand_in(ctx: Any) -> None:
    _note(ctx, "stand_in")
    await GATES["stand_in"].wait()


@job(priority=7, queue="urgent", expires="10m")
async def urgent(ctx: Any) -> None:
    _note(ctx, "urgent")


ALL = [note, fail, slow, wait, one_at_a_time, rarely, alone, stand_in, urgent]
