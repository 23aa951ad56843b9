"""Flows: cancelled, ended with results that are kept, forgotten."""

from __future__ import annotations

import pytest

from arqestra.store.records import Ending
from tests.store.flows import chain_of, chord_of, do_chores, run_flow
from tests.support.replies import reply_of
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, Plan, Scene, worker_ear

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
        await reply_of(scene.redis.rpush(KEYS.errors(f"f~{number}"), "an error"))
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
