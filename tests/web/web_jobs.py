"""The jobs of the dashboard's tests. What people can write is hostile here: it must stay text wherever it is shown."""

from __future__ import annotations

import asyncio
from typing import Any

from arqestra import Backoff, Flow, current_job, every, func, job, schedule, worker_settings, workflow
from tests.support.hostile_text import EVIL


@job
async def add(ctx: dict[Any, Any], *numbers: int) -> int:
    return sum(number for number in numbers if isinstance(number, int))


@job
async def total(ctx: dict[Any, Any], numbers: list[int]) -> int:
    return sum(numbers)


@job(max_tries=2, retry=Backoff(base=0))
async def fail(ctx: dict[Any, Any], reason: str = EVIL, password: str = "") -> None:
    told = current_job()
    assert told is not None
    told.log(reason)
    told.progress(1, 2, reason)
    raise ValueError(reason)


@job
async def login(ctx: dict[Any, Any], user: str, password: str) -> str:
    return user


@job
async def nap(ctx: dict[Any, Any], seconds: float = 60) -> None:
    told = current_job()
    assert told is not None
    for step in range(int(seconds * 10)):
        told.progress(step, seconds * 10, EVIL)
        await asyncio.sleep(0.1)


async def echo(ctx: dict[Any, Any], text: str) -> str:
    return text


@workflow
async def order(flow: Flow, number: int) -> int:
    first = await flow.run(add.s(number, 1))
    return await flow.run(add.s(first, 1))


@job
async def need_key(ctx: dict[Any, Any], key: str) -> None:
    if not await ctx["redis"].exists(key):
        raise ValueError("no key")


@workflow
async def unlucky(flow: Flow, key: str) -> int:
    number = await flow.run(add.s(1, 1))
    await flow.run(need_key.s(key))
    return number


FUNCTIONS = [need_key, unlucky, add, total, fail, login, nap, order, func(echo, name=EVIL)]
SCHEDULES = (
    schedule("0 3 * * *", add, args=(20, 1), name="nightly", timezone="Asia/Seoul"),
    schedule(every(3600), login, args=("ann", "hunter22"), name=EVIL),
)


@worker_settings
class WorkerSettings:
    functions = FUNCTIONS
    serializer = "msgpack"
    allow_abort_jobs = True
    schedules = SCHEDULES
    keep_result = 3600
