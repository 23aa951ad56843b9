"""`flow.resume()`: a workflow that failed goes on at its failed step, and what it did before is not run again."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from arq.jobs import ResultNotFound, SerializationError

from arqestra import FlowHandle, FlowRunning, JobNotRetryable, NondeterminismError, Pool, UpstreamFailed, job, workflow
from arqestra.flow.orchestrator import Flow
from arqestra.worker.run import workflows
from tests.flows import flow_jobs as jobs
from tests.flows.conftest import Working
from tests.flows.flow_jobs import add, gate, in_turn, total, wait_at
from tests.flows.starting import is_parked, started
from tests.support.wait import wait_until


@pytest.fixture(autouse=True, params=[5.0, 0.0], ids=["sticky", "parked at once"])
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "PARK_AFTER_S", request.param)


class OrderFailed(Exception):
    """What a workflow makes of the failure of a step."""


@job
async def flaky(ctx: dict[Any, Any], name: str) -> str:
    """Fails unless the test has thrown the switch of that name."""
    jobs.RUNS.append(name)
    if name not in jobs.SWITCHES:
        raise ValueError(f"{name} failed")
    return name


@job(keep_result=0)
async def fleeting(ctx: dict[Any, Any], number: int) -> int:
    jobs.RUNS.append(("fleeting", number))
    return number


@workflow
async def order(flow: Flow) -> list[Any]:
    steps: list[Any] = [await flow.run(add.s(1)), await flow.run(fleeting.s(2))]
    try:
        await flow.run(flaky.s("caught"))
    except ValueError as error:
        steps.append(str(error))
    await flow.sleep(0.01)
    steps.append(await flow.side_effect(jobs.RUNS.append, "side effect"))
    steps.append(await flow.wait_for("go"))
    steps.append(await flow.run(flaky.s("pay")))
    return [*steps, await flow.run(add.s(9))]


@workflow
async def wraps(flow: Flow) -> str:
    """It undoes what it did, and fails with an error of its own."""
    await flow.run(add.s(1))
    try:
        return await flow.run(flaky.s("pay"))
    except ValueError as error:
        await flow.run(add.s(-1))
        raise OrderFailed("no money") from error


@workflow
async def at_once(flow: Flow) -> list[Any]:
    return await flow.gather(wait_at.s("slow"), flaky.s("quick"), add.s(3))


@workflow
async def grouped(flow: Flow) -> list[str]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(flow.run(flaky.s(name))) for name in ("left", "right")]
    return [task.result() for task in running]


@workflow
async def chained(flow: Flow) -> Any:
    await flow.run(add.s(1))
    return await flow.run(flaky.s("first") | flaky.si("second") | add.si(4))


@workflow
async def effect_fails(flow: Flow) -> str:
    await flow.run(add.s(1))

    def read() -> str:
        jobs.RUNS.append("read")
        if "readable" not in jobs.SWITCHES:
            raise OSError("not there")
        return "content"

    return await flow.side_effect(read)


@workflow
async def outer(flow: Flow) -> list[Any]:
    return [await flow.run(add.s(100)), await flow.run(order.s())]


@workflow(timeout=0.3)
async def in_time(flow: Flow) -> str:
    await flow.run(add.s(1))
    return await flow.run(wait_at.s("late"))


@workflow
async def compensated(flow: Flow) -> str:
    await flow.run(add.s(1))
    try:
        return await flow.run(wait_at.s("booking"))
    except asyncio.CancelledError:
        await flow.run(add.s(-1))
        raise


@workflow(name="buggy")
async def with_bug(flow: Flow) -> int:
    steps = [await flow.run(add.s(1)), await flow.run(add.s(2))]
    return steps[2]


@workflow(name="buggy")
async def without_bug(flow: Flow) -> int:
    steps = [await flow.run(add.s(1)), await flow.run(add.s(2))]
    return await flow.run(add.s(sum(steps)))


@workflow(name="buggy")
async def another_way(flow: Flow) -> int:
    return await flow.run(total.s([1]))


@workflow(name="argument")
async def bad_argument(flow: Flow) -> str:
    await flow.run(add.s(1))
    return await flow.run(flaky.s("wrong"))


@workflow(name="argument")
async def good_argument(flow: Flow) -> str:
    await flow.run(add.s(1))
    return await flow.run(flaky.s("right"))


@workflow
async def rounds(flow: Flow, number: int) -> str:
    await flow.run(add.s(number))
    if number:
        flow.continue_as_new(number - 1)
    return await flow.run(flaky.s("pay"))


@workflow
async def unserialisable(flow: Flow) -> Any:
    await flow.run(add.s(1))
    return 1 if "fixed" in jobs.SWITCHES else (lambda: 1)


OURS = [flaky, fleeting, order, wraps, at_once, grouped, chained, effect_fails, outer, in_time, compensated]
OURS += [rounds, unserialisable]
ALL = [*jobs.GRAPH_JOBS[:3], wait_at, in_turn, *OURS]


async def failed(pool: Pool, function: Any, *args: Any, error: type[BaseException] = ValueError) -> FlowHandle[Any]:
    flow = await started(pool, function, *args)
    with pytest.raises(error):
        await flow.result(timeout=20)
    return pool.flow(flow.job_id)


async def resumed(flow: FlowHandle[Any], steps: int) -> Any:
    assert await flow.resume() == steps
    return await flow.result(timeout=20)


async def failed_order(pool: Pool) -> FlowHandle[Any]:
    begun = await started(pool, order)
    assert await pool.signal(begun.job_id, "go", "event")
    with pytest.raises(ValueError, match="pay failed"):
        await begun.result(timeout=20)
    return pool.flow(begun.job_id)


BEFORE_PAY = [(1,), ("fleeting", 2), "caught", "side effect"]


async def test_the_failed_step_is_tried_anew_and_what_was_before_it_is_kept(pool: Pool, working: Working) -> None:
    """A failure that was caught stays one, a step whose result is not kept beyond its flow is not run again."""
    async with working(ALL):
        flow = await failed_order(pool)
        assert [*BEFORE_PAY, "pay"] == jobs.RUNS
        with pytest.raises(ValueError, match="pay failed"):
            await resumed(flow, 1)  # nothing has changed
        jobs.SWITCHES |= {"pay", "caught"}
        assert await resumed(flow, 1) == [1, 2, "caught failed", None, "event", "pay", 9]
        assert await flow.status() == "complete"

    assert [*BEFORE_PAY, "pay", "pay", "pay", (9,)] == jobs.RUNS


async def test_from_its_beginning_is_another_thing(pool: Pool, working: Working) -> None:
    async with working(ALL):
        flow = await failed_order(pool)
        jobs.SWITCHES |= {"pay"}
        await pool.job(flow.flow_id).retry()
        await pool.signal(flow.flow_id, "go", "again")
        assert (await flow.result(timeout=20))[4] == "again"

    assert [*BEFORE_PAY, "pay", *BEFORE_PAY, "pay", (9,)] == jobs.RUNS


async def test_an_error_of_its_own_that_a_step_caused_is_that_steps(pool: Pool, working: Working) -> None:
    async with working(ALL):
        flow = await failed(pool, wraps, error=OrderFailed)
        jobs.SWITCHES.add("pay")
        assert await resumed(flow, 1) == "pay"

    assert jobs.RUNS == [(1,), "pay", (-1,), "pay"]


async def test_what_was_aborted_because_of_it_is_tried_anew_too(pool: Pool, working: Working) -> None:
    async with working(ALL):
        flow = await failed(pool, at_once)
        jobs.SWITCHES.add("quick")
        gate("slow").set()
        assert await resumed(flow, 2) == ["slow", "quick", 3]

    assert sorted(map(str, jobs.RUNS)) == sorted(["at slow", "quick", "(3,)", "at slow", "quick"])


async def test_all_that_failed_in_a_group_of_tasks(pool: Pool, working: Working) -> None:
    async with working(ALL):
        flow = await failed(pool, grouped, error=Exception)
        jobs.SWITCHES |= {"left", "right"}
        assert await resumed(flow, 2) == ["left", "right"]


async def test_a_part_of_a_chain(pool: Pool, working: Working) -> None:
    jobs.SWITCHES.add("first")
    async with working(ALL):
        flow = await failed(pool, chained)
        jobs.SWITCHES.add("second")
        assert await resumed(flow, 1) == 4

    assert jobs.RUNS == [(1,), "first", "second", "second", (4,)]


async def test_a_side_effect(pool: Pool, working: Working) -> None:
    async with working(ALL):
        flow = await failed(pool, effect_fails, error=OSError)
        jobs.SWITCHES.add("readable")
        assert await resumed(flow, 0) == "content"

    assert jobs.RUNS == [(1,), "read", "read"]


async def test_a_workflow_among_its_steps_is_resumed_in_its_turn(pool: Pool, working: Working) -> None:
    async with working(ALL):
        begun = await started(pool, outer)
        await wait_until(lambda: _signalled(pool, f"{begun.job_id}~2"), "the inner one listens")
        with pytest.raises(ValueError, match="pay failed"):
            await begun.result(timeout=20)
        flow = pool.flow(begun.job_id)
        jobs.SWITCHES.add("pay")
        assert await resumed(flow, 1) == [100, [1, 2, "caught failed", None, "event", "pay", 9]]

    assert [(100,), *BEFORE_PAY, "pay", "pay", (9,)] == jobs.RUNS


async def _signalled(pool: Pool, flow_id: str) -> bool:
    return await pool.signal(flow_id, "go", "event")


async def test_a_workflow_in_a_graph_is_resumed_with_it(pool: Pool, working: Working) -> None:
    async with working(ALL):
        flow = await pool.enqueue_flow(add.s(100) | wraps.si() | flaky.si("last"))
        with pytest.raises(OrderFailed):
            await flow.result(timeout=20)
        assert await flow.wait(timeout=20) == "failed"
        jobs.SWITCHES |= {"pay", "last"}
        assert await flow.resume() == 2
        assert await flow.result(timeout=20) == "last"

    assert jobs.RUNS == [(100,), (1,), "pay", (-1,), "pay", "last"]


async def test_one_whose_own_code_failed_goes_on_with_the_new_code(pool: Pool, working: Working) -> None:
    async with working([*ALL, with_bug]):
        flow = await failed(pool, with_bug, error=IndexError)
    async with working([*ALL, without_bug]):
        assert await resumed(flow, 0) == 3

    assert jobs.RUNS == [(1,), (2,), (3,)]


async def test_one_whose_result_does_not_fit_the_serializer(pool: Pool, working: Working) -> None:
    async with working(ALL):
        flow = await failed(pool, unserialisable, error=SerializationError)
        jobs.SWITCHES.add("fixed")
        assert await resumed(flow, 0) == 1

    assert jobs.RUNS == [(1,)]


async def test_the_failed_step_may_get_other_arguments(pool: Pool, working: Working) -> None:
    jobs.SWITCHES.add("right")
    async with working([*ALL, bad_argument]):
        flow = await failed(pool, bad_argument)
    async with working([*ALL, good_argument]):
        assert await resumed(flow, 1) == "right"

    assert jobs.RUNS == [(1,), "wrong", "right"]


async def test_one_that_was_blocked_by_code_for_too_long(
    pool: Pool, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows, "NONDETERMINISM_PAUSE_MS", 10)
    monkeypatch.setattr(workflows, "NONDETERMINISM_TRIES", 2)
    monkeypatch.setattr(workflows, "PARK_AFTER_S", 0.0)
    async with working(ALL):
        begun = await started(pool, order)
        await wait_until(lambda: is_parked(pool, begun), "it waits")
    renamed = workflow(name="order")(cast(Any, another_way.coroutine))
    async with working([each for each in ALL if each is not order] + [renamed, total]):
        await pool.signal(begun.job_id, "go", "event")
        with pytest.raises(NondeterminismError):
            await begun.result(timeout=20)
    jobs.SWITCHES.add("pay")
    async with working(ALL):
        assert (await resumed(pool.flow(begun.job_id), 0))[-2:] == ["pay", 9]


async def test_one_that_was_aborted_goes_on_where_it_was(pool: Pool, working: Working) -> None:
    async with working(ALL, allow_abort_jobs=True):
        begun = await started(pool, compensated)
        await wait_until(lambda: _ran("at booking"), "the step runs")
        assert await begun.abort(timeout=20)
        gate("booking").set()
        assert await resumed(pool.flow(begun.job_id), 1) == "booking"

    assert jobs.RUNS == [(1,), "at booking", (-1,), "at booking"]


async def _ran(what: Any) -> bool:
    return what in jobs.RUNS


async def test_one_whose_time_was_over_has_it_anew(pool: Pool, working: Working) -> None:
    async with working(ALL):
        flow = await failed(pool, in_time, error=TimeoutError)
        gate("late").set()
        assert await resumed(flow, 1) == "late"


async def test_after_new_starts_its_last_round_goes_on(pool: Pool, working: Working) -> None:
    async with working(ALL):
        flow = await failed(pool, rounds, 2)
        jobs.SWITCHES.add("pay")
        assert await resumed(flow, 1) == "pay"

    assert jobs.RUNS == [(2,), (1,), (0,), "pay", "pay"]


async def test_what_cannot_be_resumed(pool: Pool, working: Working) -> None:
    async with working(ALL):
        done = await started(pool, in_turn, 2)
        assert await done.result(timeout=20) == 3
        with pytest.raises(JobNotRetryable, match="it completed"):
            await pool.flow(done.job_id).resume()
        with pytest.raises(ResultNotFound):
            await pool.flow("nobody").resume()
        flow = await failed(pool, wraps, error=OrderFailed)
        await flow.forget()
        with pytest.raises(ResultNotFound):
            await flow.resume()


@workflow
async def takes(flow: Flow, number: int) -> str:
    return await flow.run(flaky.s(f"pay {number}"))


async def test_one_that_gets_its_argument_of_a_graph_is_resumed_with_that(pool: Pool, working: Working) -> None:
    async with working([*ALL, takes]):
        flow = await pool.enqueue_flow(add.s(7) | takes.s())
        assert await flow.wait(timeout=20) == "failed"
        with pytest.raises(JobNotRetryable, match="resume that"):
            await pool.flow(f"{flow.flow_id}~2").resume()
        jobs.SWITCHES.add("pay 7")
        assert await flow.resume() == 1
        assert await flow.result(timeout=20) == "pay 7"


async def test_one_that_runs_is_left_alone(pool: Pool, working: Working) -> None:
    async with working(ALL):
        begun = await started(pool, order)
        await wait_until(lambda: _ran("side effect"), "it waits for go")
        with pytest.raises(FlowRunning, match="expected it to have ended"):
            await pool.flow(begun.job_id).resume()


async def test_two_that_resume_it_at_once_resume_it_once(pool: Pool, working: Working) -> None:
    async with working(ALL):
        flow = await failed(pool, wraps, error=OrderFailed)
        jobs.SWITCHES.add("pay")
    done = await asyncio.gather(*(flow.resume() for _ in range(3)), return_exceptions=True)
    assert 1 in done
    assert all(each == 1 or isinstance(each, FlowRunning | JobNotRetryable) for each in done)
    async with working(ALL):
        assert await flow.result(timeout=20) == "pay"
    assert jobs.RUNS.count("pay") == 2


async def test_its_history_is_kept_as_long_as_the_failed_job(pool: Pool, working: Working) -> None:
    """A corrected deploy takes longer than a result is kept."""
    async with working(ALL, keep_result=5):
        flow = await failed(pool, wraps, error=OrderFailed)
        keys = pool.store.keys
        for key in (keys.flow(flow.flow_id), keys.flow_nodes(flow.flow_id), keys.result(f"{flow.flow_id}~1")):
            assert await pool.pttl(key) > 86_400_000
        await pool.delete(keys.result(flow.flow_id))  # as after these five seconds
        jobs.SWITCHES.add("pay")
        assert await resumed(flow, 1) == "pay"
        assert 0 < await pool.pttl(keys.flow(flow.flow_id)) <= 60_000


def test_upstream_failures_lead_to_their_step() -> None:
    from arqestra.flow.compare import Point
    from arqestra.flow.step_ends import Faults

    faults, error = Faults(), ValueError("of a step")
    faults.add(error, Point(3, 2, 1))
    assert faults.resume_point(UpstreamFailed("a~2", "pay", error)) == Point(3, 2, 1)
    assert faults.resume_point(KeyError("its own")) is None
