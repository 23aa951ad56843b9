"""Flows: what fails, ends in other ways, or has very many children."""

from __future__ import annotations

import pytest

from tests.store.flows import FAILURES, chain_of, chord_of, do_chores, fan_out, run_flow
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, Ear, Kind, Plan, Scene, worker_ear

# -- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "state"), FAILURES)
async def test_a_failure_passes_on_with_the_number_of_the_node_at_fault(scene: Scene, kind: Kind, state: str) -> None:
    plan = chord_of(2)
    plan.job(plan.last)
    await scene.start_flow(plan)
    worker = scene.worker()
    first, second = (await worker.claim()).jobs

    await worker.finish(second, kind)

    assert await scene.states() == {1: "q", 2: state, 3: "u2", 4: "u2", 5: "u2"}
    assert await scene.flow_field("state") == "running"
    await worker.finish(first)
    assert await scene.flow_field("state") == "ended"
    assert [await scene.flow_field(letter) for letter in ("q", "c", state, "u", "left")] == ["2", "1", "1", "2", "0"]


async def test_a_second_failure_changes_nothing_of_what_the_first_has_passed_on(scene: Scene) -> None:
    await scene.start_flow(chord_of(2))
    worker = scene.worker()
    first, second = (await worker.claim()).jobs
    await worker.finish(second, "fail")
    await worker.finish(first, "fail")

    assert await scene.states() == {1: "f", 2: "f", 3: "u2", 4: "u2"}
    assert [await scene.flow_field(name) for name in ("f", "u", "state")] == ["2", "1", "ended"]


@pytest.mark.parametrize(("kind", "state"), FAILURES)
async def test_a_job_that_continues_on_failure_runs(scene: Scene, kind: Kind, state: str) -> None:
    plan = Plan()
    plan.job(plan.job(), on_failure="continue")
    await scene.start_flow(plan)
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), kind)

    assert await scene.states() == {1: state, 2: "q"}
    assert await worker.claim_ids() == ["f~2"]


async def test_a_join_that_continues_on_failure_waits_for_all_of_its_parents(scene: Scene) -> None:
    await scene.start_flow(chord_of(3, on_failure="continue"))
    worker = scene.worker()
    first, second, third = (await worker.claim()).jobs
    await worker.finish(first, "fail")
    await worker.finish(second, "abort")
    assert await worker.claim_ids() == []
    await worker.finish(third)

    assert await scene.states() == {1: "f", 2: "a", 3: "c", 4: "c", 5: "q"}


async def test_what_failed_upstream_counts_for_a_join_that_continues(scene: Scene) -> None:
    plan = Plan()
    first = plan.job()
    plan.job(plan.join(plan.job(first), plan.job(), on_failure="continue"))
    await scene.start_flow(plan)

    assert await run_flow(scene, failing=("f~1",)) == ["f~1", "f~3", "f~5"]
    assert await scene.states() == {1: "f", 2: "u1", 3: "c", 4: "c", 5: "c"}


async def test_an_error_callback_runs_when_its_parent_has_failed(scene: Scene) -> None:
    plan = Plan()
    first = plan.job()
    plan.job(plan.job(first, on_error=True))
    await scene.start_flow(plan)

    assert await run_flow(scene, failing=("f~1",)) == ["f~1", "f~2", "f~3"]
    assert await scene.states() == {1: "f", 2: "c", 3: "c"}


async def test_an_error_callback_runs_when_a_node_before_its_parent_has_failed(scene: Scene) -> None:
    plan = chain_of(2)
    plan.job(plan.last, on_error=True)
    await scene.start_flow(plan)

    assert await run_flow(scene, failing=("f~1",)) == ["f~1", "f~3"]


async def test_an_error_callback_of_a_job_that_completes_is_skipped_with_all_behind_it(scene: Scene) -> None:
    plan = Plan()
    first = plan.job()
    callback = plan.job(first, on_error=True)
    plan.job(plan.join(plan.job(callback), plan.job(callback)))
    await scene.start_flow(plan, output=first)

    assert await run_flow(scene) == ["f~1"]
    assert await scene.states() == {1: "c", 2: "s", 3: "s", 4: "s", 5: "s", 6: "s"}
    assert [await scene.flow_field(name) for name in ("s", "state")] == ["4", "ended"]


async def test_a_flow_has_not_ended_while_an_error_callback_runs(scene: Scene) -> None:
    plan = Plan()
    first = plan.job()
    plan.job(first, on_error=True)
    await scene.start_flow(plan, output=first)
    worker = scene.worker()
    async with Ear(scene.redis, [KEYS.done_channel("f")]) as ear:
        await worker.finish(await worker.claim_one(), "fail")
        assert await ear.heard() == {KEYS.done_channel("f"): [""]}  # its result is there

    assert await scene.flow_field("state") == "running"


# -- other ways to end --------------------------------------------------------------------------------------------


async def test_a_deleted_node_counts_as_aborted(scene: Scene) -> None:
    await scene.start_flow(chord_of(2, on_failure="continue"))
    assert await scene.store.delete("f~1", QUEUE) == "deleted"
    worker = scene.worker()
    await worker.finish(await worker.claim_one())

    assert await scene.states() == {1: "a", 2: "c", 3: "c", 4: "q"}


async def test_a_purge_of_the_queue_ends_the_flows_in_it(scene: Scene) -> None:
    await scene.start_flow(chord_of(450))
    await do_chores(scene.worker(), scene)

    await scene.store.purge(QUEUE)
    await do_chores(scene.worker(), scene)

    assert (await scene.flow_field("state"), await scene.queued()) == ("ended", [])
    assert {state[0] for state in (await scene.states()).values()} == {"a", "u"}


async def test_a_job_that_killed_its_workers_counts_as_failed(scene: Scene) -> None:
    await scene.start_flow(chain_of(2))
    for _ in range(3):
        await scene.worker("dying").claim_one()
        scene.clock.advance(LEASE_MS)
    worker = scene.worker()
    job = await worker.claim_one()
    assert job.flag == "dead"
    await worker.finish(job, "dead")

    assert await scene.states() == {1: "f", 2: "u1"}


async def test_a_queued_job_that_a_client_aborts_counts_as_aborted(scene: Scene) -> None:
    await scene.start_flow(chain_of(2))
    await scene.store.abort("f~1", QUEUE)
    worker = scene.worker()
    job = await worker.claim_one(aborts=True)
    assert job.flag == "abort"
    await worker.finish(job, "abort")

    assert await scene.states() == {1: "a", 2: "u1"}


async def test_a_node_that_ends_without_a_result_leaves_none(scene: Scene) -> None:
    """A function that keeps no result, recorded as aborted or dead: its worker did not know that it is a node."""
    await scene.start_flow(chain_of(1))
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "fail", ttl_ms=-1, result=b"")

    values = await scene.flows.values("f", [1])
    assert values is not None
    assert values[0].result is None


# -- big fan-out --------------------------------------------------------------------------------------------------


async def test_a_thousand_children_are_released_by_the_claims_of_any_worker(scene: Scene) -> None:
    await scene.start_flow(fan_out(1000))
    worker = scene.worker("w1")
    await worker.finish(await worker.claim_one())
    released = len(await scene.queued())
    assert 0 < released < 1000
    assert await scene.chores() == 1

    await do_chores(scene.worker("w2"), scene)

    assert len(await scene.queued()) == 1000
    assert await scene.flow_field("q") == "1001"


async def test_a_worker_of_another_queue_carries_on_and_wakes_a_worker_of_theirs(scene: Scene) -> None:
    await scene.start_flow(fan_out(1000))
    worker = scene.worker("w1")
    await worker.finish(await worker.claim_one())
    async with worker_ear(scene.redis, "w1") as ear:
        await scene.redis.zadd(KEYS.waiting(QUEUE), {"w1": scene.clock.now_ms})
        await do_chores(scene.worker("w2", queue="other"), scene)
        assert await ear.heard() == {KEYS.worker_channel("w1"): ["wake"]}

    assert len((await worker.claim(1000)).jobs) == 1000


async def test_a_claim_that_leaves_chores_asks_to_come_again_at_once(scene: Scene) -> None:
    await scene.start_flow(fan_out(2000))
    worker = scene.worker()
    await worker.finish(await worker.claim_one())

    claimed = await worker.claim(0, wait=True)
    assert await scene.chores() > 0
    assert claimed.next_due_in_ms == 0


async def test_chores_that_a_finish_leaves_wake_a_worker(scene: Scene) -> None:
    await scene.start_flow(fan_out(1000, queue="other"))
    worker = scene.worker("w1")
    job = await worker.claim_one()
    await scene.worker("w2").claim(wait=True)
    async with worker_ear(scene.redis, "w2") as ear:
        await worker.finish(job)
        assert await ear.heard() == {KEYS.worker_channel("w2"): ["wake"]}


async def test_a_failure_reaches_a_thousand_children(scene: Scene) -> None:
    await scene.start_flow(fan_out(1000))
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "fail")
    await do_chores(worker, scene)

    assert set((await scene.states()).values()) == {"f", "u1"}
    assert [await scene.flow_field(name) for name in ("u", "left", "state")] == ["1000", "0", "ended"]


async def test_a_failure_reaches_the_end_of_a_long_chain(scene: Scene) -> None:
    await scene.start_flow(chain_of(1000))
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "fail")
    await do_chores(worker, scene)

    assert (await scene.states())[1000] == "u1"
    assert await scene.flow_field("state") == "ended"


async def test_a_thousand_parents_that_end_in_one_call_fire_their_join_once(scene: Scene) -> None:
    await scene.start_flow(chord_of(1000))
    worker = scene.worker()
    await do_chores(worker, scene)
    await worker.finish_all((await worker.claim(1000)).jobs)
    await do_chores(scene.worker("w2", queue="other"), scene)

    assert await worker.claim_ids() == ["f~1002"]


async def test_a_flow_has_not_ended_before_its_result_is_there(scene: Scene) -> None:
    """Who waits for the flow would find it ended without a result, which reads as failed."""
    plan = Plan()
    plan.join(*plan.jobs(400))
    await scene.start_flow(plan)
    worker = scene.worker()
    await worker.finish_all((await worker.claim(400)).jobs)

    assert await scene.flow_field("state") == "running" or (await scene.states()).get(plan.last) == "c"
