"""`arqestra.testing.run_workflow`: all that a workflow can do, without a server, as in the real engine."""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta
from typing import Any

import pytest

from arqestra import (
    Flow,
    HistoryTooLong,
    JobCancelled,
    Pool,
    UpstreamFailed,
    chain,
    chord,
    group,
    workflow,
)
from arqestra.testing import Signal, assert_replays, replay, run_workflow, takes
from arqestra.worker.run import workflows
from tests.flows import flow_jobs as jobs
from tests.flows.conftest import Working
from tests.flows.flow_jobs import add, explain, fail, report_failure, total, wait_at
from tests.flows.simulated import ANSWERS, START, summed
from tests.flows.starting import started
from tests.support.wait import wait_until

# -- what a workflow can do -----------------------------------------------------------------------------------------


async def test_all_that_a_flow_can_do() -> None:
    outcome = await run_workflow(jobs.many_ways, answers=ANSWERS)

    outcome.value.pop("random")
    assert outcome.value == {
        "gathered": [0, 1, 2, 3, 4],
        "mapped": [1, 2],
        "slept": True,
        "value": 7,
        "error": "no good",
        "exceptions": ["1", "no good"],
        "chain": 6,
        "group": 3,
        "sub": 6,
        "uuid": True,
        "branches": [3, 7],
        "completed": [1, 2],
    }


async def test_first_takes_one_and_aborts_the_others() -> None:
    outcome = await run_workflow(jobs.race, answers={wait_at: lambda name: name}, start=START)
    assert outcome.value == "slow"
    outcome = await run_workflow(jobs.race, answers={wait_at: [takes("1h", "slow"), takes("5m", "quick")]})
    assert (outcome.value, outcome.elapsed) == ("quick", timedelta(minutes=5))
    assert [step.state for step in outcome.steps] == ["aborted", "complete"]


async def test_canvases() -> None:
    @workflow
    async def draws(flow: Flow) -> dict[str, Any]:
        seen: dict[str, Any] = {"chain": await flow.run(chain(add.s(1), add.s(2), add.si(5)))}
        seen["chord"] = await flow.run(chord([add.s(n) for n in range(3)], total.s()))
        seen["group"] = await flow.run(group(add.s(1) | add.s(1), group(add.s(2), add.s(3))))
        seen["chunks"] = await flow.run(add.chunks([(1, 1), (2, 2), (3, 3)], 2))
        seen["behind"] = await flow.run(add.s(10) | add.chunks([(1,), (2,)], 2))
        seen["goes on"] = await flow.run(fail.s() | explain.s().set(on_failure="continue"))
        try:
            await flow.run(fail.s().link_error(report_failure.s("note")))
        except ValueError as error:
            seen["raised"] = str(error)
        seen["linked"] = await flow.run(add.s(1).link(explain.s()))
        return seen

    told: list[Any] = []
    outcome = await run_workflow(
        draws, answers={**ANSWERS, explain: repr, report_failure: lambda failure, note: told.append((failure, note))}
    )

    assert outcome.value == {
        "chain": 5,
        "chord": 3,
        "group": [2, [2, 3]],
        "chunks": [[2, 4], [6]],
        "behind": [[11, 12]],
        "goes on": "ValueError('no good')",
        "raised": "no good",
        "linked": 1,
    }
    [(failure, note)] = told
    assert isinstance(failure, UpstreamFailed)
    assert (failure.function, note) == ("fail", "note")
    assert_replays(draws, outcome.histories())
    with pytest.raises(AssertionError, match=r"arqestra.chunk\('add', .* expected answers={add: ...}"):
        await run_workflow(chunked)


@workflow
async def chunked(flow: Flow) -> Any:
    return await flow.run(add.chunks([(1, 1), (2, 2)], 2))


async def test_queues_events_and_task_groups() -> None:
    @workflow
    async def tools(flow: Flow) -> list[Any]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        ready = asyncio.Event()

        async def producer() -> None:
            for number in range(3):
                await queue.put(await flow.run(add.s(number)))
                await asyncio.sleep(10)
            ready.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(producer())
            await ready.wait()
        gathered = await asyncio.gather(flow.run(add.s(5)), flow.run(fail.s()), return_exceptions=True)
        return [queue.qsize(), *(str(each) for each in gathered)]

    outcome = await run_workflow(tools, answers=ANSWERS)
    assert (outcome.value, outcome.elapsed) == ([3, "5", "no good"], timedelta(seconds=30))


async def test_coroutines_that_wait_for_their_turn_are_no_warning_when_it_is_parked() -> None:
    @workflow
    async def crowd(flow: Flow) -> None:
        await flow.gather(flow.sleep(1), flow.sleep(2), flow.run(add.s(1)), limit=1)

    outcome = await run_workflow(crowd, answers={add: 1}, until=0)
    assert_replays(crowd, outcome.histories())
    gc.collect()
    assert (await run_workflow(crowd, answers={add: 1})).elapsed == timedelta(seconds=3)


async def test_a_failure_aborts_the_steps_beside_it() -> None:
    outcome = await run_workflow(jobs.fails_beside, answers={**ANSWERS, wait_at: takes("1h", "late")})

    assert (outcome.state, outcome.elapsed) == ("failed", timedelta(0))
    assert [step.state for step in outcome.steps] == ["aborted", "failed"]
    with pytest.raises(ValueError, match="no good"):
        outcome.result()


async def test_side_effects_are_called_or_answered() -> None:
    calls: list[Any] = []

    def read_rate(currency: str) -> float:
        calls.append(currency)
        return 1.5

    async def breaks() -> Any:
        raise OSError("no disk")

    @workflow
    async def reads(flow: Flow) -> Any:
        rate = await flow.side_effect(read_rate, "EUR")
        try:
            await flow.side_effect(breaks)
        except OSError as error:
            return [rate, str(error)]

    assert (await run_workflow(reads)).value == [1.5, "no disk"]
    outcome = await run_workflow(reads, answers={read_rate: lambda currency: f"2 {currency}", breaks: OSError("full")})
    assert outcome.value == ["2 EUR", "full"]
    assert calls == ["EUR"]
    assert_replays(reads, outcome.histories())
    assert calls == ["EUR"]

    def checks(currency: str) -> None:
        raise AssertionError("the test says so")

    with pytest.raises(AssertionError, match="the test says so"):
        await run_workflow(reads, answers={read_rate: checks})


async def test_continue_as_new_takes_along_what_nobody_heard() -> None:
    @workflow
    async def listener(flow: Flow, heard: list[Any]) -> list[Any]:
        await flow.sleep(hours=1)
        heard = [*heard, await flow.wait_for("word")]
        if len(heard) < 3:
            flow.continue_as_new(heard)
        return heard

    signals = [Signal("word", number, after=number) for number in (1, 2, 3)]
    outcome = await run_workflow(listener, [], signals=signals)

    assert (outcome.value, outcome.runs, outcome.elapsed) == ([1, 2, 3], 3, timedelta(hours=3))
    assert outcome.history["record"]["rounds"] == "2"
    assert [each.fits for each in assert_replays(listener, outcome.histories())]


async def test_continue_as_new_aborts_what_runs() -> None:
    @workflow
    async def leaves(flow: Flow, first: bool = True) -> str:
        if first:
            step = asyncio.ensure_future(flow.run(wait_at.s("left behind")))
            await flow.sleep(1)
            assert not step.done()
            flow.continue_as_new(first=False)
        return await flow.run(wait_at.s("in time"))

    outcome = await run_workflow(leaves, answers={wait_at: takes("1h", "done")})

    assert (outcome.value, outcome.elapsed) == ("done", timedelta(hours=1, seconds=1))
    assert [step.state for step in outcome.steps] == ["aborted", "complete"]
    assert replay(leaves, outcome.history).fits


async def test_patched_code_takes_the_new_way_and_old_histories_the_old_one() -> None:
    old = await run_workflow(jobs.changes, answers=ANSWERS, signals=["go"])
    jobs.SWITCHES.add("with patch")
    new = await run_workflow(jobs.changes, answers=ANSWERS, signals=["go"])

    assert (old.value, new.value) == ([1, None], [5, 1, None])
    assert_replays(jobs.changes, [*old.histories(), *new.histories()])


async def test_workflows_as_steps() -> None:
    @workflow
    async def inner(flow: Flow, name: str) -> str:
        await flow.sleep(hours=1)
        heard = await flow.wait_for("word")
        await flow.run(add.s(1))
        if heard == "bad":
            raise ValueError(name)
        return f"{name} {heard}"

    @workflow
    async def outer(flow: Flow) -> Any:
        return await flow.gather(inner.s("left"), inner.s("right"), return_exceptions=True)

    outcome = await run_workflow(outer, answers={add: 1}, signals=[("word", "good"), ("word", "bad")])

    assert str(outcome.value[1]) == "right"
    assert (outcome.value[0], outcome.elapsed) == ("left good", timedelta(hours=1))
    left, right = outcome.steps
    assert (left.state, right.state, [step.function for step in left.steps]) == ("complete", "failed", ["add"])
    assert len(outcome.calls(add)) == len(outcome.calls("add")) == 2
    assert_replays(outer, outcome.histories())

    answered = await run_workflow(outer, answers={inner: lambda name: name})
    assert answered.value == ["left", "right"]


async def test_a_workflow_behind_a_step_and_one_that_is_aborted_with_its_parent() -> None:
    undone: list[int] = []

    def remembers(number: int) -> int:
        undone.append(number)
        return number

    @workflow
    async def inner(flow: Flow, number: int) -> int:
        try:
            await flow.wait_for("never")
        finally:
            await flow.run(add.s(-number))
        return number

    @workflow
    async def outer(flow: Flow) -> str:
        try:
            async with asyncio.timeout(60):
                await flow.run(add.s(4) | inner.s())
        except TimeoutError:
            return "too late"
        return "in time"

    outcome = await run_workflow(outer, answers={add: remembers})

    assert outcome.value == "too late"
    assert undone == [4, -4]
    assert [step.state for step in outcome.steps] == ["complete", "aborted"]


# -- signals --------------------------------------------------------------------------------------------------------


async def test_signals_are_received_in_order_and_timeouts_pass() -> None:
    outcome = await run_workflow(jobs.listens, 3, signals=["word", ("word", {"n": 2}), Signal("word", "late", "5m")])

    assert outcome.value == [None, {"n": 2}, "late", "nothing"]
    assert outcome.elapsed == timedelta(minutes=5, milliseconds=50)


async def test_what_it_waits_for_is_told_if_it_never_comes() -> None:
    with pytest.raises(AssertionError) as failure:
        await run_workflow(jobs.listens, 2, signals=["word", "wrod"])
    assert str(failure.value) == (
        "workflow test (listens) waits for event 'word': expected signals=[...] to have one, or a timeout; signals "
        "that are left: 'wrod'"
    )

    @workflow
    async def stuck(flow: Flow) -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match=r"workflow test \(.*stuck\) waits for what never comes"):
        await run_workflow(stuck)


async def test_a_signal_that_comes_after_the_timeout_is_kept() -> None:
    @workflow
    async def asks_twice(flow: Flow) -> list[Any]:
        try:
            await flow.wait_for("paid", timeout="1h")
        except TimeoutError:
            await flow.sleep(hours=3)
        return [await flow.wait_for("paid"), flow.now().hour]

    outcome = await run_workflow(asks_twice, signals=[Signal("paid", 5, "2h")], start=START)
    assert outcome.value == [5, 12]


# -- its end --------------------------------------------------------------------------------------------------------


async def test_an_abort_with_compensation() -> None:
    answers = {add: summed, wait_at: takes("1d", "booked")}
    outcome = await run_workflow(jobs.compensates, answers=answers, abort_after="1h")

    assert (outcome.state, outcome.elapsed) == ("aborted", timedelta(hours=1))
    assert [(step.args, step.state) for step in outcome.steps] == [
        ((1,), "complete"),
        (("booking",), "aborted"),
        ((-1,), "complete"),
    ]
    with pytest.raises(asyncio.CancelledError):
        outcome.result()
    assert replay(jobs.compensates, outcome.history).state == "aborted"
    assert_replays(jobs.compensates, outcome.histories())

    rescued = await run_workflow(jobs.undone, answers=answers, abort_after=0)
    assert (rescued.value, rescued.elapsed) == ("rescued", timedelta(0))
    in_time = await run_workflow(jobs.compensates, answers=answers, abort_after="2d")
    assert in_time.value == "booked"


async def test_its_time_limit_with_compensation() -> None:
    outcome = await run_workflow(jobs.short_lived, answers={add: 1, wait_at: takes("1d")})

    assert (outcome.state, str(outcome.error)) == ("failed", "the workflow did not end within 0.2 s")
    assert outcome.elapsed == timedelta(seconds=0.2)
    assert [step.args for step in outcome.steps] == [("never opened",), (99,)]


async def test_a_step_that_is_aborted_by_somebody() -> None:
    outcome = await run_workflow(jobs.awaits_an_aborted_step, answers={wait_at: asyncio.CancelledError()})

    assert outcome.value == "step 1 (wait_at) was aborted"
    with pytest.raises(JobCancelled):
        (await run_workflow(jobs.waits_for_gate, "x", answers={wait_at: asyncio.CancelledError()})).result()


@pytest.mark.parametrize("how", ["exit", "interrupt", "cancel"])
async def test_what_would_end_a_worker_ends_the_workflow(how: str) -> None:
    outcome = await run_workflow(jobs.ends_its_worker, how)

    assert outcome.state == "failed"
    assert isinstance(outcome.error, Exception)


async def test_too_long_a_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arqestra.flow.execution.MAX_NODES", 200)

    @workflow
    async def long(flow: Flow) -> None:
        for _ in range(300):
            await flow.sleep(1)

    outcome = await run_workflow(long)
    assert outcome.elapsed == timedelta(seconds=200)
    with pytest.raises(HistoryTooLong, match="expected at most 200 steps and timers"):
        outcome.result()


async def test_threads_and_sockets_are_refused() -> None:
    with pytest.raises(RuntimeError, match="a workflow has no I/O"):
        (await run_workflow(jobs.reaches_out)).result()


async def test_code_that_depends_on_chance_does_not_fit_its_own_history() -> None:
    numbers = iter(range(100))

    @workflow
    async def tosses(flow: Flow) -> Any:
        return await flow.run(add.s(next(numbers)))

    outcome = await run_workflow(tosses, answers={add: summed})
    with pytest.raises(AssertionError, match="the history has a call of add as number 1, the code has a call of add"):
        assert_replays(tosses, outcome.history)


# -- as the real engine ---------------------------------------------------------------------------------------------


@workflow
async def paces(flow: Flow, number: int) -> dict[str, Any]:
    """Timers, steps, a failure, a chain, a side effect, an event and a workflow, one after the other."""
    seen: dict[str, Any] = {"all": await flow.gather(add.s(number), add.s(8))}
    await flow.sleep(0.01)
    try:
        await flow.run(fail.s())
    except ValueError as error:
        seen["error"] = str(error)
    seen["chain"] = await flow.run(add.s(1) | add.s(2))
    seen["value"] = await flow.side_effect(len, "four")
    seen["heard"] = await flow.wait_for("word")
    seen["patched"] = flow.patched("a change")
    seen["sub"] = await flow.run(jobs.in_turn.s(2))
    return seen


REAL: list[tuple[Any, tuple[Any, ...], list[Any]]] = [
    (paces, (4,), [("word", {"n": 1})]),
    (jobs.in_turn, (4,), []),
    (jobs.listens, (2,), [("word", 1), ("word", None)]),
    (jobs.counts_down, (2,), []),
    (jobs.collects, ([],), [("number", number) for number in range(4)]),
    (jobs.fails_beside, (), []),
    (jobs.many_waits, (3,), []),
    (jobs.follows_failures, (), []),
]


@pytest.mark.parametrize(("function", "args", "signals"), REAL, ids=lambda each: getattr(each, "name", ""))
@pytest.mark.parametrize("parks", [False, True], ids=["resident", "parked"])
async def test_the_real_engine_decides_the_same_and_gives_the_same(
    pool: Pool, working: Working, monkeypatch: pytest.MonkeyPatch, function: Any, args: Any, signals: Any, parks: bool
) -> None:
    monkeypatch.setattr(workflows, "PARK_AFTER_S", 0.0 if parks else 5.0)
    real_job = await started(pool, function, *args)
    for event, value in signals:
        await pool.signal(real_job.job_id, event, value)
    async with working([*jobs.ALL, paces], max_jobs=2 if function is jobs.fails_beside else 1):
        await wait_until(lambda: has_ended(pool, real_job.job_id), "it has ended")
        jobs.gate("neighbour").set()
    real = await pool.export_workflow(real_job.job_id)

    answers = {
        **ANSWERS,
        explain: repr,
        report_failure: lambda *_: None,
        wait_at: takes("1d"),
    }
    simulated = await run_workflow(
        function, *args, answers=answers, signals=signals, _serializer=pool.serializer, _job_id=real_job.job_id
    )

    if simulated.state == "complete":
        assert await real_job.result(timeout=1) == simulated.value
    else:
        assert simulated.error is not None
        with pytest.raises(type(simulated.error), match=str(simulated.error)):
            await real_job.result(timeout=1)
    assert decisions(real) == decisions(simulated.history)
    assert real["waits"] == simulated.history["waits"]
    assert ends(real) == ends(simulated.history)
    assert replay(function, real).value == replay(function, simulated.history).value
    assert_replays(function, [real, *simulated.histories()])


def decisions(history: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("number", "kind", "label", "digest", "when", "queue")
    return [tuple(each.get(name) for name in names) for each in history["asked"]]


def ends(history: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Events in order; steps that are aborted with the workflow end when their workers have heard of it."""
    return [
        (event["kind"], event.get("number"), event.get("state", "")[:1], event.get("event"))
        for event in history["events"]
        if event["kind"] != "signal" and event.get("state") != "a"
    ]


async def has_ended(pool: Pool, flow_id: str) -> bool:
    return await pool.flow(flow_id).status() in ("complete", "failed")
