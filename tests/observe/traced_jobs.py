"""Jobs and workflows of the tracing tests."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from arqestra import Backoff, Flow, Redact, Retry, Snooze, current_job, job, workflow


@job
async def add(ctx: dict[Any, Any], *numbers: int) -> int:
    return sum(numbers)


@job
async def fail(ctx: dict[Any, Any]) -> None:
    raise ValueError("no good")


@job
async def again(ctx: dict[Any, Any], times: int, how: str = "retry") -> int:
    if ctx["job_try"] <= times and "snoozed" not in ctx["notes"]:
        if how == "snooze":
            ctx["notes"].add("snoozed")
            raise Snooze(0.01)
        raise Retry(defer=0.01)
    return int(ctx["job_try"])


@job(retry=Backoff(on=(ConnectionError,), base=0.01, jitter="none", tries=3))
async def flaky(ctx: dict[Any, Any], box: list[int]) -> int:
    """Fails once, and changes the argument that it was given."""
    box.append(len(box))
    if ctx["job_try"] == 1:
        raise ConnectionError("reset")
    return len(box)


@job(timeout=0.05)
async def too_slow(ctx: dict[Any, Any]) -> None:
    await asyncio.sleep(30)


@job
async def hold(ctx: dict[Any, Any]) -> None:
    ctx["started"].set()
    await asyncio.sleep(30)


@job
async def enqueue_another(ctx: dict[Any, Any]) -> int:
    handle = await ctx["redis"].enqueue(add, 1, 2)
    return int(await handle.result(timeout=10))


@job
def in_thread(ctx: dict[Any, Any]) -> str:
    """A plain function: tells what it knows in its thread."""
    from opentelemetry import trace

    running = current_job()
    assert running is not None
    return f"{running.job_id} {trace.format_span_id(trace.get_current_span().get_span_context().span_id)}"


@workflow
async def sum_up(flow: Flow, first: int) -> int:
    second = await flow.run(add.s(first, 1))
    await flow.sleep(0.01)
    both = await flow.gather(add.s(second, 1), add.s(second, 2))
    return int(sum(both))


@workflow
async def breaks(flow: Flow) -> None:
    await flow.run(add.s(1))
    raise ValueError("no good")


@job
async def login(
    ctx: dict[Any, Any], /, user: str, password: str, code: Annotated[str, Redact] = "", **more: Any
) -> dict[str, str]:
    return {"user": user, "token": password}


@job
async def name_of(ctx: dict[Any, Any]) -> str:
    return "eve"


@job
async def login_badly(ctx: dict[Any, Any], password: str, number: int) -> None:
    raise RuntimeError("login failed")


ALL = [add, fail, again, flaky, too_slow, hold, enqueue_another, in_thread, sum_up, breaks, login, name_of, login_badly]
