"""A workflow whose id is used again, and one that waits in a flow that is cancelled."""

from __future__ import annotations

import pytest

from arqestra.store.flows import Advance
from tests.support.store_harness import KEYS, QUEUE, Kind, Plan, StoreHarness, StoreWorker

KEEP_MS = 60_000


async def run_once(harness: StoreHarness, worker: StoreWorker) -> None:
    """A life of the workflow `w`, of which nothing but its record is kept."""
    assert await harness.enqueue("w", unique=True) == [True]
    job = await worker.claim_one()
    await harness.flows.history("w", QUEUE, nodes=True)
    started_ms = harness.clock()
    assert (
        await harness.flows.advance(
            "w", QUEUE, job.token, Advance([], [], []), keep_ms=KEEP_MS, name="work", started_ms=started_ms
        )
        == []
    )
    assert await worker.finish(job, ttl_ms=-1)
    assert await harness.flow_field("state", "w") == "ended"


@pytest.mark.parametrize("kind", ["end", "abort"])
async def test_signals_that_no_life_took_go_with_the_record(harness: StoreHarness, kind: Kind) -> None:
    worker = harness.worker()
    await run_once(harness, worker)
    assert await harness.enqueue("w", unique=True) == [True]
    assert await harness.flows.signal("w", QUEUE, b"nonce name value")

    assert await worker.finish(await worker.claim_one(), kind)

    assert not await harness.without_ttl()


@pytest.mark.parametrize("kind", ["end", "fail", "abort"])
async def test_a_second_life_may_end_at_once(harness: StoreHarness, kind: Kind) -> None:
    worker = harness.worker()
    await run_once(harness, worker)
    assert await harness.enqueue("w", unique=True) == [True]
    job = await worker.claim_one()
    await harness.flows.history("w", QUEUE, nodes=True)

    assert await worker.finish(job, kind)

    assert await harness.flow_field("state", "w") == "ended"
    assert await harness.redis.exists(KEYS.flows) == 0
    assert not await harness.without_ttl()


async def test_the_claim_that_cancels_a_waiting_workflow_takes_it_as_aborted(harness: StoreHarness) -> None:
    plan = Plan()
    plan.jobs(250)
    plan.job(job_id="w")  # behind so many nodes that the cancel leaves it to a claim
    await harness.start_flow(plan)
    worker = harness.worker()
    jobs = {job.id: job for _ in range(2) for job in (await worker.claim(1000)).jobs}
    workflow = jobs.pop("w")
    advance = Advance([], [], [])
    await harness.flows.advance(
        "w", QUEUE, workflow.token, advance, keep_ms=KEEP_MS, name="work", started_ms=harness.clock()
    )
    assert await worker.finish(workflow, "park", -1, result=b"0")
    assert await worker.finish_all(jobs.values())
    assert await harness.flows.cancel("f", "why") == "cancelled"
    assert await harness.continuations() > 0

    taken = await harness.worker("w2").claim_one()

    assert (taken.id, taken.flag, taken.attempt) == ("w", "abort", 0)
