"""Flows: what fails, ends in other ways, or has very many children."""

from __future__ import annotations

import pytest

from tests.store.flows import FAILURES, chain_of, chord_of, fan_out, run_continuations, run_flow
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, Kind, Plan, StoreHarness, Subscriber, worker_subscriber

# -- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "state"), FAILURES)
async def test_a_failure_passes_on_with_the_number_of_the_node_at_fault(
    harness: StoreHarness, kind: Kind, state: str
) -> None:
    plan = chord_of(2)
    plan.job(plan.last)
    await harness.start_flow(plan)
    worker = harness.worker()
    first, second = (await worker.claim()).jobs

    await worker.finish(second, kind)

    assert await harness.states() == {1: "q", 2: state, 3: "u2", 4: "u2", 5: "u2"}
    assert await harness.flow_field("state") == "running"
    await worker.finish(first)
    assert await harness.flow_field("state") == "ended"
    assert [await harness.flow_field(letter) for letter in ("q", "c", state, "u", "left")] == ["2", "1", "1", "2", "0"]


async def test_a_second_failure_changes_nothing_of_what_the_first_has_passed_on(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(2))
    worker = harness.worker()
    first, second = (await worker.claim()).jobs
    await worker.finish(second, "fail")
    await worker.finish(first, "fail")

    assert await harness.states() == {1: "f", 2: "f", 3: "u2", 4: "u2"}
    assert [await harness.flow_field(name) for name in ("f", "u", "state")] == ["2", "1", "ended"]


@pytest.mark.parametrize(("kind", "state"), FAILURES)
async def test_a_job_that_continues_on_failure_runs(harness: StoreHarness, kind: Kind, state: str) -> None:
    plan = Plan()
    plan.job(plan.job(), on_failure="continue")
    await harness.start_flow(plan)
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), kind)

    assert await harness.states() == {1: state, 2: "q"}
    assert await worker.claim_ids() == ["f~2"]


async def test_a_join_that_continues_on_failure_waits_for_all_of_its_parents(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(3, on_failure="continue"))
    worker = harness.worker()
    first, second, third = (await worker.claim()).jobs
    await worker.finish(first, "fail")
    await worker.finish(second, "abort")
    assert await worker.claim_ids() == []
    await worker.finish(third)

    assert await harness.states() == {1: "f", 2: "a", 3: "c", 4: "c", 5: "q"}


async def test_what_failed_upstream_counts_for_a_join_that_continues(harness: StoreHarness) -> None:
    plan = Plan()
    first = plan.job()
    plan.job(plan.join(plan.job(first), plan.job(), on_failure="continue"))
    await harness.start_flow(plan)

    assert await run_flow(harness, failing=("f~1",)) == ["f~1", "f~3", "f~5"]
    assert await harness.states() == {1: "f", 2: "u1", 3: "c", 4: "c", 5: "c"}


async def test_an_error_callback_runs_when_its_parent_has_failed(harness: StoreHarness) -> None:
    plan = Plan()
    first = plan.job()
    plan.job(plan.job(first, on_error=True))
    await harness.start_flow(plan)

    assert await run_flow(harness, failing=("f~1",)) == ["f~1", "f~2", "f~3"]
    assert await harness.states() == {1: "f", 2: "c", 3: "c"}


async def test_an_error_callback_runs_when_a_node_before_its_parent_has_failed(harness: StoreHarness) -> None:
    plan = chain_of(2)
    plan.job(plan.last, on_error=True)
    await harness.start_flow(plan)

    assert await run_flow(harness, failing=("f~1",)) == ["f~1", "f~3"]


async def test_an_error_callback_of_a_job_that_completes_is_skipped_with_all_behind_it(harness: StoreHarness) -> None:
    plan = Plan()
    first = plan.job()
    callback = plan.job(first, on_error=True)
    plan.job(plan.join(plan.job(callback), plan.job(callback)))
    await harness.start_flow(plan, output=first)

    assert await run_flow(harness) == ["f~1"]
    assert await harness.states() == {1: "c", 2: "s", 3: "s", 4: "s", 5: "s", 6: "s"}
    assert [await harness.flow_field(name) for name in ("s", "state")] == ["4", "ended"]


async def test_a_flow_has_not_ended_while_an_error_callback_runs(harness: StoreHarness) -> None:
    plan = Plan()
    first = plan.job()
    plan.job(first, on_error=True)
    await harness.start_flow(plan, output=first)
    worker = harness.worker()
    async with Subscriber(harness.redis, [KEYS.done_channel("f")]) as subscriber:
        await worker.finish(await worker.claim_one(), "fail")
        assert await subscriber.heard() == {KEYS.done_channel("f"): [""]}  # its result is there

    assert await harness.flow_field("state") == "running"


# -- other ways to end --------------------------------------------------------------------------------------------


async def test_a_deleted_node_counts_as_aborted(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(2, on_failure="continue"))
    assert await harness.store.delete("f~1", QUEUE) == "deleted"
    worker = harness.worker()
    await worker.finish(await worker.claim_one())

    assert await harness.states() == {1: "a", 2: "c", 3: "c", 4: "q"}


async def test_a_purge_of_the_queue_ends_the_flows_in_it(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(450))
    await run_continuations(harness.worker(), harness)

    await harness.store.purge(QUEUE)
    await run_continuations(harness.worker(), harness)

    assert (await harness.flow_field("state"), await harness.queued()) == ("ended", [])
    assert {state[0] for state in (await harness.states()).values()} == {"a", "u"}


async def test_a_job_that_killed_its_workers_counts_as_failed(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2))
    for _ in range(3):
        await harness.worker("dying").claim_one()
        harness.clock.advance(LEASE_MS)
    worker = harness.worker()
    job = await worker.claim_one()
    assert job.flag == "dead"
    await worker.finish(job, "dead")

    assert await harness.states() == {1: "f", 2: "u1"}


async def test_a_queued_job_that_a_client_aborts_counts_as_aborted(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2))
    await harness.store.abort("f~1", QUEUE)
    worker = harness.worker()
    job = await worker.claim_one(aborts=True)
    assert job.flag == "abort"
    await worker.finish(job, "abort")

    assert await harness.states() == {1: "a", 2: "u1"}


async def test_a_node_that_ends_without_a_result_leaves_none(harness: StoreHarness) -> None:
    """A function that keeps no result, recorded as aborted or dead: its worker did not know that it is a node."""
    await harness.start_flow(chain_of(1))
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "fail", ttl_ms=-1, result=b"")

    values = await harness.flows.values("f", [1])
    assert values is not None
    assert values[0].result is None


# -- big fan-out --------------------------------------------------------------------------------------------------


async def test_a_thousand_children_are_released_by_the_claims_of_any_worker(harness: StoreHarness) -> None:
    await harness.start_flow(fan_out(1000))
    worker = harness.worker("w1")
    await worker.finish(await worker.claim_one())
    released = len(await harness.queued())
    assert 0 < released < 1000
    assert await harness.continuations() == 1

    await run_continuations(harness.worker("w2"), harness)

    assert len(await harness.queued()) == 1000
    assert await harness.flow_field("q") == "1001"


async def test_a_worker_of_another_queue_carries_on_and_wakes_a_worker_of_theirs(harness: StoreHarness) -> None:
    await harness.start_flow(fan_out(1000))
    worker = harness.worker("w1")
    await worker.finish(await worker.claim_one())
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await harness.redis.zadd(KEYS.waiting(QUEUE), {"w1": harness.clock.now_ms})
        await run_continuations(harness.worker("w2", queue="other"), harness)
        assert await subscriber.heard() == {KEYS.worker_channel("w1"): ["wake"]}

    assert len((await worker.claim(1000)).jobs) == 1000


async def test_a_claim_that_leaves_chores_asks_to_come_again_at_once(harness: StoreHarness) -> None:
    await harness.start_flow(fan_out(2000))
    worker = harness.worker()
    await worker.finish(await worker.claim_one())

    claimed = await worker.claim(0, wait=True)
    assert await harness.continuations() > 0
    assert claimed.next_due_in_ms == 0


async def test_chores_that_a_finish_leaves_wake_a_worker(harness: StoreHarness) -> None:
    await harness.start_flow(fan_out(1000, queue="other"))
    worker = harness.worker("w1")
    job = await worker.claim_one()
    await harness.worker("w2").claim(wait=True)
    async with worker_subscriber(harness.redis, "w2") as subscriber:
        await worker.finish(job)
        assert await subscriber.heard() == {KEYS.worker_channel("w2"): ["wake"]}


async def test_a_failure_reaches_a_thousand_children(harness: StoreHarness) -> None:
    await harness.start_flow(fan_out(1000))
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "fail")
    await run_continuations(worker, harness)

    assert set((await harness.states()).values()) == {"f", "u1"}
    assert [await harness.flow_field(name) for name in ("u", "left", "state")] == ["1000", "0", "ended"]


async def test_a_failure_reaches_the_end_of_a_long_chain(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(1000))
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "fail")
    await run_continuations(worker, harness)

    assert (await harness.states())[1000] == "u1"
    assert await harness.flow_field("state") == "ended"


async def test_a_thousand_parents_that_end_in_one_call_fire_their_join_once(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(1000))
    worker = harness.worker()
    await run_continuations(worker, harness)
    await worker.finish_all((await worker.claim(1000)).jobs)
    await run_continuations(harness.worker("w2", queue="other"), harness)

    assert await worker.claim_ids() == ["f~1002"]


async def test_a_flow_has_not_ended_before_its_result_is_there(harness: StoreHarness) -> None:
    """Who waits for the flow would find it ended without a result, which reads as failed."""
    plan = Plan()
    plan.join(*plan.jobs(400))
    await harness.start_flow(plan)
    worker = harness.worker()
    await worker.finish_all((await worker.claim(400)).jobs)

    assert await harness.flow_field("state") == "running" or (await harness.states()).get(plan.last) == "c"
