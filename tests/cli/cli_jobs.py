"""The jobs of the command line's tests."""

from __future__ import annotations

import asyncio
from typing import Any

from arqestra import Backoff, Flow, job, schedule, worker_settings, workflow


@job
async def double(ctx: dict[Any, Any], number: int, times: int = 1) -> int:
    return number * 2 * times


@job(retry=Backoff(base=0), max_tries=2)
async def fail(ctx: dict[Any, Any], *_: Any) -> None:
    raise ValueError("no good")


@job
async def nap(ctx: dict[Any, Any], seconds: float = 60) -> None:
    await asyncio.sleep(seconds)


@workflow
async def order(flow: Flow, number: int) -> int:
    return await flow.run(double.s(number))


ALL = [double, fail, nap, order]


@worker_settings
class WorkerSettings:
    functions = ALL
    serializer = "msgpack"
    allow_abort_jobs = True
    schedules = (schedule("0 3 * * *", double, args=(21,), name="nightly", timezone="Asia/Seoul"),)
