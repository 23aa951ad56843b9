"""Flows: cancelled, ended with results that are kept, forgotten."""

from __future__ import annotations

import pytest

from tests.store.flows import chain_of, chord_of, run_continuations, run_flow
from tests.support.replies import reply_of
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, Plan, StoreHarness, worker_subscriber
from tests.support.updates import RawUpdate

# -- cancel -------------------------------------------------------------------------------------------------------


async def test_a_cancellation_drops_what_waits_takes_out_what_is_queued_and_aborts_what_runs(
    harness: StoreHarness,
) -> None:
    plan = Plan()
    plan.job(plan.join(plan.job(), plan.job()))
    plan.job(plan.last, on_error=True)
    await harness.start_flow(plan)
    running = await harness.worker("w1").claim_one()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        assert await harness.flows.cancel("f", "why not") == "cancelled"
        assert await subscriber.heard() == {KEYS.worker_channel("w1"): ["abort! f~1"]}

    assert await harness.states() == {1: "q", 2: "a", 3: "d", 4: "d", 5: "d"}
    assert await harness.queued() == ["f~1"]
    assert await harness.flow_field("cancelled") == "why not"
    await harness.worker("w1").finish(running, "abort")
    assert (await harness.flow_field("state"), await harness.states()) == (
        "ended",
        {1: "a", 2: "a", 3: "d", 4: "d", 5: "d"},
    )
    assert await harness.redis.exists(KEYS.aborts) == 0


async def test_a_retry_of_a_cancelled_job_changes_nothing_for_the_others_of_its_call(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(1))
    await harness.enqueue("a", "b")
    jobs = (await harness.worker("w1").claim()).jobs
    await harness.flows.cancel("f", "")
    in_order = sorted(jobs, key=lambda job: ["a", "f~1", "b"].index(job.id))
    again = [RawUpdate(job.id, QUEUE, job.token, "retry", 50_000, result=b"2").update() for job in in_order]

    assert (await harness.store.turn(again, None))[0] == [True] * 3

    assert await harness.states() == {1: "a0"}
    assert {job_id: await harness.score(job_id) for job_id in "ab"} == dict.fromkeys("ab", harness.clock() + 50_000)
    assert {job_id: await harness.attempts(job_id) for job_id in "ab"} == dict.fromkeys("ab", 2)


async def test_what_completes_after_the_cancellation_releases_nothing(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2, on_failure="continue"))
    worker = harness.worker()
    job = await worker.claim_one()
    await harness.flows.cancel("f", "")
    await worker.finish(job)

    assert await harness.states() == {1: "c", 2: "d"}
    assert await harness.queued() == []


async def test_a_cancelled_job_that_waited_for_a_limit_or_its_time_leaves_nothing(harness: StoreHarness) -> None:
    plan = Plan()
    plan.job(limits=(("c", "c:f:", 1),))
    plan.job(when="+1000")
    await harness.start_flow(plan)
    await harness.flows.cancel("f", "")

    assert await harness.states() == {1: "a", 2: "a"}
    assert await harness.keys() == {KEYS.flow("f"), KEYS.flow_nodes("f"), KEYS.flow_states("f"), KEYS.ended_flows}


async def test_a_cancelled_job_whose_worker_has_died_is_taken_out(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(1))
    zombie = harness.worker("zombie")
    job = await zombie.claim_one()
    harness.clock.advance(LEASE_MS)
    await harness.flows.cancel("f", "")

    assert (await harness.states(), await harness.queued()) == ({1: "a"}, [])
    assert not await zombie.finish(job)


@pytest.mark.parametrize("happens", ["retry", "its worker dies"])
async def test_a_job_that_ran_when_its_flow_was_cancelled_is_not_run_again(harness: StoreHarness, happens: str) -> None:
    """Whether or not the workers allow aborts."""
    await harness.start_flow(chain_of(1))
    worker = harness.worker()
    job = await worker.claim_one()
    await harness.flows.cancel("f", "")
    if happens == "retry":
        await worker.finish(job, "retry")
    else:
        harness.clock.advance(LEASE_MS)

    assert [job.flag for job in (await harness.worker("w2").claim()).jobs if job.flag == ""] == []


async def test_a_cancellation_of_a_thousand_jobs_is_finished_by_claims(harness: StoreHarness) -> None:
    await harness.start_flow(chord_of(1000))
    await harness.flows.cancel("f", "")
    assert len(await harness.queued()) > 0
    await run_continuations(harness.worker(queue="other"), harness)

    assert await harness.queued() == []
    assert await harness.flow_field("state") == "ended"
    assert {state for state in (await harness.states()).values()} == {"a", "d"}  # the start had not released them all
    assert await harness.without_ttl() == set()


async def test_only_a_flow_that_runs_can_be_cancelled(harness: StoreHarness) -> None:
    plan = chain_of(1)
    assert await harness.flows.cancel("f", "") == "missing"
    await harness.store_flow(plan)
    assert await harness.flows.cancel("f", "") == "missing"
    await harness.start_stored(plan)
    await run_flow(harness)
    assert await harness.flows.cancel("f", "") == "ended"


async def test_a_cancellation_sent_twice_keeps_its_first_reason(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2))
    await harness.worker().claim_one()
    await harness.flows.cancel("f", "first")

    assert await harness.flows.cancel("f", "second") == "cancelled"
    assert await harness.flow_field("cancelled") == "first"


# -- results ------------------------------------------------------------------------------------------------------


async def test_results_have_no_ttl_while_the_flow_runs_and_get_the_flows_at_its_end(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2), keep_ms=5000)
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), ttl_ms=1000, result=b"1")
    assert await harness.redis.pttl(KEYS.result("f~1")) == -1
    await worker.finish(await worker.claim_one(), ttl_ms=1000, result=b"2")

    assert await harness.without_ttl() == set()
    assert all([3000 < await harness.redis.pttl(key) <= 5000 for key in await harness.keys()])
    assert await harness.redis.mget(KEYS.result("f~1"), KEYS.result("f~2")) == [b"1", b"2"]


async def test_a_result_that_is_kept_for_ever_stays(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2))
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), ttl_ms=0, result=b"1")
    await worker.finish(await worker.claim_one())

    assert await harness.without_ttl() == {KEYS.result("f~1")}


async def test_results_that_are_not_to_be_kept_are_there_until_the_end_and_the_flows_own_after_it(
    harness: StoreHarness,
) -> None:
    plan = Plan()
    plan.job(plan.job(), output=True)
    await harness.start_flow(plan)
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), ttl_ms=-1, result=b"1")
    assert await harness.redis.get(KEYS.result("f~1")) == b"1"
    await worker.finish(await worker.claim_one(), ttl_ms=-1, result=b"2")

    assert await harness.redis.mget(KEYS.result("f~1"), KEYS.result("f~2")) == [None, b"2"]
    assert await harness.without_ttl() == set()


async def test_results_that_are_not_to_be_kept_stay_if_they_are_the_flows_own_as_a_list(harness: StoreHarness) -> None:
    plan = Plan()
    plan.join(*plan.jobs(2, output=True))
    await harness.start_flow(plan)
    await run_flow(harness, ttl_ms=-1)

    assert await harness.redis.exists(KEYS.result("f~1"), KEYS.result("f~2")) == 2


async def test_the_history_of_attempts_is_kept_as_long_as_the_result(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2))
    for number in (1, 2):
        await reply_of(harness.redis.rpush(KEYS.errors(f"f~{number}"), "an error"))
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), ttl_ms=-1)
    assert await harness.redis.exists(KEYS.errors("f~1")) == 1
    await worker.finish(await worker.claim_one())

    assert await harness.redis.exists(KEYS.errors("f~1")) == 0
    assert 0 < await harness.redis.pttl(KEYS.errors("f~2")) <= 60_000


async def test_the_results_of_a_thousand_jobs_get_their_ttl_by_claims(harness: StoreHarness) -> None:
    plan = Plan()
    plan.join(*plan.jobs(1000))
    await harness.start_flow(plan)
    await run_flow(harness)

    assert len(await harness.redis.keys(KEYS.result("*"))) == 1000
    assert await harness.without_ttl() == set()


async def test_the_record_of_a_flow_does_not_expire_before_all_results_have_a_ttl(harness: StoreHarness) -> None:
    """If no worker claims in that time, nobody knows of those results any more."""
    plan = Plan()
    plan.jobs(1000)
    await harness.start_flow(plan, output=1)
    worker = harness.worker()
    await run_continuations(worker, harness)
    await worker.finish_all((await worker.claim(1000)).jobs)

    while await harness.redis.pttl(KEYS.flow("f")) == -1:
        await worker.claim(0)
    assert await harness.without_ttl() <= {KEYS.continuations}


# -- forget -------------------------------------------------------------------------------------------------------


async def test_a_flow_that_is_forgotten_leaves_no_key(harness: StoreHarness) -> None:
    plan = chord_of(3)
    plan.job(plan.last, job_id="chosen", queue="other")
    await harness.start_flow(plan)
    worker = harness.worker()
    first, *others = (await worker.claim()).jobs
    await worker.finish(first, "dead", ttl_ms=0)
    await worker.finish_all(others)
    jobs = [(plan.job_id(number), node.queue) for number, node in enumerate(plan.nodes) if node.kind == "job"]

    assert await harness.flows.forget("f", jobs)
    assert await harness.keys() == set()


async def test_a_flow_of_thousands_is_forgotten_in_pieces(harness: StoreHarness) -> None:
    plan = chord_of(1200)
    await harness.start_flow(plan)
    await run_flow(harness)

    assert await harness.flows.forget("f", [(plan.job_id(number), QUEUE) for number in range(1, plan.last + 1)])
    assert await harness.keys() == set()


async def test_a_flow_that_is_forgotten_while_chores_are_left_leaves_no_key(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(1000))
    worker = harness.worker()
    await harness.flows.cancel("f", "")
    while await harness.flow_field("state") == "running":
        await worker.claim(0)
    assert await harness.continuations() > 0
    assert await harness.flows.forget("f", [(f"f~{number}", QUEUE) for number in range(1, 1001)])
    await run_continuations(worker, harness)

    assert await harness.keys() == set()


async def test_a_flow_that_runs_is_not_forgotten(harness: StoreHarness) -> None:
    await harness.start_flow(chain_of(2))
    before = await harness.keys()

    assert not await harness.flows.forget("f", [("f~1", QUEUE)])
    assert await harness.keys() == before


async def test_a_flow_that_never_started_is_forgotten(harness: StoreHarness) -> None:
    await harness.store_flow(chord_of(3))

    assert await harness.flows.forget("f", [])
    assert await harness.keys() == set()
    assert await harness.flows.values("f", [1]) is None
