"""Jobs and workflows of the flow tests. What runs is written to RUNS."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from arqestra import Backoff, Flow, JobCancelled, Retry, UpstreamFailed, current_job, job, workflow

RUNS: list[Any] = []
GATES: dict[str, asyncio.Event] = {}
SWITCHES: set[str] = set()


def gate(name: str) -> asyncio.Event:
    return GATES.setdefault(name, asyncio.Event())


@job
async def add(ctx: dict[Any, Any], *numbers: int) -> int:
    RUNS.append(numbers)
    return sum(numbers)


@job
async def total(ctx: dict[Any, Any], numbers: list[Any]) -> int:
    return sum(number if isinstance(number, int) else 1000 for number in numbers)


@job
async def fail(ctx: dict[Any, Any], *_: Any) -> None:
    """Fails unless the test has thrown the switch."""
    if "fail" not in SWITCHES:
        raise ValueError("no good")


@job(keep_result=0)
async def fleeting(ctx: dict[Any, Any], value: int) -> int:
    return value


@job(keep_result=0)
async def fails_fleetingly(ctx: dict[Any, Any], *_: Any) -> None:
    raise ValueError("no good")


@job
async def explain(ctx: dict[Any, Any], error: Any) -> str:
    RUNS.append(error)
    return repr(error)


@job
async def report_failure(ctx: dict[Any, Any], failure: UpstreamFailed, note: str) -> None:
    RUNS.append((failure, note))


@job
async def wait_at(ctx: dict[Any, Any], name: str, *_: Any) -> str:
    """Runs until the test opens the gate."""
    RUNS.append(f"at {name}")
    await gate(name).wait()
    return name


@job(retry=Backoff(on=ValueError, tries=3, base=0.01, jitter="none"))
async def third_time(ctx: dict[Any, Any]) -> int:
    if ctx["job_try"] < 3:
        raise ValueError("not yet")
    return int(ctx["job_try"])


@job
async def tries_later(ctx: dict[Any, Any], *_: Any) -> int:
    """Twice, and half a second apart."""
    RUNS.append(("try", ctx["job_try"]))
    if ctx["job_try"] == 1:
        raise Retry(defer=0.5)
    return int(ctx["job_try"])


@dataclass
class Parcel:
    name: str
    at: datetime


@job
async def pack(ctx: dict[Any, Any], name: str, at: datetime) -> Parcel:
    return Parcel(name, at)


@job
async def unpack(ctx: dict[Any, Any], parcel: Parcel) -> str:
    assert isinstance(parcel, Parcel)
    return f"{parcel.name} {parcel.at.year}"


@job
async def headers(ctx: dict[Any, Any], *_: Any) -> dict[str, str]:
    running = current_job()
    assert running is not None
    return dict(running.headers)


@job(concurrency=1, priority=3)
async def one_at_a_time(ctx: dict[Any, Any], number: int) -> int:
    RUNS.append(("in", number))
    await asyncio.sleep(0.005)
    RUNS.append(("out", number))
    return number


GRAPH_JOBS = [
    add,
    total,
    fail,
    fleeting,
    fails_fleetingly,
    explain,
    report_failure,
    wait_at,
    third_time,
    pack,
    unpack,
    headers,
]
GRAPH_JOBS += [one_at_a_time, tries_later]


# -- workflows ----------------------------------------------------------------------------------------------------


@workflow
async def in_turn(flow: Flow, count: int) -> int:
    return sum([await flow.run(add.s(number, 1)) for number in range(count)])


def _seven() -> int:
    RUNS.append("side effect")
    return 7


@workflow
async def many_ways(flow: Flow) -> dict[str, Any]:
    """Whatever a flow can do, in one function."""
    seen: dict[str, Any] = {"gathered": await flow.gather(*(add.s(n) for n in range(5)), limit=2)}
    seen["mapped"] = await flow.map(add, [1, 2])
    before = flow.now()
    await flow.sleep(0.02)
    seen["slept"] = (flow.now() - before).total_seconds() >= 0.02
    seen["value"] = await flow.side_effect(_seven)
    try:
        await flow.run(fail.s())
    except ValueError as error:
        seen["error"] = str(error)
    seen["exceptions"] = [str(e) for e in await flow.gather(add.s(1), fail.s(), return_exceptions=True)]
    seen["chain"] = await flow.run(add.s(1) | add.s(2) | add.s(3))
    seen["group"] = await flow.run(add.map([1, 2]) | total.s())
    seen["sub"] = await flow.run(in_turn.s(3))
    seen["uuid"] = str(flow.uuid()) != str(flow.uuid())
    seen["random"] = flow.random.random()

    async def branch(first: int, second: int) -> int:
        return await flow.run(add.s(first)) + await flow.run(add.s(second))

    async with asyncio.TaskGroup() as tasks:
        left, right = tasks.create_task(branch(1, 2)), tasks.create_task(branch(3, 4))
    seen["branches"] = [left.result(), right.result()]
    seen["completed"] = sorted([value async for value in flow.as_completed(add.s(1), add.s(2))])
    return seen


@workflow
async def race(flow: Flow) -> str:
    return await flow.first(wait_at.s("slow"), wait_at.s("quick"))


@workflow
async def listens(flow: Flow, count: int) -> list[Any]:
    heard = [await flow.wait_for("word") for _ in range(count)]
    try:
        await flow.wait_for("never", timeout=0.05)
    except TimeoutError:
        heard.append("nothing")
    return heard


@workflow
async def compensates(flow: Flow) -> str:
    await flow.run(add.s(1))
    try:
        await flow.run(wait_at.s("booking"))
    except asyncio.CancelledError:
        await flow.run(add.s(-1))
        raise
    return "booked"


@workflow
async def undone(flow: Flow) -> str:
    """It is cancelled, and decides otherwise."""
    try:
        await flow.run(wait_at.s("never opened"))
    except asyncio.CancelledError:
        return "rescued"
    return "done"


@workflow(timeout=0.2)
async def short_lived(flow: Flow) -> None:
    try:
        await flow.run(wait_at.s("never opened"))
    finally:
        await flow.run(add.s(99))


@workflow
async def fails_beside(flow: Flow) -> None:
    await flow.gather(wait_at.s("neighbour"), fail.s())


@workflow
async def counts_down(flow: Flow, number: int) -> str:
    await flow.run(add.s(number))
    if number:
        flow.continue_as_new(number - 1)
    return flow.id


@workflow
async def changes(flow: Flow) -> list[Any]:
    """Its code changes while it waits: the test throws a switch."""
    steps = []
    if "with patch" in SWITCHES and flow.patched("first check"):
        steps.append(await flow.run(add.s(5)))
    if "without patch" in SWITCHES:
        steps.append(await flow.run(total.s([5])))
    steps.append(await flow.run(add.s(1)))
    steps.append(await flow.wait_for("go"))
    return steps


@workflow
async def reaches_out(flow: Flow) -> None:
    await asyncio.to_thread(print, "not from here")


@workflow
async def awaits_an_aborted_step(flow: Flow) -> str:
    try:
        return await flow.run(wait_at.s("aborted"))
    except JobCancelled as error:
        return str(error)


@workflow
async def waits_for_gate(flow: Flow, name: str) -> str:
    return await flow.run(wait_at.s(name))


@workflow
async def parcels(flow: Flow, at: datetime) -> str:
    parcel = await flow.run(pack.s("box", at))
    assert isinstance(parcel, Parcel)
    return await flow.run(unpack.s(parcel))


@workflow
async def many_waits(flow: Flow, number: int) -> int:
    """Timers, steps and values from outside: there is always something under way."""
    for _ in range(6):
        await flow.sleep(0.01)
        number = await flow.run(add.s(number, 1))
        number = await flow.side_effect(lambda given=number: given)
    return number


@workflow
async def sleeps(flow: Flow, seconds: float) -> str:
    await flow.sleep(seconds)
    return "slept"


@workflow
async def ends_its_worker(flow: Flow, how: str) -> None:
    async def raise_it() -> Any:
        raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "cancel": asyncio.CancelledError()}[how]

    if how == "cancel":
        await flow.side_effect(raise_it)
    await raise_it()


@workflow
async def collects(flow: Flow, got: list[int]) -> list[int]:
    """Starts anew with each event."""
    if len(got) < 4:
        event = await flow.wait_for("number")
        flow.continue_as_new([*got, event])
    return got


@workflow
async def two_rounds(flow: Flow, first: int, rounds: int = 0) -> list[Any]:
    key = str(flow.uuid())
    RUNS.append(("key", key, flow.random.random()))
    if rounds == 0:
        flow.continue_as_new(first, 1)
    return [first, rounds]


@workflow
async def stubborn(flow: Flow) -> str:
    """Catches two cancellations."""
    for number in range(2):
        try:
            await flow.run(wait_at.s(f"never {number}"))
        except asyncio.CancelledError:
            RUNS.append(("caught", number))
    await flow.run(wait_at.s("never at all"))
    return "not cancelled"


@workflow
async def bare_except(flow: Flow) -> str:
    while True:
        try:
            return await flow.run(wait_at.s("bare"))
        except:  # noqa: E722 - as people write it
            pass


@workflow
async def follows_failures(flow: Flow) -> list[Any]:
    told = await flow.run(fail.s() | explain.s().set(on_failure="continue"))
    try:
        await flow.run(fail.s().link_error(report_failure.s("from a workflow")))
    except ValueError as error:
        return [told, str(error)]
    return [told]


@workflow
async def runs_late(flow: Flow) -> int:
    return await flow.run(tries_later.s().set(expires=0.25))


@workflow
async def goes_on_beyond_its_deadline(flow: Flow, round_: int = 0) -> int:
    if round_ < 2:
        await flow.sleep(0.6)
        flow.continue_as_new(round_ + 1)
    return round_


WORKFLOWS = [
    runs_late,
    goes_on_beyond_its_deadline,
    many_waits,
    sleeps,
    ends_its_worker,
    collects,
    two_rounds,
    stubborn,
    bare_except,
    follows_failures,
]
WORKFLOWS += [in_turn, many_ways, race, listens, compensates, undone, short_lived, fails_beside, counts_down, changes]
WORKFLOWS += [reaches_out, awaits_an_aborted_step, waits_for_gate, parcels]
ALL = [*GRAPH_JOBS, *WORKFLOWS]
