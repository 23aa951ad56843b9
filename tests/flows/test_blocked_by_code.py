"""A bad deploy fails no workflow that runs: what does not fit its history blocks it until the code is rolled back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from arqestra import Flow, Job, JobStatus, NondeterminismError, Pool, job, workflow
from arqestra.store.queues import survey
from arqestra.worker.run import workflows
from arqestra.worker.run.blocked import Patience
from tests.flows import flow_jobs as jobs
from tests.flows.conftest import Working
from tests.flows.flow_jobs import add, gate, total, wait_at
from tests.flows.starting import is_parked, started
from tests.support.replies import reply_of
from tests.support.wait import wait_until

Deploy = Callable[..., Any]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "PARK_AFTER_S", 0.0)
    monkeypatch.setattr(workflows, "NONDETERMINISM_PAUSE_MS", 30)
    monkeypatch.setattr(workflows, "MAX_PAUSE_MS", 30)
    monkeypatch.setattr(workflows, "NONDETERMINISM_TRIES", 1_000)


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
        await wait_until(lambda: _waits(pool, order), "it waits for go")
    return order


async def _waits(pool: Pool, order: Job[Any]) -> bool:
    """Its sleep is over, and it is parked."""
    events = await reply_of(pool.lrange(pool.store.keys.flow_log(order.job_id), 0, -1))
    return len(events) == 4 and await is_parked(pool, order)


async def is_blocked(pool: Pool, order: Job[Any]) -> bool:
    return bool((await pool.flow(order.job_id).progress()).blocked)


@pytest.mark.parametrize("after", DEPLOYS, ids=lambda deploy: deploy.__name__)
async def test_a_bad_deploy_does_no_harm(pool: Pool, working: Working, after: Deploy) -> None:
    order = await under_way(pool, working)
    ran = list(jobs.RUNS)

    async with working(deployed(after)):
        assert await pool.signal(order.job_id, "go", 4)
        await wait_until(lambda: is_blocked(pool, order), "it is blocked by code")
        assert (await survey(pool.store, "arq:queue")).blocked == 1
        assert await order.status() is not JobStatus.complete
        assert await pool.flow(order.job_id).status() == "running"
    assert await order.result_info() is None
    assert ran == jobs.RUNS

    async with working(deployed(before)):
        assert await order.result(timeout=20) == RESULT
        assert not await is_blocked(pool, order)
        assert (await survey(pool.store, "arq:queue")).blocked == 0
    assert [*ran, (18,)] == jobs.RUNS


async def test_a_workflow_that_waits_in_memory_is_not_touched_by_the_deploy_of_others(
    pool: Pool, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows, "PARK_AFTER_S", 3600.0)
    async with working(deployed(before)), working(deployed(raises)):
        orders = [await pool.enqueue_job("order", 2) for _ in range(6)]
        for order in orders:
            assert order is not None
            await wait_until(lambda order=order: _has_begun(pool, order), "it has begun")  # type: ignore[misc]


async def _has_begun(pool: Pool, order: Job[Any]) -> bool:
    return bool(await pool.exists(f"arqestra:flow:{order.job_id}"))


async def test_it_fails_after_its_time_and_not_with_what_the_new_code_raised(
    pool: Pool, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows, "NONDETERMINISM_TRIES", 3)
    order = await under_way(pool, working)
    async with working(deployed(raises)):
        await pool.signal(order.job_id, "go", 4)
        with pytest.raises(
            NondeterminismError, match=r"expected it to wait after event 1 .* got its end: it raised KeyError"
        ):
            await order.result(timeout=20)

    assert len(await order.errors()) == 3
    assert await keys_of_blocked(pool) == set()


async def keys_of_blocked(pool: Pool) -> set[str]:
    return {key.decode() for key in await pool.keys("arqestra:blocked:*")}


async def test_events_that_come_meanwhile_cost_no_try(
    pool: Pool, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wakes the workflow, long before its pause is over."""
    monkeypatch.setattr(workflows, "NONDETERMINISM_TRIES", 3)
    monkeypatch.setattr(workflows, "NONDETERMINISM_PAUSE_MS", 600_000)
    monkeypatch.setattr(workflows, "MAX_PAUSE_MS", 600_000)
    order = await under_way(pool, working)
    async with working(deployed(raises)):
        for number in range(8):
            before_it = (await pool.flow(order.job_id).progress()).replays
            assert await pool.signal(order.job_id, "go" if number == 0 else "more", 4)
            await wait_until(lambda seen=before_it: _was_replayed(pool, order, seen), "it was tried")  # type: ignore[misc]
        assert await is_blocked(pool, order)
    assert len(await order.errors()) == 1

    assert await pool.signal(order.job_id, "more")  # one that wakes it
    async with working(deployed(before)):
        assert await order.result(timeout=20) == RESULT


async def _was_replayed(pool: Pool, order: Job[Any], before_it: int) -> bool:
    """It was, and was put off again."""
    progress = await pool.flow(order.job_id).progress()
    return progress.replays > before_it and not await pool.exists(pool.store.keys.lease(order.job_id))


async def test_three_quarters_of_an_hour_in_all() -> None:
    patience = Patience(10_000, 300_000, 14)
    assert 44 * 60 < patience.left_s(1, 10_000) < 46 * 60
    assert patience.left_s(13, 300_000) == 300


@pytest.mark.parametrize("burst", [False, True], ids=["worker", "burst"])
async def test_a_worker_that_does_not_know_it_gives_it_back(pool: Pool, working: Working, burst: bool) -> None:
    order = await under_way(pool, working)
    await pool.signal(order.job_id, "go", 4)
    async with working(jobs.GRAPH_JOBS, burst=burst):
        await wait_until(lambda: is_blocked(pool, order), "it is blocked by code")
    assert "not found" in (await pool.flow(order.job_id).progress()).blocked
    assert await order.result_info() is None

    async with working(deployed(before)):
        assert await order.result(timeout=20) == RESULT


@pytest.mark.parametrize("burst", [False, True], ids=["worker", "burst"])
async def test_a_step_that_a_worker_does_not_know_is_given_back(
    pool: Pool, working: Working, caplog: pytest.LogCaptureFixture, burst: bool
) -> None:
    gate("later").set()
    order = await started(pool, jobs.waits_for_gate, "later")

    async def was_given_back() -> bool:
        return "given back to other workers" in caplog.text

    async with working([jobs.waits_for_gate]):
        await wait_until(was_given_back, "its step was given back")
    caplog.clear()
    async with working([jobs.waits_for_gate], burst=burst):
        await wait_until(was_given_back, "its step was given back")
    async with working([jobs.waits_for_gate, wait_at]):
        assert await order.result(timeout=20) == "later"


async def compensates(flow: Flow, number: int) -> list[Any]:
    """As `before`, and undoes its steps when it is aborted."""
    try:
        return await before(flow, number)
    except asyncio.CancelledError:
        await flow.run(add.s(-1))
        raise


@pytest.mark.parametrize("after", [raises, None], ids=["blocked", "unknown"])
async def test_an_abort_is_remembered_until_the_code_can_hear_it(
    pool: Pool, working: Working, after: Deploy | None
) -> None:
    """It would not be compensated for otherwise."""
    async with working(deployed(compensates)):
        order = await pool.enqueue_job("order", 2)
        assert order is not None
        await wait_until(lambda: _waits(pool, order), "it waits for go")
    async with working(deployed(after) if after else jobs.GRAPH_JOBS, allow_abort_jobs=True):
        with pytest.raises(TimeoutError):
            await order.abort(timeout=0.5)
        assert await pool.zscore("arq:abort", order.job_id) is None  # it is in the history
        assert await pool.flow(order.job_id).status() == "running"
        assert (-1,) not in jobs.RUNS

    async with working(deployed(compensates), allow_abort_jobs=True):
        with pytest.raises(asyncio.CancelledError):
            await order.result(timeout=20)
    assert jobs.RUNS[-1] == (-1,)


async def test_an_abort_ends_it_when_its_time_is_over(
    pool: Pool, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows, "NONDETERMINISM_TRIES", 4)
    order = await under_way(pool, working)
    async with working(deployed(raises), allow_abort_jobs=True):
        assert await order.abort(timeout=20)
    assert await pool.flow(order.job_id).status() == "cancelled"


async def test_it_is_told_in_the_log_and_in_the_handle(
    pool: Pool, working: Working, caplog: pytest.LogCaptureFixture
) -> None:
    order = await under_way(pool, working)
    async with working(deployed(raises)):
        await pool.signal(order.job_id, "go", 4)
        await wait_until(lambda: is_blocked(pool, order), "it is blocked by code")

    [line] = [record for record in caplog.records if "is blocked by code" in record.getMessage()][:1]
    assert line.levelno == logging.CRITICAL
    assert "KeyError" in line.getMessage()
    assert line.exc_info is not None
    assert isinstance(line.exc_info[1], KeyError)  # where the new code went wrong
    assert "KeyError" in (await pool.flow(order.job_id).progress()).blocked
    assert await keys_of_blocked(pool) == {"arqestra:blocked:arq:queue"}
    await order.delete()
    assert await keys_of_blocked(pool) == set()


async def test_code_that_runs_for_the_first_time_fails_the_workflow_as_ever(pool: Pool, working: Working) -> None:
    async with working(deployed(raises)):
        order = await pool.enqueue_job("order", 2)
        assert order is not None
        with pytest.raises(KeyError, match="a bug of the new code"):
            await order.result(timeout=20)
        wrong = await pool.enqueue_job("order", 2, 3, 4)
        assert wrong is not None
        with pytest.raises(TypeError):
            await wrong.result(timeout=20)
