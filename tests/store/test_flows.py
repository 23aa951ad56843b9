"""Flows: `lua/_flow.lua` through all that moves a graph: its own scripts, finish, claim, delete and purge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from arqestra.errors import FlowRunning
from arqestra.flow.handle import FlowHandle
from arqestra.store.read_flows import read_nodes
from arqestra.store.records import Ending
from tests.store.scene import KEYS, LEASE_MS, QUEUE, Ear, Kind, Plan, Scene, StoreWorker, worker_ear

HOUR_MS = 3_600_000
FAILURES: tuple[tuple[Kind, str], ...] = (("fail", "f"), ("dead", "f"), ("abort", "a"), ("expire", "x"))


def chain_of(length: int, **options: Any) -> Plan:
    """One job after the other."""
    plan = Plan()
    for _ in range(length):
        plan.job(*([plan.last] if plan.last else []), **options)
    return plan


def chord_of(parents: int, **options: Any) -> Plan:
    """Jobs beside each other, a join, and a job after it."""
    plan = Plan()
    plan.job(plan.join(*plan.jobs(parents), **options))
    return plan


async def run_flow(
    scene: Scene, *, failing: tuple[str, ...] = (), ttl_ms: int = 60_000, claims: int = 100
) -> list[str]:
    """One worker claims and finishes until nothing is left; returns what it ran, in order."""
    worker, ran = scene.worker("runner"), []
    for _ in range(claims):
        jobs = (await worker.claim(1000)).jobs
        ran += [job.id for job in jobs]
        await worker.finish_all([job for job in jobs if job.id not in failing], ttl_ms=ttl_ms)
        await worker.finish_all([job for job in jobs if job.id in failing], "fail", ttl_ms=ttl_ms)
        if not jobs and not await scene.chores():
            return ran
    raise AssertionError(f"expected the flow to end within {claims} claims")


async def do_chores(worker: StoreWorker, scene: Scene) -> int:
    """Claim without a free slot until no chore is left; returns how many claims that took."""
    for claims in range(100):
        if not await scene.chores():
            return claims
        await worker.claim(0)
    raise AssertionError("expected the chores to come to an end")


def retry_of(scene: Scene) -> FlowHandle[Any]:
    """A handle that can retry; it needs nothing of a pool but its store."""
    client = SimpleNamespace(store=scene.store, serializer=None, listener=None)
    return FlowHandle("f", cast(Any, client))


# -- storing and starting -----------------------------------------------------------------------------------------


async def test_nothing_of_a_flow_that_is_stored_can_be_claimed_and_all_of_it_has_a_ttl(scene: Scene) -> None:
    assert await scene.store_flow(chord_of(3)) == "stored"

    assert await scene.worker().claim_ids() == []
    assert await scene.keys() == {KEYS.flow("f"), KEYS.flow_nodes("f"), KEYS.flow_pending("f")}
    assert all([0 < await scene.redis.pttl(key) <= HOUR_MS for key in await scene.keys()])


async def test_a_flow_that_runs_has_no_ttl(scene: Scene) -> None:
    await scene.start_flow(chord_of(3))

    assert await scene.without_ttl() == await scene.keys()


async def test_a_start_sent_twice_starts_once(scene: Scene) -> None:
    plan = chain_of(2)
    await scene.start_flow(plan)
    await scene.worker("w1").claim_one()
    before = {key: await scene.redis.dump(key) for key in await scene.keys()}

    assert await scene.start_stored(plan) == "started"
    assert {key: await scene.redis.dump(key) for key in await scene.keys()} == before


async def test_a_start_sent_again_after_the_flow_has_ended_starts_nothing(scene: Scene) -> None:
    plan = chain_of(1)
    await scene.start_flow(plan)
    await run_flow(scene)

    assert await scene.start_stored(plan) == "started"
    assert await scene.flow_field("state") == "ended"


async def test_a_flow_that_was_never_stored_is_missing(scene: Scene) -> None:
    assert await scene.start_stored(chain_of(1)) == "missing"
    assert await scene.keys() == set()


async def test_what_a_producer_did_not_start_is_another_ones(scene: Scene) -> None:
    plan = chain_of(1)
    await scene.store_flow(plan)
    assert await scene.store_flow(plan, nonce="another") == "stored"

    assert await scene.start_stored(plan) == "exists"
    assert await scene.start_stored(plan, nonce="another") == "started"


async def test_another_producers_flow_of_the_same_id_is_refused_once_it_has_started(scene: Scene) -> None:
    plan = chain_of(1)
    await scene.store_flow(plan)
    await scene.start_stored(plan)
    assert await scene.store_flow(plan, nonce="another") == "exists"
    assert await scene.start_stored(plan, nonce="another") == "exists"

    await run_flow(scene)
    assert await scene.store_flow(plan, nonce="another") == "exists"


async def test_a_chosen_id_of_a_job_that_exists_is_taken(scene: Scene) -> None:
    await scene.enqueue("chosen", unique=True)
    plan = Plan()
    plan.job(job_id="chosen")

    assert await scene.store_flow(plan) == "taken"


async def test_a_flow_that_is_refused_for_a_chosen_id_leaves_nothing(scene: Scene) -> None:
    await scene.enqueue("chosen", unique=True)
    before = await scene.keys()
    plan = Plan()
    plan.job(job_id="chosen")
    await scene.store_flow(plan)

    assert await scene.keys() == before


async def test_a_chosen_id_of_a_node_that_waits_is_refused_to_an_enqueue(scene: Scene) -> None:
    plan = Plan()
    plan.job(plan.job(), job_id="chosen")
    await scene.start_flow(plan)

    assert await scene.enqueue("chosen", unique=True) == [False]


async def test_a_flow_without_jobs_has_ended_when_it_starts(scene: Scene) -> None:
    plan = Plan()
    plan.join()

    await scene.start_flow(plan)

    assert (await scene.flow_field("state"), await scene.states()) == ("ended", {1: "c"})
    assert await scene.without_ttl() == set()


async def test_a_flow_of_thousands_of_nodes_is_stored_in_pieces_and_runs_to_its_end(scene: Scene) -> None:
    plan = Plan()
    plan.job(plan.join(*plan.jobs(2500)))
    await scene.start_flow(plan)

    assert len(await run_flow(scene)) == 2501
    assert await scene.flow_field("state") == "ended"


# -- release ------------------------------------------------------------------------------------------------------


async def test_a_child_is_released_by_the_end_of_its_parent(scene: Scene) -> None:
    await scene.start_flow(chain_of(2))
    worker = scene.worker()
    parent = await worker.claim_one()
    assert await worker.claim_ids() == []
    scene.clock.advance(77)

    await worker.finish(parent)

    child = await worker.claim_one()
    assert (parent.id, child.id, child.due_ms, child.attempt) == ("f~1", "f~2", scene.clock.now_ms, 1)


@pytest.mark.parametrize("kind", ["retry", "release"])
async def test_a_parent_that_runs_again_releases_no_child(scene: Scene, kind: Kind) -> None:
    await scene.start_flow(chain_of(2))
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), kind)

    assert await scene.states() == {1: "q"}
    assert await worker.claim_ids() == ["f~1"]


async def test_a_job_that_was_retried_is_still_its_node(scene: Scene) -> None:
    await scene.start_flow(chain_of(2))
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "retry")
    await worker.finish(await worker.claim_one())

    assert await worker.claim_ids() == ["f~2"]


async def test_a_child_in_another_queue_is_released_there_and_wakes_a_worker(scene: Scene) -> None:
    plan = Plan()
    plan.job(plan.job(), queue="other")
    await scene.start_flow(plan)
    worker = scene.worker("w1")
    await scene.worker("w2", queue="other").claim(wait=True)
    async with worker_ear(scene.redis, "w2") as ear:
        await worker.finish(await worker.claim_one())
        assert await ear.heard() == {KEYS.worker_channel("w2"): ["wake"]}

    assert await scene.worker("w2", queue="other").claim_ids() == ["f~2"]


async def test_a_delay_counts_from_the_release(scene: Scene) -> None:
    plan = Plan()
    plan.job(plan.job(), when="+1000")
    await scene.start_flow(plan)
    worker = scene.worker()
    scene.clock.advance(5000)
    await worker.finish(await worker.claim_one())

    scene.clock.advance(999)
    assert await worker.claim_ids() == []
    scene.clock.advance(1)
    assert await worker.claim_ids() == ["f~2"]


async def test_released_jobs_keep_to_their_limits(scene: Scene) -> None:
    one_at_a_time = ("c", "c:f:", 1)
    plan = Plan()
    first = plan.job()
    for _ in range(3):
        plan.job(first, limits=(one_at_a_time,))
    await scene.start_flow(plan)
    worker = scene.worker()
    await worker.finish(await worker.claim_one())

    for number in (2, 3, 4):
        [job] = (await worker.claim(10)).jobs
        assert job.id == f"f~{number}"
        await worker.finish(job)
    assert await scene.flow_field("state") == "ended"
    assert {key for key in await scene.keys() if "holders" in key or "specs" in key or "lane" in key} == set()


async def test_a_chosen_id_is_the_jobs(scene: Scene) -> None:
    plan = Plan()
    plan.job(plan.job(), job_id="chosen")
    await scene.start_flow(plan)

    assert await run_flow(scene) == ["f~1", "chosen"]


async def test_who_listens_is_told_of_each_change_and_of_the_end(scene: Scene) -> None:
    await scene.start_flow(chain_of(2))
    async with Ear(scene.redis, [KEYS.flow_news("f"), KEYS.done_channel("f")]) as ear:
        worker = scene.worker()
        await worker.finish(await worker.claim_one())
        assert await ear.heard() == {KEYS.flow_news("f"): ["1 c\n2 q"]}
        await worker.finish(await worker.claim_one(), "fail")
        heard = await ear.heard()

    assert heard[KEYS.flow_news("f")] == ["2 f\n0 ended"]
    assert set(heard[KEYS.done_channel("f")]) == {""}


# -- joins --------------------------------------------------------------------------------------------------------


async def test_a_join_fires_when_its_last_parent_has_ended(scene: Scene) -> None:
    await scene.start_flow(chord_of(3))
    worker = scene.worker()
    first, second, third = (await worker.claim()).jobs

    await worker.finish(third)
    await worker.finish(first)
    assert await scene.states() == {1: "c", 2: "q", 3: "c"}
    await worker.finish(second)

    assert await scene.states() == {1: "c", 2: "c", 3: "c", 4: "c", 5: "q"}
    assert await worker.claim_ids() == ["f~5"]


async def test_a_joins_value_is_the_list_of_its_parents(scene: Scene) -> None:
    await scene.start_flow(chord_of(2))
    worker = scene.worker()
    await worker.finish_all((await worker.claim()).jobs)

    values = await scene.flows.values("f", [3, 1, 4])
    assert values is not None
    assert [(value.state, value.parents, value.result, value.job_id) for value in values] == [
        ("c", (1, 2), None, ""),
        ("c", None, b"result", "f~1"),
        ("q", None, None, "f~4"),
    ]


async def test_a_finish_sent_twice_counts_once_for_a_join(scene: Scene) -> None:
    await scene.start_flow(chord_of(2))
    worker = scene.worker()
    first, second = (await worker.claim()).jobs
    await worker.finish(first)

    assert not await worker.finish(first)
    assert await scene.states() == {1: "c", 2: "q"}
    await worker.finish(second)
    assert not await worker.finish(second)
    assert await worker.claim_ids() == ["f~4"]


async def test_a_parent_that_another_worker_ran_after_a_lost_lease_counts_once(scene: Scene) -> None:
    await scene.start_flow(chord_of(2))
    zombie = scene.worker("zombie")
    first, second = (await zombie.claim()).jobs
    scene.clock.advance(LEASE_MS)
    worker = scene.worker()
    again = await worker.claim_one()
    assert again.id == first.id

    await worker.finish(again)
    assert not await zombie.finish(first)
    assert await scene.states() == {1: "c", 2: "q"}
    assert await zombie.finish(second)  # it ran out, and nobody took it
    assert await worker.claim_ids() == ["f~4"]


async def test_a_join_whose_parents_end_in_one_call_fires_once(scene: Scene) -> None:
    await scene.start_flow(chord_of(2))
    worker = scene.worker()

    assert await worker.finish_all((await worker.claim()).jobs)

    assert await worker.claim_ids() == ["f~4"]
    assert await scene.flow_field("left") == "1"


async def test_the_same_end_twice_in_one_call_counts_once(scene: Scene) -> None:
    await scene.start_flow(chord_of(2))
    worker = scene.worker()
    first, _ = (await worker.claim()).jobs

    await worker.finish_all([first, first])

    assert (await scene.states(), await scene.flow_field("left")) == ({1: "c", 2: "q"}, "2")


async def test_a_join_of_joins_fires_when_the_last_of_them_has(scene: Scene) -> None:
    plan = Plan()
    inner = [plan.join(*plan.jobs(2)) for _ in range(2)]
    plan.job(plan.join(*inner))
    await scene.start_flow(plan)

    assert await run_flow(scene) == ["f~1", "f~2", "f~4", "f~5", "f~8"]


async def test_a_join_of_nothing_lets_through_what_is_behind_it(scene: Scene) -> None:
    plan = Plan()
    plan.job(plan.join())
    await scene.start_flow(plan)

    assert await scene.worker().claim_ids() == ["f~2"]
    assert KEYS.flow_pending("f") not in await scene.keys()


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


def fan_out(children: int, **options: Any) -> Plan:
    plan = Plan()
    first = plan.job()
    plan.jobs(children, first, **options)
    return plan


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


# -- cancel -------------------------------------------------------------------------------------------------------


async def test_a_cancellation_drops_what_waits_takes_out_what_is_queued_and_aborts_what_runs(scene: Scene) -> None:
    plan = Plan()
    plan.job(plan.join(plan.job(), plan.job()))
    plan.job(plan.last, on_error=True)
    await scene.start_flow(plan)
    running = await scene.worker("w1").claim_one()
    async with worker_ear(scene.redis, "w1") as ear:
        assert await scene.flows.cancel("f", "why not") == "cancelled"
        assert await ear.heard() == {KEYS.worker_channel("w1"): ["abort! f~1"]}

    assert await scene.states() == {1: "q", 2: "a", 3: "d", 4: "d", 5: "d"}
    assert await scene.queued() == ["f~1"]
    assert await scene.flow_field("cancelled") == "why not"
    await scene.worker("w1").finish(running, "abort")
    assert (await scene.flow_field("state"), await scene.states()) == (
        "ended",
        {1: "a", 2: "a", 3: "d", 4: "d", 5: "d"},
    )
    assert await scene.redis.exists(KEYS.aborts) == 0


async def test_a_retry_of_a_cancelled_job_changes_nothing_for_the_others_of_its_call(scene: Scene) -> None:
    await scene.start_flow(chain_of(1))
    await scene.enqueue("a", "b")
    jobs = (await scene.worker("w1").claim()).jobs
    await scene.flows.cancel("f", "")
    in_order = sorted(jobs, key=lambda job: ["a", "f~1", "b"].index(job.id))
    again = [Ending(job.id, QUEUE, job.token, "retry", 50_000, result=b"2") for job in in_order]

    assert (await scene.store.turn(again, None))[0] == [True] * 3

    assert await scene.states() == {1: "a0"}
    assert {job_id: await scene.score(job_id) for job_id in "ab"} == dict.fromkeys("ab", scene.clock() + 50_000)
    assert {job_id: await scene.attempts(job_id) for job_id in "ab"} == dict.fromkeys("ab", 2)


async def test_what_completes_after_the_cancellation_releases_nothing(scene: Scene) -> None:
    await scene.start_flow(chain_of(2, on_failure="continue"))
    worker = scene.worker()
    job = await worker.claim_one()
    await scene.flows.cancel("f", "")
    await worker.finish(job)

    assert await scene.states() == {1: "c", 2: "d"}
    assert await scene.queued() == []


async def test_a_cancelled_job_that_waited_for_a_limit_or_its_time_leaves_nothing(scene: Scene) -> None:
    plan = Plan()
    plan.job(limits=(("c", "c:f:", 1),))
    plan.job(when="+1000")
    await scene.start_flow(plan)
    await scene.flows.cancel("f", "")

    assert await scene.states() == {1: "a", 2: "a"}
    assert await scene.keys() == {KEYS.flow("f"), KEYS.flow_nodes("f"), KEYS.flow_states("f"), KEYS.ended_flows}


async def test_a_cancelled_job_whose_worker_has_died_is_taken_out(scene: Scene) -> None:
    await scene.start_flow(chain_of(1))
    zombie = scene.worker("zombie")
    job = await zombie.claim_one()
    scene.clock.advance(LEASE_MS)
    await scene.flows.cancel("f", "")

    assert (await scene.states(), await scene.queued()) == ({1: "a"}, [])
    assert not await zombie.finish(job)


@pytest.mark.parametrize("happens", ["retry", "its worker dies"])
async def test_a_job_that_ran_when_its_flow_was_cancelled_is_not_run_again(scene: Scene, happens: str) -> None:
    """Whether or not the workers allow aborts."""
    await scene.start_flow(chain_of(1))
    worker = scene.worker()
    job = await worker.claim_one()
    await scene.flows.cancel("f", "")
    if happens == "retry":
        await worker.finish(job, "retry")
    else:
        scene.clock.advance(LEASE_MS)

    assert [job.flag for job in (await scene.worker("w2").claim()).jobs if job.flag == ""] == []


async def test_a_cancellation_of_a_thousand_jobs_is_finished_by_claims(scene: Scene) -> None:
    await scene.start_flow(chord_of(1000))
    await scene.flows.cancel("f", "")
    assert len(await scene.queued()) > 0
    await do_chores(scene.worker(queue="other"), scene)

    assert await scene.queued() == []
    assert await scene.flow_field("state") == "ended"
    assert {state for state in (await scene.states()).values()} == {"a", "d"}  # the start had not released them all
    assert await scene.without_ttl() == set()


async def test_only_a_flow_that_runs_can_be_cancelled(scene: Scene) -> None:
    plan = chain_of(1)
    assert await scene.flows.cancel("f", "") == "missing"
    await scene.store_flow(plan)
    assert await scene.flows.cancel("f", "") == "missing"
    await scene.start_stored(plan)
    await run_flow(scene)
    assert await scene.flows.cancel("f", "") == "ended"


async def test_a_cancellation_sent_twice_keeps_its_first_reason(scene: Scene) -> None:
    await scene.start_flow(chain_of(2))
    await scene.worker().claim_one()
    await scene.flows.cancel("f", "first")

    assert await scene.flows.cancel("f", "second") == "cancelled"
    assert await scene.flow_field("cancelled") == "first"


# -- results ------------------------------------------------------------------------------------------------------


async def test_results_have_no_ttl_while_the_flow_runs_and_get_the_flows_at_its_end(scene: Scene) -> None:
    await scene.start_flow(chain_of(2), keep_ms=5000)
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), ttl_ms=1000, result=b"1")
    assert await scene.redis.pttl(KEYS.result("f~1")) == -1
    await worker.finish(await worker.claim_one(), ttl_ms=1000, result=b"2")

    assert await scene.without_ttl() == set()
    assert all([3000 < await scene.redis.pttl(key) <= 5000 for key in await scene.keys()])
    assert await scene.redis.mget(KEYS.result("f~1"), KEYS.result("f~2")) == [b"1", b"2"]


async def test_a_result_that_is_kept_for_ever_stays(scene: Scene) -> None:
    await scene.start_flow(chain_of(2))
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), ttl_ms=0, result=b"1")
    await worker.finish(await worker.claim_one())

    assert await scene.without_ttl() == {KEYS.result("f~1")}


async def test_results_that_are_not_to_be_kept_are_there_until_the_end_and_the_flows_own_after_it(scene: Scene) -> None:
    plan = Plan()
    plan.job(plan.job(), output=True)
    await scene.start_flow(plan)
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), ttl_ms=-1, result=b"1")
    assert await scene.redis.get(KEYS.result("f~1")) == b"1"
    await worker.finish(await worker.claim_one(), ttl_ms=-1, result=b"2")

    assert await scene.redis.mget(KEYS.result("f~1"), KEYS.result("f~2")) == [None, b"2"]
    assert await scene.without_ttl() == set()


async def test_results_that_are_not_to_be_kept_stay_if_they_are_the_flows_own_as_a_list(scene: Scene) -> None:
    plan = Plan()
    plan.join(*plan.jobs(2, output=True))
    await scene.start_flow(plan)
    await run_flow(scene, ttl_ms=-1)

    assert await scene.redis.exists(KEYS.result("f~1"), KEYS.result("f~2")) == 2


async def test_the_history_of_attempts_is_kept_as_long_as_the_result(scene: Scene) -> None:
    await scene.start_flow(chain_of(2))
    for number in (1, 2):
        await scene.redis.rpush(KEYS.errors(f"f~{number}"), "an error")
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), ttl_ms=-1)
    assert await scene.redis.exists(KEYS.errors("f~1")) == 1
    await worker.finish(await worker.claim_one())

    assert await scene.redis.exists(KEYS.errors("f~1")) == 0
    assert 0 < await scene.redis.pttl(KEYS.errors("f~2")) <= 60_000


async def test_the_results_of_a_thousand_jobs_get_their_ttl_by_claims(scene: Scene) -> None:
    plan = Plan()
    plan.join(*plan.jobs(1000))
    await scene.start_flow(plan)
    await run_flow(scene)

    assert len(await scene.redis.keys(KEYS.result("*"))) == 1000
    assert await scene.without_ttl() == set()


async def test_the_record_of_a_flow_does_not_expire_before_all_results_have_a_ttl(scene: Scene) -> None:
    """If no worker claims in that time, nobody knows of those results any more."""
    plan = Plan()
    plan.jobs(1000)
    await scene.start_flow(plan, output=1)
    worker = scene.worker()
    await do_chores(worker, scene)
    await worker.finish_all((await worker.claim(1000)).jobs)

    while await scene.redis.pttl(KEYS.flow("f")) == -1:
        await worker.claim(0)
    assert await scene.without_ttl() <= {KEYS.chores}


# -- forget -------------------------------------------------------------------------------------------------------


async def test_a_flow_that_is_forgotten_leaves_no_key(scene: Scene) -> None:
    plan = chord_of(3)
    plan.job(plan.last, job_id="chosen", queue="other")
    await scene.start_flow(plan)
    worker = scene.worker()
    first, *others = (await worker.claim()).jobs
    await worker.finish(first, "dead", ttl_ms=0)
    await worker.finish_all(others)
    jobs = [(plan.job_id(number), node.queue) for number, node in enumerate(plan.nodes) if node.kind == "job"]

    assert await scene.flows.forget("f", jobs)
    assert await scene.keys() == set()


async def test_a_flow_of_thousands_is_forgotten_in_pieces(scene: Scene) -> None:
    plan = chord_of(1200)
    await scene.start_flow(plan)
    await run_flow(scene)

    assert await scene.flows.forget("f", [(plan.job_id(number), QUEUE) for number in range(1, plan.last + 1)])
    assert await scene.keys() == set()


async def test_a_flow_that_is_forgotten_while_chores_are_left_leaves_no_key(scene: Scene) -> None:
    await scene.start_flow(chain_of(1000))
    worker = scene.worker()
    await scene.flows.cancel("f", "")
    while await scene.flow_field("state") == "running":
        await worker.claim(0)
    assert await scene.chores() > 0
    assert await scene.flows.forget("f", [(f"f~{number}", QUEUE) for number in range(1, 1001)])
    await do_chores(worker, scene)

    assert await scene.keys() == set()


async def test_a_flow_that_runs_is_not_forgotten(scene: Scene) -> None:
    await scene.start_flow(chain_of(2))
    before = await scene.keys()

    assert not await scene.flows.forget("f", [("f~1", QUEUE)])
    assert await scene.keys() == before


async def test_a_flow_that_never_started_is_forgotten(scene: Scene) -> None:
    await scene.store_flow(chord_of(3))

    assert await scene.flows.forget("f", [])
    assert await scene.keys() == set()
    assert await scene.flows.values("f", [1]) is None


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
