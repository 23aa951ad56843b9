"""Flows: another round of one that has ended, and one whose record is gone."""

from __future__ import annotations

from typing import Any

import pytest

from arqestra.errors import FlowRunning
from arqestra.store.read_flows import read_nodes
from tests.store.flows import chain_of, chord_of, do_chores, fan_out, retry_of, run_flow
from tests.support.store_harness import KEYS, QUEUE, Kind, Plan, Scene

# -- another round ------------------------------------------------------------------------------------------------


async def test_another_round_runs_what_did_not_complete_and_what_hangs_on_it(scene: Scene) -> None:
    plan = chord_of(3)
    plan.job(plan.last)
    await scene.start_flow(plan)
    assert await run_flow(scene, failing=("f~2",)) == ["f~1", "f~2", "f~3"]

    assert await retry_of(scene).retry() == 3

    assert (await scene.flow_field("state"), await scene.states()) == ("running", {1: "c", 2: "q", 3: "c", 7: "c"})
    assert await run_flow(scene) == ["f~2", "f~5", "f~6"]
    assert [await scene.flow_field(name) for name in ("c", "f", "u", "q", "left", "state")] == [
        *("5", "0", "0", "5", "0", "ended")
    ]
    assert await scene.without_ttl() == set()


async def test_a_round_may_fail_and_be_followed_by_another(scene: Scene) -> None:
    await scene.start_flow(chord_of(3))
    await run_flow(scene, failing=("f~1", "f~2"))
    await retry_of(scene).retry()
    assert await run_flow(scene, failing=("f~2",)) == ["f~1", "f~2"]
    await retry_of(scene).retry()

    assert await run_flow(scene) == ["f~2", "f~5"]
    assert await scene.flow_field("state") == "ended"


async def test_an_error_callback_waits_in_another_round_for_the_end_of_its_parent(scene: Scene) -> None:
    plan = Plan()
    first = plan.job()
    plan.job(first, on_error=True)
    await scene.start_flow(plan, output=first)
    await run_flow(scene, failing=("f~1",))
    assert await retry_of(scene).retry() == 2

    assert await run_flow(scene) == ["f~1"]
    assert await scene.states() == {1: "c", 2: "s", 3: "c"}


async def test_a_cancelled_flow_runs_what_was_dropped_in_another_round(scene: Scene) -> None:
    await scene.start_flow(chord_of(2))
    await scene.flows.cancel("f", "")
    await retry_of(scene).retry()

    assert await scene.flow_field("cancelled") is None
    assert await run_flow(scene) == ["f~1", "f~2", "f~4"]
    assert [await scene.flow_field(name) for name in ("a", "d", "c", "q")] == ["0", "0", "3", "3"]


async def test_what_a_cancellation_has_left_to_do_is_not_done_to_another_round(scene: Scene) -> None:
    plan = Plan()
    plan.jobs(400)
    await scene.start_flow(plan, output=1)
    worker = scene.worker()
    jobs = (await worker.claim(400)).jobs
    await scene.flows.cancel("f", "")
    await worker.finish_all([job for job in jobs if job.id != "f~400"])
    await worker.finish_all([job for job in jobs if job.id == "f~400"], "abort")
    assert await scene.flow_field("state") == "ended"
    await retry_of(scene).retry()

    assert await run_flow(scene) == ["f~400"]


async def test_a_thousand_nodes_run_again_by_the_claims_of_any_worker(scene: Scene) -> None:
    await scene.start_flow(fan_out(1000))
    await run_flow(scene, failing=("f~1",))
    await retry_of(scene).retry()
    await do_chores(scene.worker(queue="other"), scene)

    assert len(await run_flow(scene)) == 1001
    assert [await scene.flow_field(name) for name in ("c", "u", "state")] == ["1001", "0", "ended"]


async def test_a_dead_job_that_runs_again_is_in_the_dead_set_no_more(scene: Scene) -> None:
    await scene.start_flow(chain_of(1))
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "dead")
    await retry_of(scene).retry()

    assert await scene.redis.exists(KEYS.dead(QUEUE), KEYS.dead_results(QUEUE)) == 0
    assert (await worker.claim_one()).attempt == 1


async def test_results_of_an_earlier_round_have_no_ttl_while_another_runs(scene: Scene) -> None:
    await scene.start_flow(chord_of(2))
    await run_flow(scene, failing=("f~2",))
    await retry_of(scene).retry()

    assert await scene.redis.pttl(KEYS.result("f~1")) == -1


async def test_of_two_who_want_another_round_the_later_is_refused(scene: Scene) -> None:
    """Both have read the same end; the first one's round has ended when the second one starts."""
    await scene.start_flow(chain_of(1))
    await run_flow(scene, failing=("f~1",))
    late = retry_of(scene)
    start = late._flows.start

    async def start_late(*args: Any, **options: Any) -> Any:
        await retry_of(scene).retry()
        await run_flow(scene)
        return await start(*args, **options)

    late._flows.start = start_late  # type: ignore[method-assign]
    with pytest.raises(FlowRunning):
        await late.retry()
    assert await scene.flow_field("state") == "ended"


async def test_the_parents_of_a_node_are_the_same_after_another_round(scene: Scene) -> None:
    await scene.start_flow(chord_of(2))
    before = {node.number: node.parents for node in await read_nodes(scene.store, "f")}
    await run_flow(scene, failing=("f~1",))
    await retry_of(scene).retry()

    assert {node.number: node.parents for node in await read_nodes(scene.store, "f")} == before


# -- a record that is gone ----------------------------------------------------------------------------------------


async def _lose_record(scene: Scene) -> None:
    """What an eviction does, or somebody's hand."""
    names = (KEYS.flow, KEYS.flow_nodes, KEYS.flow_states, KEYS.flow_pending)
    await scene.redis.delete(*(name("f") for name in names))


@pytest.mark.parametrize("kind", ["end", "fail", "abort"])
async def test_a_node_that_ends_after_its_flow_is_gone_leaves_no_key_without_ttl(scene: Scene, kind: Kind) -> None:
    await scene.start_flow(chord_of(2))
    worker = scene.worker()
    first, second = (await worker.claim()).jobs
    await _lose_record(scene)
    await scene.redis.zrem(KEYS.flows, "f")
    await worker.finish(first, kind, result=b"1")
    await worker.finish(second, "end", ttl_ms=-1)

    assert await scene.keys() == {KEYS.result("f~1")}
    assert await scene.without_ttl() == set()


async def test_a_job_whose_flow_is_gone_can_be_deleted(scene: Scene) -> None:
    await scene.start_flow(chain_of(2))
    await _lose_record(scene)
    await scene.redis.zrem(KEYS.flows, "f")

    assert await scene.store.delete("f~1", QUEUE) == "deleted"
    assert await scene.keys() == set()


async def test_chores_of_a_flow_that_is_gone_come_to_an_end(scene: Scene) -> None:
    await scene.start_flow(fan_out(1000))
    worker = scene.worker()
    await worker.finish(await worker.claim_one())
    await scene.flows.cancel("f", "")
    await _lose_record(scene)
    await do_chores(worker, scene)

    assert await scene.chores() == 0


async def test_a_flow_whose_record_is_gone_is_not_listed_for_ever(scene: Scene) -> None:
    await scene.start_flow(chain_of(2))
    worker = scene.worker()
    job = await worker.claim_one()
    await _lose_record(scene)
    await worker.finish(job)

    assert await scene.without_ttl() == set()


async def test_a_join_goes_by_the_parents_in_the_order_in_which_they_ended(scene: Scene) -> None:
    """Also if the first of them has other children, and so is settled in another way."""
    plan = Plan()
    first, second = plan.job(), plan.job()
    plan.job(first)
    join = plan.join(first, second)
    plan.job(join)
    await scene.start_flow(plan)
    worker = scene.worker()
    jobs = {job.id: job for job in (await worker.claim()).jobs}
    assert await worker.finish_all([jobs[plan.job_id(first)], jobs[plan.job_id(second)]], "fail")

    assert (await scene.states())[join] == f"u{first}"
