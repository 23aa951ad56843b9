"""Jobs of the tests of execution control. Those for processes are found by their names in another process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Any

from arqestra import Backoff, Cancel, Retry, Snooze, SoftTimeLimitExceeded, current_job, job

TOLD: list[Any] = []


async def tell_exhausted(ctx: dict[Any, Any], error: BaseException) -> None:
    TOLD.append(("exhausted", ctx["job_id"], str(error)))


async def tell_expired(ctx: dict[Any, Any]) -> None:
    TOLD.append(("expired", ctx["job_id"]))


QUICK = Backoff(on=(ConnectionError,), unless=(ConnectionRefusedError,), tries=3, base=0.02, jitter="none")


@job(retry=QUICK, on_exhausted=tell_exhausted)
async def flaky(ctx: dict[Any, Any], failures: int, error: str = "reset") -> int:
    if ctx["job_try"] <= failures:
        raise {"reset": ConnectionResetError, "refused": ConnectionRefusedError, "value": ValueError}[error](
            f"attempt {ctx['job_try']}"
        )
    return int(ctx["job_try"])


@job
async def ask_again(ctx: dict[Any, Any]) -> int:
    """Fails, and asks for another attempt because of that."""
    if ctx["job_try"] == 1:
        try:
            raise ConnectionError("no route")
        except ConnectionError as error:
            raise Retry(defer=0.01) from error
    return int(ctx["job_try"])


@job
async def snooze(ctx: dict[Any, Any], way: str) -> int:
    TOLD.append(("run", ctx["job_try"]))
    if len(TOLD) < 3:
        if way == "raise":
            raise Snooze(0.01)
        return Snooze(0.01)  # type: ignore[return-value]
    return int(ctx["job_try"])


@job
async def cancel(ctx: dict[Any, Any], way: str) -> None:
    if way == "raise":
        raise Cancel("no longer wanted")
    return Cancel("no longer wanted")  # type: ignore[return-value]


@job(expires=0.05, on_expired=tell_expired)
async def perishable(ctx: dict[Any, Any]) -> None: ...


@job(soft_timeout=0.1, timeout=5)
async def partial(ctx: dict[Any, Any], how: str) -> Any:
    started = time.monotonic()
    try:
        if how == "task group":
            async with asyncio.TaskGroup() as group:
                child = group.create_task(asyncio.sleep(60))
        elif how == "wait_for":
            await asyncio.wait_for(asyncio.sleep(60), 30)
        elif how == "timeout":
            async with asyncio.timeout(30):
                await asyncio.sleep(60)
        else:
            await asyncio.sleep(60)
    except SoftTimeLimitExceeded as error:
        seen_ms = (time.monotonic() - started) * 1000
        if how == "task group":
            assert child.cancelled()
        if how == "let it out":
            raise
        await asyncio.sleep(0.01)  # it can go on awaiting
        return ["partial", error.limit_s, seen_ms]


@job(soft_timeout=0.05, timeout=0.2)
async def warned_and_late(ctx: dict[Any, Any]) -> None:
    try:
        await asyncio.sleep(60)
    except SoftTimeLimitExceeded:
        TOLD.append("warned")
        await asyncio.sleep(60)


@job(timeout=0.05)
async def stubborn(ctx: dict[Any, Any]) -> None:
    while not ctx["let_go"].is_set():
        try:
            await ctx["let_go"].wait()
        except asyncio.CancelledError:
            TOLD.append("swallowed")


@job
def in_thread(ctx: dict[Any, Any], number: int) -> list[Any]:
    running = current_job()
    assert running is not None
    return [number * 2, running.job_id == ctx["job_id"], os.getpid(), "redis" in ctx]


@job(soft_timeout=0.1, timeout=10)
def soft_in_thread(ctx: dict[Any, Any]) -> str:
    try:
        while True:
            time.sleep(0.005)
    except SoftTimeLimitExceeded:
        return "partial"


def raw_plain(ctx: dict[Any, Any], text: str) -> str:
    return text.upper()


@job(executor="process")
def in_process(ctx: dict[Any, Any], number: int) -> list[Any]:
    return [number * 2, ctx["job_try"], os.getpid(), "redis" in ctx, ctx["plain"]]


@job(executor="process", timeout=0.5)
def hangs_in_process(ctx: dict[Any, Any]) -> None:
    while True:
        pass


@job(executor="process", soft_timeout=0.2, timeout=10)
def soft_in_process(ctx: dict[Any, Any]) -> str:
    try:
        while True:
            pass
    except SoftTimeLimitExceeded:
        return "partial"


@job(executor="process")
def dies_in_process(ctx: dict[Any, Any]) -> None:
    os._exit(3)


@job(executor="process", soft_timeout=0.2, timeout=10)
def soft_out_of_process(ctx: dict[Any, Any]) -> None:
    while True:
        pass


@job(executor="process")
def awkward_in_process(ctx: dict[Any, Any], what: str) -> Any:
    if what == "value":
        return lambda: 1
    raise {"error": Unpicklable(1, 2), "stop": StopIteration(), "interrupt": KeyboardInterrupt()}[what]


class Unpicklable(Exception):
    def __init__(self, number: int, other: int) -> None:
        super().__init__(f"number {number}")


@job
def awkward_in_thread(ctx: dict[Any, Any], what: str) -> None:
    raise {"stop": StopIteration(), "interrupt": KeyboardInterrupt()}[what]


@job
async def interrupts(ctx: dict[Any, Any]) -> None:
    raise KeyboardInterrupt


@job(retry=QUICK)
async def unprintable(ctx: dict[Any, Any]) -> None:
    raise ValueError("bad name \udcff.txt")


@job(soft_timeout=0.15, timeout=10)
async def behind_a_swallower(ctx: dict[Any, Any]) -> str:
    async def swallower() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    try:
        await asyncio.ensure_future(swallower())
        await asyncio.sleep(60)
    except SoftTimeLimitExceeded:
        return "partial"
    return "not told"


@job(soft_timeout=0.05, timeout=10)
async def with_a_timeout_of_its_own(ctx: dict[Any, Any]) -> str:
    """Its own timeout and its soft limit run out while the loop is blocked, so that both cancel it at once."""
    try:
        async with asyncio.timeout(0.05):
            asyncio.get_running_loop().call_soon(time.sleep, 0.2)
            await asyncio.Event().wait()
    except TimeoutError:
        try:
            await asyncio.Event().wait()
        except SoftTimeLimitExceeded:
            return "told"
    return "not told"


@job(retry=Backoff(on=SoftTimeLimitExceeded, tries=2, base=0.02), soft_timeout=0.05)
async def late_once(ctx: dict[Any, Any]) -> int:
    if ctx["job_try"] == 1:
        await asyncio.sleep(60)
    return int(ctx["job_try"])


@job(max_tries=9, retry=Backoff(tries=2, base=0.01))
async def twice(ctx: dict[Any, Any]) -> None:
    TOLD.append(ctx["job_try"])
    raise ValueError("no")


@job(timeout=0.05, retry=Backoff(on=TimeoutError, tries=5, base=0.01), on_exhausted=tell_exhausted)
async def stubborn_with_retries(ctx: dict[Any, Any]) -> None:
    while not ctx["let_go"].is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await ctx["let_go"].wait()


@job(acks="early")
async def at_most_once(ctx: dict[Any, Any]) -> int:
    TOLD.append("started")
    ctx["started"].set()
    await ctx["let_go"].wait()
    return int(ctx["job_try"])


@job
async def headers_of(ctx: dict[Any, Any]) -> dict[str, str]:
    running = current_job()
    assert running is not None
    return dict(running.headers)


ALL = [
    *(flaky, ask_again, snooze, cancel, perishable, partial, warned_and_late, stubborn, in_thread, soft_in_thread),
    *(soft_out_of_process, awkward_in_process, awkward_in_thread, interrupts, unprintable, behind_a_swallower),
    *(with_a_timeout_of_its_own, late_once, twice, stubborn_with_retries),
    *(raw_plain, in_process, hangs_in_process, soft_in_process, dies_in_process, at_most_once, headers_of),
]
