"""Flows: another round of one that has ended, and one whose record is gone."""

from __future__ import annotations

from typing import Any

import pytest

from arqestra.errors import FlowRunning
from arqestra.store.flows import FlowStore
from arqestra.store.read_flows import read_nodes
from tests.store.flows import chain_of, chord_of, fan_out, retry_of, run_continuations, run_flow
from tests.support.store_harness import KEYS, QUEUE, Kind, Plan, StoreHarness

# -- another round ------------------------------------------------------------------------------------------------


async def test_another_round_runs_what_did_not_complete_and_what_hangs_on_it(harness: StoreHarness) -> None:
    plan = chord_of(3)
    plan.job(plan.last)
    await harness.start_flow(plan)
    assert await run_flow(harness, failing=("f~2",)) == ["f~1", "f~2", "f~3"]

    assert await retry_of(harness).retry() == 3

    assert (await harness.flow_field("state"), await harness.states()) == ("running", {1: "c", 2: "q", 3: "c", 7: "c"})
    assert await run_flow(harness) == ["f~2", "f~5", "f~6"]
    assert [await harness.flow_field(name) for name in ("c", "f", "u", "q", "left", "state")] == [
        *("5", "0", "0", "5", "0", "ended")
    ]
    assert await harness.without_ttl() == set()


async def test_a_round_may_fail_and_be_followed_by_another(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(3))
    await run_flow(harness, failing=("f~1", "f~2"))
    await retry_of(harness).retry()
    assert await run_flow(harness, failing=("f~2",)) == ["f~1", "f~2"]
    await retry_of(harness).retry()

    assert await run_flow(harness) == ["f~2", "f~5"]
    assert await harness.flow_field("state") == "ended"


async def test_an_error_callback_waits_in_another_round_for_the_end_of_its_parent(harness: StoreHarness) -> None:
    plan = Plan()
    first = plan.job()
    plan.job(first, on_error=True)
    await harness.start_flow(plan, output=first)
    await run_flow(harness, failing=("f~1",))
    assert await retry_of(harness).retry() == 2

    assert await run_flow(harness) == ["f~1"]
    assert await harness.states() == {1: "c", 2: "s", 3: "c"}


async def test_a_cancelled_flow_runs_what_was_dropped_in_another_round(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(2))
    await harness.flows.cancel("f", "")
    await retry_of(harness).retry()

    assert await harness.flow_field("cancelled") is None
    assert await run_flow(harness) == ["f~1", "f~2", "f~4"]
    assert [await harness.flow_field(name) for name in ("a", "d", "c", "q")] == ["0", "0", "3", "3"]


async def test_what_a_cancellation_has_left_to_do_is_not_done_to_another_round(harness: StoreHarness) -> None:
    plan = Plan()
    plan.jobs(400)
    await harness.start_flow(plan, output=1)
    worker = harness.worker()
    jobs = (await worker.claim(400)).jobs
    await harness.flows.cancel("f", "")
    await worker.finish_all([job for job in jobs if job.id != "f~400"])
    await worker.finish_all([job for job in jobs if job.id == "f~400"], "abort")
    assert await harness.flow_field("state") == "ended"
    await retry_of(harness).retry()

    assert await run_flow(harness) == ["f~400"]


async def test_a_thousand_nodes_run_again_by_the_claims_of_any_worker(harness: StoreHarness) -> None:
    await harness.start_flow(fan_out(1000))
    await run_flow(harness, failing=("f~1",))
    await retry_of(harness).retry()
    await run_continuations(harness.worker(queue="other"), harness)

    assert len(await run_flow(harness)) == 1001
    assert [await harness.flow_field(name) for name in ("c", "u", "state")] == ["1001", "0", "ended"]


async def test_a_dead_job_that_runs_again_is_in_the_dead_set_no_more(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(1))
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "dead")
    await retry_of(harness).retry()

    assert await harness.redis.exists(KEYS.dead(QUEUE), KEYS.dead_results(QUEUE)) == 0
    assert (await worker.claim_one()).attempt == 1


async def test_results_of_an_earlier_round_have_no_ttl_while_another_runs(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(2))
    await run_flow(harness, failing=("f~2",))
    await retry_of(harness).retry()

    assert await harness.redis.pttl(KEYS.result("f~1")) == -1


async def test_of_two_who_want_another_round_the_later_is_refused(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the same end; the first one's round has ended when the second one starts."""
    await harness.start_flow(chain_of(1))
    await run_flow(harness, failing=("f~1",))
    start = FlowStore.start

    async def start_late(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(FlowStore, "start", start)
        await retry_of(harness).retry()
        await run_flow(harness)
        return await start(*args, **options)

    monkeypatch.setattr(FlowStore, "start", start_late)
    with pytest.raises(FlowRunning):
        await retry_of(harness).retry()
    assert await harness.flow_field("state") == "ended"


async def test_the_parents_of_a_node_are_the_same_after_another_round(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(2))
    before = {node.number: node.parents for node in await read_nodes(harness.store, "f")}
    await run_flow(harness, failing=("f~1",))
    await retry_of(harness).retry()

    assert {node.number: node.parents for node in await read_nodes(harness.store, "f")} == before


# -- a record that is gone ----------------------------------------------------------------------------------------


async def _lose_record(harness: StoreHarness) -> None:
    """What an eviction does, or somebody's hand."""
    names = (KEYS.flow, KEYS.flow_nodes, KEYS.flow_states, KEYS.flow_pending)
    await harness.redis.delete(*(name("f") for name in names))


@pytest.mark.parametrize("kind", ["end", "fail", "abort"])
async def test_a_node_that_ends_after_its_flow_is_gone_leaves_no_key_without_ttl(
    harness: StoreHarness, kind: Kind
) -> None:
    await harness.start_flow(chord_of(2))
    worker = harness.worker()
    first, second = (await worker.claim()).jobs
    await _lose_record(harness)
    await harness.redis.zrem(KEYS.flows, "f")
    await worker.finish(first, kind, result=b"1")
    await worker.finish(second, "end", ttl_ms=-1)

    assert await harness.keys() == {KEYS.result("f~1")}
    assert await harness.without_ttl() == set()


async def test_a_job_whose_flow_is_gone_can_be_deleted(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2))
    await _lose_record(harness)
    await harness.redis.zrem(KEYS.flows, "f")

    assert await harness.store.delete("f~1", QUEUE) == "deleted"
    assert await harness.keys() == set()


async def test_chores_of_a_flow_that_is_gone_come_to_an_end(harness: StoreHarness) -> None:
    await harness.start_flow(fan_out(1000))
    worker = harness.worker()
    await worker.finish(await worker.claim_one())
    await harness.flows.cancel("f", "")
    await _lose_record(harness)
    await run_continuations(worker, harness)

    assert await harness.continuations() == 0


async def test_a_flow_whose_record_is_gone_is_not_listed_for_ever(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2))
    worker = harness.worker()
    job = await worker.claim_one()
    await _lose_record(harness)
    await worker.finish(job)

    assert await harness.without_ttl() == set()


async def test_a_join_goes_by_the_parents_in_the_order_in_which_they_ended(harness: StoreHarness) -> None:
    """Also if the first of them has other children, and so is settled in another way."""
    plan = Plan()
    first, second = plan.job(), plan.job()
    plan.job(first)
    join = plan.join(first, second)
    plan.job(join)
    await harness.start_flow(plan)
    worker = harness.worker()
    jobs = {job.id: job for job in (await worker.claim()).jobs}
    assert await worker.finish_all([jobs[plan.job_id(first)], jobs[plan.job_id(second)]], "fail")

    assert (await harness.states())[join] == f"u{first}"
