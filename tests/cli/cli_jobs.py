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


@job
async def count_to(ctx: Any, total: int) -> None:
    """Tells that one is done, and waits."""
    ctx.log("begins")
    ctx.progress(1, total, "one")
    await asyncio.sleep(60)


@job
async def wait_for_key(ctx: dict[Any, Any], key: str) -> None:
    while not await ctx["redis"].exists(key):  # noqa: ASYNC110 - what is waited for is in Redis
        await asyncio.sleep(0.01)


@job
async def log_lines(ctx: Any, key: str) -> None:
    """Logs a line, and another one when there is a key."""
    ctx.log("first")
    await wait_for_key.coroutine(ctx, key)
    ctx.log("last")


@job
async def login(ctx: dict[Any, Any], user: str, password: str) -> dict[str, str]:
    return {"user": user, "session_token": "s3cret"}


@workflow
async def order(flow: Flow, number: int) -> int:
    return await flow.run(double.s(number))


@job
async def need_key(ctx: dict[Any, Any], key: str) -> None:
    if not await ctx["redis"].exists(key):
        raise ValueError("no key")


@workflow
async def unlucky(flow: Flow, key: str) -> int:
    number = await flow.run(double.s(1))
    await flow.run(need_key.s(key))
    return number


ALL = [need_key, unlucky, double, fail, nap, count_to, wait_for_key, log_lines, login, order]


@worker_settings
class WorkerSettings:
    functions = ALL
    serializer = "msgpack"
    allow_abort_jobs = True
    schedules = (schedule("0 3 * * *", double, args=(21,), name="nightly", timezone="Asia/Seoul"),)


SETTINGS_DICT = {"functions": ALL}
SETTINGS_OBJECT = WorkerSettings()
