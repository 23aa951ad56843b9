"""Flows: `lua/_flow.lua` through all that moves a graph: stored, started, released, joined."""

from __future__ import annotations

import pytest

from tests.store.flows import HOUR_MS, chain_of, chord_of, run_flow
from tests.support.store_harness import KEYS, LEASE_MS, Kind, Plan, StoreHarness, Subscriber, worker_subscriber

# -- storing and starting -----------------------------------------------------------------------------------------


async def test_nothing_of_a_flow_that_is_stored_can_be_claimed_and_all_of_it_has_a_ttl(harness: StoreHarness) -> None:
    assert await harness.store_flow(chord_of(3)) == "stored"

    assert await harness.worker().claim_ids() == []
    assert await harness.keys() == {KEYS.flow("f"), KEYS.flow_nodes("f"), KEYS.flow_pending("f")}
    assert all([0 < await harness.redis.pttl(key) <= HOUR_MS for key in await harness.keys()])


async def test_a_flow_that_runs_has_no_ttl(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(3))

    assert await harness.without_ttl() == await harness.keys()


async def test_a_start_sent_twice_starts_once(harness: StoreHarness) -> None:
    plan = chain_of(2)
    await harness.start_flow(plan)
    await harness.worker("w1").claim_one()
    before = {key: await harness.redis.dump(key) for key in await harness.keys()}

    assert await harness.start_stored(plan) == "started"
    assert {key: await harness.redis.dump(key) for key in await harness.keys()} == before


async def test_a_start_sent_again_after_the_flow_has_ended_starts_nothing(harness: StoreHarness) -> None:
    plan = chain_of(1)
    await harness.start_flow(plan)
    await run_flow(harness)

    assert await harness.start_stored(plan) == "started"
    assert await harness.flow_field("state") == "ended"


async def test_a_flow_that_was_never_stored_is_missing(harness: StoreHarness) -> None:
    assert await harness.start_stored(chain_of(1)) == "missing"
    assert await harness.keys() == set()


async def test_what_a_producer_did_not_start_is_another_ones(harness: StoreHarness) -> None:
    plan = chain_of(1)
    await harness.store_flow(plan)
    assert await harness.store_flow(plan, nonce="another") == "stored"

    assert await harness.start_stored(plan) == "exists"
    assert await harness.start_stored(plan, nonce="another") == "started"


async def test_another_producers_flow_of_the_same_id_is_refused_once_it_has_started(harness: StoreHarness) -> None:
    plan = chain_of(1)
    await harness.store_flow(plan)
    await harness.start_stored(plan)
    assert await harness.store_flow(plan, nonce="another") == "exists"
    assert await harness.start_stored(plan, nonce="another") == "exists"

    await run_flow(harness)
    assert await harness.store_flow(plan, nonce="another") == "exists"


async def test_a_chosen_id_of_a_job_that_exists_is_taken(harness: StoreHarness) -> None:
    await harness.enqueue("chosen", unique=True)
    plan = Plan()
    plan.job(job_id="chosen")

    assert await harness.store_flow(plan) == "taken"


async def test_a_flow_that_is_refused_for_a_chosen_id_leaves_nothing(harness: StoreHarness) -> None:
    await harness.enqueue("chosen", unique=True)
    before = await harness.keys()
    plan = Plan()
    plan.job(job_id="chosen")
    await harness.store_flow(plan)

    assert await harness.keys() == before


async def test_a_chosen_id_of_a_node_that_waits_is_refused_to_an_enqueue(harness: StoreHarness) -> None:
    plan = Plan()
    plan.job(plan.job(), job_id="chosen")
    await harness.start_flow(plan)

    assert await harness.enqueue("chosen", unique=True) == [False]


async def test_a_flow_without_jobs_has_ended_when_it_starts(harness: StoreHarness) -> None:
    plan = Plan()
    plan.join()

    await harness.start_flow(plan)

    assert (await harness.flow_field("state"), await harness.states()) == ("ended", {1: "c"})
    assert await harness.without_ttl() == set()


async def test_a_flow_of_thousands_of_nodes_is_stored_in_pieces_and_runs_to_its_end(harness: StoreHarness) -> None:
    plan = Plan()
    plan.job(plan.join(*plan.jobs(2500)))
    await harness.start_flow(plan)

    assert len(await run_flow(harness)) == 2501
    assert await harness.flow_field("state") == "ended"


# -- release ------------------------------------------------------------------------------------------------------


async def test_a_child_is_released_by_the_end_of_its_parent(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2))
    worker = harness.worker()
    parent = await worker.claim_one()
    assert await worker.claim_ids() == []
    harness.clock.advance(77)

    await worker.finish(parent)

    child = await worker.claim_one()
    assert (parent.id, child.id, child.due_ms, child.attempt) == ("f~1", "f~2", harness.clock.now_ms, 1)


@pytest.mark.parametrize("kind", ["retry", "release"])
async def test_a_parent_that_runs_again_releases_no_child(harness: StoreHarness, kind: Kind) -> None:
    await harness.start_flow(chain_of(2))
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), kind)

    assert await harness.states() == {1: "q"}
    assert await worker.claim_ids() == ["f~1"]


async def test_a_job_that_was_retried_is_still_its_node(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2))
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "retry")
    await worker.finish(await worker.claim_one())

    assert await worker.claim_ids() == ["f~2"]


async def test_a_child_in_another_queue_is_released_there_and_wakes_a_worker(harness: StoreHarness) -> None:
    plan = Plan()
    plan.job(plan.job(), queue="other")
    await harness.start_flow(plan)
    worker = harness.worker("w1")
    await harness.worker("w2", queue="other").claim(wait=True)
    async with worker_subscriber(harness.redis, "w2") as subscriber:
        await worker.finish(await worker.claim_one())
        assert await subscriber.heard() == {KEYS.worker_channel("w2"): ["wake"]}

    assert await harness.worker("w2", queue="other").claim_ids() == ["f~2"]


async def test_a_delay_counts_from_the_release(harness: StoreHarness) -> None:
    plan = Plan()
    plan.job(plan.job(), when="+1000")
    await harness.start_flow(plan)
    worker = harness.worker()
    harness.clock.advance(5000)
    await worker.finish(await worker.claim_one())

    harness.clock.advance(999)
    assert await worker.claim_ids() == []
    harness.clock.advance(1)
    assert await worker.claim_ids() == ["f~2"]


async def test_released_jobs_keep_to_their_limits(harness: StoreHarness) -> None:
    one_at_a_time = ("c", "c:f:", 1)
    plan = Plan()
    first = plan.job()
    for _ in range(3):
        plan.job(first, limits=(one_at_a_time,))
    await harness.start_flow(plan)
    worker = harness.worker()
    await worker.finish(await worker.claim_one())

    for number in (2, 3, 4):
        [job] = (await worker.claim(10)).jobs
        assert job.id == f"f~{number}"
        await worker.finish(job)
    assert await harness.flow_field("state") == "ended"
    assert {key for key in await harness.keys() if "holders" in key or "specs" in key or "lane" in key} == set()


async def test_a_chosen_id_is_the_jobs(harness: StoreHarness) -> None:
    plan = Plan()
    plan.job(plan.job(), job_id="chosen")
    await harness.start_flow(plan)

    assert await run_flow(harness) == ["f~1", "chosen"]


async def test_who_listens_is_told_of_each_change_and_of_the_end(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2))
    async with Subscriber(harness.redis, [KEYS.flow_news("f"), KEYS.done_channel("f")]) as subscriber:
        worker = harness.worker()
        await worker.finish(await worker.claim_one())
        assert await subscriber.heard() == {KEYS.flow_news("f"): ["1 c\n2 q"]}
        await worker.finish(await worker.claim_one(), "fail")
        heard = await subscriber.heard()

    assert heard[KEYS.flow_news("f")] == ["2 f\n0 ended"]
    assert set(heard[KEYS.done_channel("f")]) == {""}


# -- joins --------------------------------------------------------------------------------------------------------


async def test_a_join_fires_when_its_last_parent_has_ended(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(3))
    worker = harness.worker()
    first, second, third = (await worker.claim()).jobs

    await worker.finish(third)
    await worker.finish(first)
    assert await harness.states() == {1: "c", 2: "q", 3: "c"}
    await worker.finish(second)

    assert await harness.states() == {1: "c", 2: "c", 3: "c", 4: "c", 5: "q"}
    assert await worker.claim_ids() == ["f~5"]


async def test_a_joins_value_is_the_list_of_its_parents(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(2))
    worker = harness.worker()
    await worker.finish_all((await worker.claim()).jobs)

    values = await harness.flows.values("f", [3, 1, 4])
    assert values is not None
    assert [(value.state, value.parents, value.result, value.job_id) for value in values] == [
        ("c", (1, 2), None, ""),
        ("c", None, b"result", "f~1"),
        ("q", None, None, "f~4"),
    ]


async def test_a_finish_sent_twice_counts_once_for_a_join(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(2))
    worker = harness.worker()
    first, second = (await worker.claim()).jobs
    await worker.finish(first)

    assert not await worker.finish(first)
    assert await harness.states() == {1: "c", 2: "q"}
    await worker.finish(second)
    assert not await worker.finish(second)
    assert await worker.claim_ids() == ["f~4"]


async def test_a_parent_that_another_worker_ran_after_a_lost_lease_counts_once(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(2))
    zombie = harness.worker("zombie")
    first, second = (await zombie.claim()).jobs
    harness.clock.advance(LEASE_MS)
    worker = harness.worker()
    again = await worker.claim_one()
    assert again.id == first.id

    await worker.finish(again)
    assert not await zombie.finish(first)
    assert await harness.states() == {1: "c", 2: "q"}
    assert await zombie.finish(second)  # it ran out, and nobody took it
    assert await worker.claim_ids() == ["f~4"]


async def test_a_join_whose_parents_end_in_one_call_fires_once(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(2))
    worker = harness.worker()

    assert await worker.finish_all((await worker.claim()).jobs)

    assert await worker.claim_ids() == ["f~4"]
    assert await harness.flow_field("left") == "1"


async def test_the_same_end_twice_in_one_call_counts_once(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(2))
    worker = harness.worker()
    first, _ = (await worker.claim()).jobs

    await worker.finish_all([first, first])

    assert (await harness.states(), await harness.flow_field("left")) == ({1: "c", 2: "q"}, "2")


async def test_a_join_of_joins_fires_when_the_last_of_them_has(harness: StoreHarness) -> None:
    plan = Plan()
    inner = [plan.join(*plan.jobs(2)) for _ in range(2)]
    plan.job(plan.join(*inner))
    await harness.start_flow(plan)

    assert await run_flow(harness) == ["f~1", "f~2", "f~4", "f~5", "f~8"]


async def test_a_join_of_nothing_lets_through_what_is_behind_it(harness: StoreHarness) -> None:
    plan = Plan()
    plan.job(plan.join())
    await harness.start_flow(plan)

    assert await harness.worker().claim_ids() == ["f~2"]
    assert KEYS.flow_pending("f") not in await harness.keys()
