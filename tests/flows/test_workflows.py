"""Durable workflows through a pool and workers: what they can do, and that they go on elsewhere."""

from __future__ import annotations

import asyncio
import gc
import itertools
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from arqestra import (
    Job,
    JobExecutionFailed,
    JobStatus,
    NondeterminismError,
    Pool,
    SettingsError,
    UpstreamFailed,
    Worker,
    workflow,
)
from arqestra.worker.run import workflows
from tests.flows import flow_jobs as jobs
from tests.flows.conftest import Working, keys_of_flows
from tests.flows.flow_jobs import gate
from tests.flows.starting import is_parked, started
from tests.support.redis_clock import until_too_late
from tests.support.wait import wait_until


@pytest.fixture(params=[5.0, 0.0], ids=["sticky", "parked at once"])
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workflows that wait stay in memory, or are parked and replayed each time."""
    monkeypatch.setattr(workflows, "PARK_AFTER_S", request.param)


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "PARK_AFTER_S", 0.0)


async def ran(what: Any) -> bool:
    return what in jobs.RUNS


@pytest.mark.usefixtures("patience")
async def test_steps_in_turn(pool: Pool, working: Working) -> None:
    async with working():
        assert await (await started(pool, jobs.in_turn, 10)).result(timeout=20) == 55

    assert [(number, 1) for number in range(10)] == jobs.RUNS


@pytest.mark.usefixtures("patience")
async def test_all_that_a_flow_can_do(pool: Pool, working: Working) -> None:
    async with working(max_jobs=3):
        job = await started(pool, jobs.many_ways)
        seen = await job.result(timeout=30)
        again = await (await started(pool, jobs.many_ways)).result(timeout=30)

    random = seen.pop("random")
    assert seen == {
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
    assert 0 <= random < 1
    assert random != again["random"]
    assert jobs.RUNS.count("side effect") == 2
    assert jobs.RUNS.count((4,)) == 2 * 2  # each step ran once in each of the two


@pytest.mark.usefixtures("patience")
async def test_first_takes_one_and_aborts_the_others(pool: Pool, working: Working) -> None:
    async with working():
        job = await started(pool, jobs.race)
        await wait_until(lambda: ran("at slow"), "both run")
        gate("quick").set()
        assert await job.result(timeout=20) == "quick"
        flow = pool.flow(job.job_id)
        await wait_until(lambda: _state_of(flow, 1, "aborted"), "the slow one is aborted")


async def _state_of(flow: Any, number: int, state: str) -> bool:
    return any(node.number == number and node.state == state for node in (await flow.graph()).nodes)


@pytest.mark.usefixtures("patience")
async def test_signals_come_in_order_also_before_somebody_waits(pool: Pool, working: Working) -> None:
    job = await started(pool, jobs.listens, 3)
    assert await pool.signal(job.job_id, "word", {"n": 1})
    async with working():
        for word in (2, "three"):
            assert await pool.signal(job.job_id, "word", word)
        assert await job.result(timeout=20) == [{"n": 1}, 2, "three", "nothing"]
        assert await pool.signal(job.job_id, "word") is False


@pytest.mark.usefixtures("patience")
async def test_compensation_runs_durably_when_it_is_aborted(pool: Pool, working: Working) -> None:
    async with working(allow_abort_jobs=True):
        job = await started(pool, jobs.compensates)
        await wait_until(lambda: ran("at booking"), "the step runs")
        assert await job.abort(timeout=20)
        assert jobs.RUNS == [(1,), "at booking", (-1,)]
        assert await _state_of(pool.flow(job.job_id), 2, "aborted")


@pytest.mark.usefixtures("patience")
async def test_a_workflow_may_decide_otherwise_when_it_is_aborted(pool: Pool, working: Working) -> None:
    async with working(allow_abort_jobs=True):
        job = await started(pool, jobs.undone)
        await wait_until(lambda: ran("at never opened"), "the step runs")
        assert await job.abort(timeout=20) is False
        assert await job.result(timeout=20) == "rescued"


@pytest.mark.usefixtures("patience")
async def test_its_time_limit_counts_from_its_first_start(pool: Pool, working: Working) -> None:
    async with working():
        job = await started(pool, jobs.short_lived)
        with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
            await job.result(timeout=20)

    assert jobs.RUNS[-1] == (99,)


@pytest.mark.usefixtures("patience")
async def test_a_failure_aborts_the_steps_beside_it(pool: Pool, working: Working) -> None:
    async with working():
        job = await started(pool, jobs.fails_beside)
        with pytest.raises(ValueError, match="no good"):
            await job.result(timeout=20)
        flow = pool.flow(job.job_id)
        await wait_until(lambda: _state_of(flow, 1, "aborted"), "its neighbour is aborted")


@pytest.mark.usefixtures("patience")
async def test_continue_as_new_empties_the_history_and_keeps_the_id(pool: Pool, working: Working) -> None:
    async with working():
        job = await started(pool, jobs.counts_down, 3)
        assert await job.result(timeout=20) == job.job_id
        assert [node.number for node in (await pool.flow(job.job_id).graph()).nodes] == [4]

    assert jobs.RUNS == [(3,), (2,), (1,), (0,)]


async def test_a_parked_workflow_holds_nothing_and_goes_on_with_another_worker(
    pool: Pool, working: Working, impatience: None
) -> None:
    async def holds_nothing() -> bool:
        return not (worker.slots.running or worker.slots.sticky or worker.slots.leases)

    async with working() as worker:
        job = await started(pool, jobs.listens, 2)
        await wait_until(lambda: is_parked(pool, job), "it is parked")
        await wait_until(holds_nothing, "the worker has heard that it is parked")
        assert await pool.signal(job.job_id, "word", 1)
        await wait_until(lambda: is_parked(pool, job), "it is parked again")
    assert await pool.signal(job.job_id, "word", 2)
    async with working():
        assert await job.result(timeout=20) == [1, 2, "nothing"]
        assert await job.result_info() is not None


@pytest.mark.usefixtures("patience")
async def test_a_worker_that_stops_hands_its_workflows_on(pool: Pool, working: Working) -> None:
    async with working() as worker:
        job = await started(pool, jobs.listens, 1)
        await wait_until(lambda: _is_known(pool, job), "it has begun")
        await worker.close()
        assert worker.slots.leases == {}
    async with working():
        assert await pool.signal(job.job_id, "word", "heard")
        assert await job.result(timeout=20) == ["heard", "nothing"]


async def _is_known(pool: Pool, job: Job[Any]) -> bool:
    return bool(await pool.exists(f"arqestra:flow:{job.job_id}"))


async def test_workflows_hold_no_slot_while_they_wait(pool: Pool, working: Working) -> None:
    async with working(max_jobs=2):
        waiting = [await started(pool, jobs.in_turn, 5) for _ in range(40)]
        assert {await job.result(timeout=60) for job in waiting} == {15}


async def test_another_way_through_the_function_is_caught(
    pool: Pool, working: Working, impatience: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows, "NONDETERMINISM_PAUSE_MS", 10)
    monkeypatch.setattr(workflows, "NONDETERMINISM_TRIES", 3)
    async with working():
        job = await started(pool, jobs.changes)
        await wait_until(lambda: is_parked(pool, job), "it waits")
        jobs.SWITCHES.add("without patch")
        await pool.signal(job.job_id, "go", "now")
        with pytest.raises(NondeterminismError, match=r"expected a call of add as number 1, .* got a call of total"):
            await job.result(timeout=20)
        assert len(await job.errors()) == 3


async def test_a_change_that_is_rolled_back_in_time_does_no_harm(
    pool: Pool, working: Working, impatience: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows, "NONDETERMINISM_PAUSE_MS", 50)
    async with working():
        job = await started(pool, jobs.changes)
        await wait_until(lambda: is_parked(pool, job), "it waits")
        jobs.SWITCHES.add("without patch")
        await pool.signal(job.job_id, "go", "now")
        await wait_until(lambda: _has_failed_once(job), "the change was noticed")
        jobs.SWITCHES.clear()
        assert await job.result(timeout=20) == [1, "now"]


async def _has_failed_once(job: Job[Any]) -> bool:
    return bool(await job.errors())


async def test_patched_keeps_old_runs_to_the_old_way(pool: Pool, working: Working, impatience: None) -> None:
    async with working():
        old = await started(pool, jobs.changes)
        await wait_until(lambda: is_parked(pool, old), "the old one waits")
        jobs.SWITCHES.add("with patch")
        new = await started(pool, jobs.changes)
        await wait_until(lambda: is_parked(pool, new), "the new one waits")
        for job in (old, new):
            await pool.signal(job.job_id, "go", "now")
        assert await old.result(timeout=20) == [1, "now"]
        assert await new.result(timeout=20) == [5, 1, "now"]


async def test_it_has_no_io_of_its_own(pool: Pool, working: Working) -> None:
    async with working():
        with pytest.raises(RuntimeError, match=r"no I/O, threads or processes .* flow\.side_effect"):
            await (await started(pool, jobs.reaches_out)).result(timeout=20)


async def test_a_step_that_somebody_aborts_fails_in_the_workflow(pool: Pool, working: Working) -> None:
    async with working(allow_abort_jobs=True):
        job = await started(pool, jobs.awaits_an_aborted_step)
        await wait_until(lambda: ran("at aborted"), "the step runs")
        assert await pool.job(f"{job.job_id}~1").abort(timeout=20)
        assert "was aborted" in await job.result(timeout=20)


@pytest.mark.usefixtures("patience")
async def test_steps_results_have_the_types_of_their_functions(pool: Pool, working: Working) -> None:
    async with working():
        assert await (await started(pool, jobs.parcels, datetime(2026, 1, 1, tzinfo=UTC))).result(20) == "box 2026"


@pytest.mark.usefixtures("patience")
async def test_nothing_is_left_of_a_forgotten_workflow(pool: Pool, working: Working) -> None:
    async with working():
        job = await started(pool, jobs.many_ways)
        await job.result(timeout=30)
        for flow_id in (f"{job.job_id}~{node}" for node in range(40)):
            if await pool.flow(flow_id).status() != "not_found":
                await pool.flow(flow_id).forget()
        await pool.flow(job.job_id).forget()
        await job.delete()
    assert await keys_of_flows(pool) == set()


async def test_a_deleted_workflow_aborts_its_steps(pool: Pool, working: Working, impatience: None) -> None:
    async with working():
        job = await started(pool, jobs.waits_for_gate, "deleted")
        await wait_until(lambda: ran("at deleted"), "the step runs")
        await wait_until(lambda: is_parked(pool, job), "it is parked")
        assert await job.delete()
        await wait_until(lambda: _state_of(pool.flow(job.job_id), 1, "aborted"), "the step is aborted")


async def test_an_id_can_be_used_again(pool: Pool, working: Working) -> None:
    async with working():
        first = await pool.enqueue(jobs.in_turn.options(job_id="mine"), 3)
        assert first is not None
        assert await first.result(timeout=20) == 6
        await first.delete()
        second = await pool.enqueue(jobs.in_turn.options(job_id="mine"), 4)
        assert second is not None
        assert await second.result(timeout=20) == 10


async def test_its_steps_are_seen_as_those_of_any_flow(pool: Pool, working: Working) -> None:
    async with working():
        job = await started(pool, jobs.waits_for_gate, "seen")
        await wait_until(lambda: ran("at seen"), "the step runs")
        [node] = (await pool.flow(job.job_id).graph()).nodes
        assert (node.function, node.state) == ("wait_at", "running")
        assert await pool.flow(job.job_id).status() == "running"
        gate("seen").set()
        assert await job.result(timeout=20) == "seen"


async def test_workers_that_stop_at_any_moment_lose_no_workflow(pool: Pool, working: Working) -> None:
    started_ones = [await started(pool, jobs.many_waits, number) for number in range(0, 300, 10)]
    ends = asyncio.gather(*(job.result(timeout=100) for job in started_ones))
    moments_s = itertools.cycle((0.0, 0.003, 0.01, 0.03, 0.07))
    while not ends.done():
        async with working(max_jobs=4) as worker:

            async def is_at_work(worker: Worker = worker) -> bool:
                return ends.done() or bool(worker.slots.leases)

            await wait_until(is_at_work, "the worker has begun, however slow this machine is")
            await asyncio.wait([ends], timeout=next(moments_s))
    assert ends.result() == [number + 6 for number in range(0, 300, 10)]


@pytest.mark.parametrize("turns", range(4))
async def test_a_worker_that_stops_at_the_moment_of_news_waits_for_no_workflow(
    pool: Pool, working: Working, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, turns: int
) -> None:
    monkeypatch.setattr(workflows, "PARK_AFTER_S", 3600.0)

    async def waits() -> bool:
        return bool(worker.slots.sticky)

    async with working() as worker:
        job = await started(pool, jobs.sleeps, 3600)
        await wait_until(waits, "the workflow waits in memory")
        worker.workflows.tell_all()
        for _ in range(turns):
            await asyncio.sleep(0)  # a turn of the loop each, on the way of the news to the workflow
    assert "does not heed its cancellation" not in caplog.text
    assert await job.status() is not JobStatus.in_progress


@pytest.mark.parametrize("moment", ["it waits", "it has begun"])
async def test_a_worker_that_stops_leaves_workflows_where_they_wait(pool: Pool, working: Working, moment: str) -> None:
    """Given back as they were, all of them would be replayed before anything that they wait for."""

    async def is_there() -> bool:
        found = worker.slots.sticky if moment == "it waits" else worker.slots.leases
        return any(attempt.in_call for attempt in found.values())

    async with working() as worker:
        job = await started(pool, jobs.collects, [])
        await wait_until(is_there, moment)
    assert await is_parked(pool, job)
    async with working():
        for number in range(4):
            assert await pool.signal(job.job_id, "number", number)
        assert await job.result(timeout=20) == [0, 1, 2, 3]


async def test_a_workflow_that_has_begun_does_not_expire(pool: Pool, working: Working, impatience: None) -> None:
    async with working():  # a slow machine has a second in which to begin it
        job = await pool.enqueue(jobs.sleeps.options(expires=1), 1.2)
        assert job is not None
        assert await job.result(timeout=20) == "slept"
    late = await pool.enqueue(jobs.sleeps.options(expires=0.001), 0.2)
    assert late is not None
    await until_too_late(pool, late)
    async with working():
        with pytest.raises(JobExecutionFailed, match="expired"):
            await late.result(timeout=20)


async def test_a_workflow_that_starts_anew_beyond_its_deadline_does_not_expire(pool: Pool, working: Working) -> None:
    async with working():
        job = await pool.enqueue(jobs.goes_on_beyond_its_deadline.options(expires=1))
        assert job is not None
        assert await job.result(timeout=20) == 2


@pytest.mark.parametrize("how", ["exit", "interrupt", "cancel"])
async def test_a_workflow_cannot_end_its_worker(pool: Pool, working: Working, how: str) -> None:
    async with working():
        with pytest.raises(JobExecutionFailed, match=r"SystemExit|KeyboardInterrupt|CancelledError"):
            await (await started(pool, jobs.ends_its_worker, how)).result(timeout=20)
        assert await (await started(pool, jobs.in_turn, 2)).result(timeout=20) == 3


@pytest.mark.usefixtures("patience")
async def test_events_that_nobody_took_outlive_a_new_start(pool: Pool, working: Working) -> None:
    async with working():
        job = await started(pool, jobs.collects, [])
        for number in range(4):
            assert await pool.signal(job.job_id, "number", number)
        assert await job.result(timeout=20) == [0, 1, 2, 3]


async def test_a_new_start_of_a_flows_node_gets_its_own_arguments_and_other_keys(pool: Pool, working: Working) -> None:
    async with working():
        flow = await pool.enqueue_flow(jobs.add.s(4) | jobs.two_rounds.s())
        assert await flow.result(timeout=20) == [4, 1]

    keys = [run for run in jobs.RUNS if run[0] == "key"]
    assert len({key for _, key, _ in keys}) == len({number for _, _, number in keys}) == 2


async def test_a_workflow_that_caught_a_cancellation_can_be_aborted_again(pool: Pool, working: Working) -> None:
    async with working(allow_abort_jobs=True):
        job = await started(pool, jobs.stubborn)
        for number in range(2):
            await wait_until(lambda number=number: ran(f"at never {number}"), "the step runs")  # type: ignore[misc]
            with pytest.raises(TimeoutError):
                await job.abort(timeout=0.01)
            await wait_until(lambda number=number: ran(("caught", number)), "it was caught")  # type: ignore[misc]
        await wait_until(lambda: ran("at never at all"), "the last step runs")
        assert await job.abort(timeout=20)


# What catches everything cannot be closed in peace: Python says so when it is collected, and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_bare_except_does_not_hang_the_worker(pool: Pool, working: Working, impatience: None) -> None:
    async with working():
        job = await started(pool, jobs.bare_except)
        await wait_until(lambda: is_parked(pool, job), "it is parked")
        gate("bare").set()
        assert await job.result(timeout=20) == "bare"
    gc.collect()


@pytest.mark.usefixtures("patience")
async def test_what_follows_a_failure_in_a_workflow(pool: Pool, working: Working) -> None:
    async with working():
        job = await started(pool, jobs.follows_failures)
        assert await job.result(timeout=20) == ["ValueError('no good')", "no good"]

    [(failure, note)] = [run for run in jobs.RUNS if isinstance(run, tuple) and isinstance(run[0], UpstreamFailed)]
    assert (failure.function, note) == ("fail", "from a workflow")


async def test_a_handle_on_a_workflow_tells_of_it(pool: Pool, working: Working) -> None:
    async with working():
        job = await started(pool, jobs.in_turn, 3)
        flow = pool.flow(job.job_id)
        assert await job.result(timeout=20) == 6
        assert await flow.result(timeout=20) == 6
        assert await flow.status() == "complete"
        progress = await flow.progress()
        assert (progress.total, progress.done, progress.waiting) == (3, 3, 0)
        assert (progress.events, progress.replays) == (3, 0)


async def test_a_workflow_that_waits_is_cancelled_with_its_graph_whatever_the_worker_allows(
    pool: Pool, working: Working, impatience: None
) -> None:
    async with working():
        flow = await pool.enqueue_flow(jobs.waits_for_gate.s("cancelled"))
        await wait_until(lambda: ran("at cancelled"), "its step runs")
        assert await flow.cancel()
        assert await flow.wait(timeout=20) == "cancelled"


async def test_an_id_of_somebody_elses_is_not_overwritten(pool: Pool, working: Working) -> None:
    theirs = await pool.enqueue(jobs.add.options(job_id="order:1", defer_by=0.2), 7)
    assert theirs is not None
    async with working():
        ours = await pool.enqueue(jobs.in_turn.options(job_id="order"), 2)
        assert ours is not None
        assert (await ours.result(timeout=20), await theirs.result(timeout=20)) == (3, 7)


def test_what_is_no_workflow() -> None:
    with pytest.raises(SettingsError, match="expected an async function"):
        workflow(lambda flow: 1)  # type: ignore[arg-type, return-value]
    with pytest.raises(SettingsError, match="timeout"):
        workflow(timeout="soon")(cast(Any, jobs.in_turn.coroutine))
