"""A workflow, and what a bad deploy makes of its code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from arqestra import Flow, Job, Pool, job, workflow
from tests.flows import flow_jobs as jobs
from tests.flows.conftest import Working
from tests.flows.flow_jobs import add, total
from tests.flows.starting import is_parked
from tests.support.replies import reply_of
from tests.support.wait import wait_until

Deploy = Callable[..., Any]


def deployed(function: Any, *more: Any) -> list[Any]:
    """The functions of a worker of one version of the code."""
    return [*jobs.GRAPH_JOBS, workflow(name="order")(function), *more]


async def before(flow: Flow, number: int) -> list[Any]:
    """The good version: it waits for `go` after two steps."""
    steps = [await flow.run(add.s(number, 1)), await flow.run(add.s(5, 6))]
    await flow.side_effect(jobs.RUNS.append, "side effect")
    await flow.sleep(0.001)
    steps.append(await flow.wait_for("go"))
    return [*steps, await flow.run(add.s(sum(steps)))]


RESULT = [3, 11, 4, 18]


async def raises(flow: Flow, number: int) -> list[Any]:
    await flow.run(add.s(number, 1))
    raise KeyError("a bug of the new code")


async def raises_at_once(flow: Flow, number: int) -> list[Any]:
    raise KeyError("a bug of the new code")


async def returns(flow: Flow, number: int) -> list[Any]:
    return [await flow.run(add.s(number, 1))]


async def starts_anew(flow: Flow, number: int) -> None:
    await flow.run(add.s(number, 1))
    flow.continue_as_new(number)


async def cancels_itself(flow: Flow, number: int) -> None:
    await flow.run(add.s(number, 1))
    raise asyncio.CancelledError


async def fewer_steps(flow: Flow, number: int) -> list[Any]:
    steps = [await flow.run(add.s(number, 1))]
    steps.append(await flow.wait_for("go"))
    return steps


async def more_steps(flow: Flow, number: int) -> list[Any]:
    steps = [await flow.run(add.s(number, 1)), await flow.run(add.s(5, 6))]
    await flow.side_effect(jobs.RUNS.append, "side effect")
    await flow.sleep(0.001)
    return [*steps, await flow.run(add.s(0)), await flow.wait_for("go")]


async def one_beside(flow: Flow, number: int) -> list[Any]:
    """A step more, at the same time as one that was there."""
    return list(await flow.gather(add.s(number, 1), add.s(100)))


async def another_step(flow: Flow, number: int) -> list[Any]:
    return [await flow.run(total.s([number, 1]))]


async def another_argument(flow: Flow, number: int) -> list[Any]:
    return [await flow.run(add.s(number, 2))]


async def another_event(flow: Flow, number: int) -> list[Any]:
    steps = [await flow.run(add.s(number, 1)), await flow.run(add.s(5, 6))]
    await flow.side_effect(jobs.RUNS.append, "side effect")
    await flow.sleep(0.001)
    steps.append(await flow.wait_for("approved"))
    return [*steps, await flow.run(add.s(sum(steps)))]


async def one_event_more(flow: Flow, number: int) -> list[Any]:
    steps = [await flow.run(add.s(number, 1)), await flow.run(add.s(5, 6))]
    await flow.side_effect(jobs.RUNS.append, "side effect")
    await flow.sleep(0.001)

    async def hears(name: str) -> Any:
        return await flow.wait_for(name)

    return [*steps, *await flow.gather(hears("go"), hears("approved"))]


async def no_event(flow: Flow, number: int) -> list[Any]:
    steps = [await flow.run(add.s(number, 1)), await flow.run(add.s(5, 6))]
    await flow.side_effect(jobs.RUNS.append, "side effect")
    await flow.sleep(0.001)
    await asyncio.Event().wait()
    return steps


async def no_sleep(flow: Flow, number: int) -> list[Any]:
    steps = [await flow.run(add.s(number, 1)), await flow.run(add.s(5, 6))]
    await flow.side_effect(jobs.RUNS.append, "side effect")
    return [*steps, await flow.wait_for("go")]


async def another_side_effect(flow: Flow, number: int) -> list[Any]:
    steps = [await flow.run(add.s(number, 1)), await flow.run(add.s(5, 6))]
    await flow.side_effect(jobs.RUNS.count, "side effect")
    return steps


async def another_parameter(flow: Flow, amount: int, *, currency: str) -> list[Any]:
    return await before(flow, amount)


async def more_parameters(flow: Flow, number: int, currency: str) -> list[Any]:
    return await before(flow, number)


@job(name="add")
async def add_by_name(ctx: dict[Any, Any], *, numbers: list[int]) -> int:
    return sum(numbers)


async def step_by_name(flow: Flow, number: int) -> list[Any]:
    return [await flow.run(add_by_name.s(numbers=[number, 1]))]


async def step_of_other_names(flow: Flow, number: int) -> list[Any]:
    """The function of a step has other parameters, and the call of it was forgotten."""
    return [await flow.run(add_by_name.s(number, 1))]


async def swallows(flow: Flow, number: int) -> list[Any]:
    """What the new code raises is caught by the new code."""
    try:
        return [await flow.run(add_by_name.s(number, 1))]
    except TypeError:
        return []


DEPLOYS: list[Deploy] = [raises, raises_at_once, returns, starts_anew, cancels_itself, fewer_steps, more_steps]
DEPLOYS += [one_beside, another_step, another_argument, another_event, one_event_more, no_event, no_sleep]
DEPLOYS += [another_side_effect, another_parameter, more_parameters, step_by_name, step_of_other_names, swallows]


async def under_way(pool: Pool, working: Working) -> Job[Any]:
    """A workflow of the good version that waits for `go`."""
    async with working(deployed(before)):
        order = await pool.enqueue_job("order", 2)
        assert order is not None
        await wait_until(lambda: waits_for_go(pool, order), "it waits for go")
    return order


async def waits_for_go(pool: Pool, order: Job[Any]) -> bool:
    """Its sleep is over, and it is parked."""
    events = await reply_of(pool.lrange(pool.store.keys.flow_log(order.job_id), 0, -1))
    return len(events) == 4 and await is_parked(pool, order)


async def is_blocked(pool: Pool, order: Job[Any]) -> bool:
    return bool((await pool.flow(order.job_id).progress()).blocked)
