"""A bad deploy fails no workflow that runs: what does not fit its history blocks it until the code is rolled back."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from arqestra import Flow, Job, JobStatus, NondeterminismError, Pool
from arqestra.store.queues import survey
from arqestra.worker.run import workflows
from arqestra.worker.run.blocked import Patience
from tests.flows import flow_jobs as jobs
from tests.flows.bad_deploys import (
    DEPLOYS,
    RESULT,
    Deploy,
    before,
    deployed,
    is_blocked,
    raises,
    under_way,
    waits_for_go,
)
from tests.flows.conftest import Working
from tests.flows.flow_jobs import add, gate, wait_at
from tests.flows.starting import started
from tests.support.wait import wait_until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "PARK_AFTER_S", 0.0)
    monkeypatch.setattr(workflows, "NONDETERMINISM_PAUSE_MS", 30)
    monkeypatch.setattr(workflows, "MAX_PAUSE_MS", 30)
    monkeypatch.setattr(workflows, "NONDETERMINISM_TRIES", 1_000)


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
        await wait_until(lambda: waits_for_go(pool, order), "it waits for go")
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
