"""`claim`: which jobs become leases, and which are left, repaired or removed."""

from __future__ import annotations

import pytest

from tests.support.store_harness import KEYS, LEASE_MS, MARGIN_MS, QUEUE, Lease, StoreHarness, worker_subscriber


async def test_a_due_job_becomes_a_lease(harness: StoreHarness) -> None:
    await harness.enqueue("a", payload=b"the payload")
    due_ms = harness.clock.now_ms
    harness.clock.advance(700)

    job = await harness.worker("w1").claim_one()

    assert (job.id, job.payload, job.attempt, job.due_ms, job.crashes, job.flag) == (
        "a",
        b"the payload",
        1,
        due_ms,
        0,
        "",
    )
    assert job.claimed_ms == harness.clock.now_ms
    assert job.token == "w1.1"
    lease_end = harness.clock.now_ms + LEASE_MS
    assert await harness.lease("a") == Lease("w1.1", lease_end, due_ms, 0)
    assert await harness.score("a") == lease_end
    assert await harness.attempts("a") == 1


async def test_a_lease_record_outlives_its_lease_by_the_margin(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.worker().claim_one()

    ttl_ms = await harness.redis.pttl(KEYS.lease("a"))
    assert LEASE_MS + MARGIN_MS - 60_000 < ttl_ms <= LEASE_MS + MARGIN_MS


async def test_a_job_is_not_claimed_before_it_is_due(harness: StoreHarness) -> None:
    await harness.enqueue("a", when="+1000")
    harness.clock.advance(999)
    assert await harness.worker().claim_ids() == []
    harness.clock.advance(1)
    assert await harness.worker().claim_ids() == ["a"]


async def test_no_more_jobs_than_slots_are_claimed(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c")

    assert await harness.worker("w1").claim_ids(2) == ["a", "b"]
    assert await harness.worker("w2").claim_ids(0) == []
    assert await harness.worker("w2").claim_ids(2) == ["c"]


async def test_a_leased_job_is_nobody_elses(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.worker("w1").claim_one()
    harness.clock.advance(LEASE_MS - 1)

    assert await harness.worker("w2").claim_ids() == []
    assert await harness.worker("w1").claim_ids() == []


async def test_given_ids_are_claimed_alone_and_only_if_due(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b")
    await harness.enqueue("later", when="+1000")

    claimed = await harness.worker().claim(only=("b", "later", "unknown"))

    assert [job.id for job in claimed.jobs] == ["b"]


async def test_the_reply_tells_the_size_of_the_queue_and_the_next_due_time(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.enqueue("b", when="+70")
    await harness.enqueue("c", when="+50")

    claimed = await harness.worker().claim()

    assert (claimed.queued, claimed.next_due_in_ms) == (3, 50)


async def test_a_claim_that_filled_all_slots_tells_no_due_time(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.enqueue("b", when="+50")

    assert (await harness.worker().claim(1)).next_due_in_ms == -1


async def test_a_lease_that_runs_out_is_the_next_due_time(harness: StoreHarness) -> None:
    """So that an idle worker's timer takes over a killed worker's jobs without polling."""
    await harness.enqueue("a")
    await harness.worker("w1").claim_one()
    harness.clock.advance(5_000)

    assert (await harness.worker("w2").claim(wait=True)).next_due_in_ms == LEASE_MS - 5_000


# -- leases that ran out ------------------------------------------------------------------------------------------


async def test_a_lease_that_ran_out_is_taken_over_and_counts_a_crash(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    due_ms = harness.clock.now_ms
    await harness.worker("w1").claim_one()
    harness.clock.advance(LEASE_MS)

    job = await harness.worker("w2").claim_one()

    assert (job.attempt, job.crashes, job.due_ms, job.flag) == (2, 1, due_ms, "")
    assert await harness.lease("a") == Lease("w2.1", harness.clock.now_ms + LEASE_MS, due_ms, 1)


async def test_the_third_crash_is_the_last(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    seen = []
    for number in range(4):
        job = await harness.worker(f"w{number}").claim_one()
        seen.append((job.attempt, job.crashes, job.flag))
        harness.clock.advance(LEASE_MS)

    assert seen == [(1, 0, ""), (2, 1, ""), (3, 2, ""), (3, 3, "dead")]


async def test_a_worker_holds_one_suspect_at_a_time(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b")
    for _ in range(2):
        await harness.worker("dying").claim(10)
        harness.clock.advance(LEASE_MS)
    # Each has two crashes now. Together in one worker, the guilty one would take the other to the dead set.
    first = await harness.worker("w1").claim(10)
    assert [(job.id, job.crashes) for job in first.jobs] == [("a", 2)]
    assert await harness.score("b") == harness.clock.now_ms + 1000
    harness.clock.advance(1000)

    assert (await harness.worker("w1").claim(10, holds_suspect=True)).jobs == []
    harness.clock.advance(1000)
    assert [job.id for job in (await harness.worker("w2").claim(10)).jobs] == ["b"]


async def test_a_suspect_does_not_keep_its_worker_from_innocent_jobs(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    for _ in range(2):
        await harness.worker("dying").claim(10)
        harness.clock.advance(LEASE_MS)
    await harness.enqueue("b", "c")

    assert await harness.worker("w1").claim_ids(10) == ["a", "b", "c"]


async def test_a_retry_clears_the_crashes(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.worker("w1").claim_one()
    harness.clock.advance(LEASE_MS)
    worker = harness.worker("w2")
    await worker.finish(await worker.claim_one(), "retry")

    assert (await worker.claim_one()).crashes == 0


# -- what stock arq leaves in the queue ---------------------------------------------------------------------------


async def test_a_stock_workers_jobs_are_neither_taken_nor_moved(harness: StoreHarness) -> None:
    await harness.stock_enqueue("stock")
    await harness.stock_claim("stock")
    score = await harness.score("stock")
    harness.clock.advance(10)
    await harness.enqueue("ours")

    assert await harness.worker().claim_ids() == ["ours"]
    assert await harness.score("stock") == score
    assert await harness.redis.get(KEYS.lease("stock")) == b"1"


async def test_a_stock_producers_job_runs_here(harness: StoreHarness) -> None:
    await harness.stock_enqueue("a")

    assert (await harness.worker().claim_one()).payload == b"payload"


async def test_a_stock_producers_payload_does_not_expire_any_more_while_the_job_runs(harness: StoreHarness) -> None:
    await harness.stock_enqueue("a")
    worker = harness.worker()
    await worker.renew(await worker.claim_one())

    assert await harness.redis.pttl(KEYS.job("a")) == -1


async def test_a_stock_producers_payload_does_not_expire_any_more_while_a_retry_waits(harness: StoreHarness) -> None:
    await harness.stock_enqueue("a")
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "retry", 100)

    assert await harness.redis.pttl(KEYS.job("a")) == -1


async def test_a_stock_abort_does_not_make_a_leased_job_free_and_its_score_is_repaired(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.worker("w1").claim_one()
    lease_end = await harness.score("a")
    await harness.stock_abort("a")
    assert await harness.score("a") == 1

    assert await harness.worker("w2").claim_ids() == []
    assert await harness.score("a") == lease_end


async def test_an_expired_payload_is_handed_out_as_expired(harness: StoreHarness) -> None:
    await harness.stock_enqueue("a")
    await harness.redis.delete(KEYS.job("a"))  # what its TTL does

    job = await harness.worker().claim_one()

    assert job.payload is None


async def test_a_ghost_is_removed(harness: StoreHarness) -> None:
    """Its result exists and its payload is gone: only its queue entry stayed."""
    await harness.stock_enqueue("ghost")
    await harness.stock_finish("ghost")
    await harness.redis.zadd(QUEUE, {"ghost": harness.clock.now_ms})
    await harness.enqueue("b")

    assert await harness.worker().claim_ids() == ["b"]
    assert await harness.queued() == ["b"]
    assert await harness.keys() == {QUEUE, "arq:result:ghost", "arq:job:b", "arq:in-progress:b", "arq:retry:b"}


# -- aborts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["", "+100000"])
async def test_a_queued_job_that_is_to_be_aborted_is_handed_out_beyond_the_slots(
    harness: StoreHarness, when: str
) -> None:
    await harness.enqueue("a", when=when)
    await harness.store.abort("a", QUEUE)

    claimed = await harness.worker().claim(0, aborts=True)

    assert [(job.id, job.flag, job.attempt) for job in claimed.jobs] == [("a", "abort", 0)]


async def test_an_abort_is_not_handed_out_twice(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.store.abort("a", QUEUE)
    await harness.worker("w1").claim(0, aborts=True)

    assert (await harness.worker("w2").claim(10, aborts=True)).jobs == []


async def test_a_worker_that_allows_no_aborts_runs_the_job(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.store.abort("a", QUEUE)

    assert [job.flag for job in (await harness.worker().claim(10)).jobs] == [""]


async def test_aborts_of_another_queue_are_left_to_its_workers(harness: StoreHarness) -> None:
    await harness.enqueue("a", queue="other")
    await harness.store.abort("a", "other")

    assert (await harness.worker().claim(10, aborts=True)).jobs == []
    assert [job.flag for job in (await harness.worker(queue="other").claim(10, aborts=True)).jobs] == ["abort"]


async def test_many_aborts_of_a_queue_without_workers_do_not_hide_those_of_another(harness: StoreHarness) -> None:
    idle = [f"idle{number}" for number in range(150)]
    await harness.enqueue(*idle, queue="without workers")
    for job_id in idle:
        await harness.store.abort(job_id, "without workers")
    await harness.enqueue("a", when="+100000")
    harness.clock.advance(1)
    await harness.store.abort("a", QUEUE)

    claimed = [job for _ in range(3) for job in (await harness.worker().claim(10, aborts=True)).jobs]
    assert [(job.id, job.flag) for job in claimed] == [("a", "abort")]


async def test_an_abort_of_a_job_whose_worker_died_is_recorded_and_not_run_again(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.worker("dying").claim_one()
    await harness.store.abort("a", QUEUE)
    harness.clock.advance(LEASE_MS)

    assert (await harness.worker("w2").claim_one(aborts=True)).flag == "abort"


async def test_the_lease_of_an_aborted_job_that_was_not_due_can_be_renewed_and_given_back(
    harness: StoreHarness,
) -> None:
    await harness.enqueue("a", when="+100000")
    due_ms = harness.clock.now_ms + 100_000
    await harness.store.abort("a", QUEUE)
    worker = harness.worker()
    job = await worker.claim_one(aborts=True)

    assert (await worker.renew(job)).lost == []
    assert (await harness.lease("a")) == Lease("w1.1", harness.clock.now_ms + LEASE_MS, due_ms, 0)
    assert await worker.finish(job, "release")
    assert await harness.score("a") == due_ms


async def test_a_lease_taken_for_an_abort_is_taken_over_when_it_runs_out(harness: StoreHarness) -> None:
    await harness.enqueue("a", when="+100000")
    await harness.store.abort("a", QUEUE)
    await harness.worker("dying").claim_one(aborts=True)
    harness.clock.advance(LEASE_MS)

    assert (await harness.worker("w2").claim_one(aborts=True)).flag == "abort"


async def test_a_stock_clients_abort_of_a_running_job_is_passed_on_to_its_worker(harness: StoreHarness) -> None:
    """The stock client tells nobody; whoever claims next does."""
    await harness.enqueue("a")
    await harness.worker("w1").claim_one()
    await harness.stock_abort("a")
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        assert (await harness.worker("w2").claim(aborts=True)).jobs == []
        assert await subscriber.heard() == {KEYS.worker_channel("w1"): ["abort a"]}


async def test_a_job_whose_due_time_a_stock_abort_has_overwritten_is_due_now(harness: StoreHarness) -> None:
    """Its wait would otherwise count since 1970."""
    await harness.enqueue("a", when="+1000")
    await harness.stock_abort("a")

    assert (await harness.worker().claim_one(aborts=True)).due_ms == harness.clock.now_ms


async def test_an_abort_request_that_nobody_took_is_forgotten_after_a_day(harness: StoreHarness) -> None:
    await harness.redis.zadd(KEYS.aborts, {"long gone": harness.clock.now_ms})
    harness.clock.advance(86_400_001)

    await harness.worker().claim(aborts=True)

    assert await harness.keys() == set()


# -- fair share ---------------------------------------------------------------------------------------------------


async def test_two_idle_workers_share_a_burst(harness: StoreHarness) -> None:
    first, second = harness.worker("w1"), harness.worker("w2")
    subscribed = harness.redis.pubsub()
    await subscribed.subscribe(KEYS.worker_channel("w1"), KEYS.worker_channel("w2"))
    try:
        await first.claim(wait=True)
        await second.claim(wait=True)
        await harness.enqueue(*(f"job{number:02}" for number in range(20)))

        claimed = await first.claim(100, wait=True)
        rest = await second.claim(100, wait=True)
    finally:
        await subscribed.aclose()

    assert (len(claimed.jobs), claimed.left_jobs_for_others) == (10, True)
    assert (len(rest.jobs), rest.left_jobs_for_others) == (10, False)


@pytest.mark.parametrize(("later_ms", "taken", "shared"), [(0, 10, False), (200, 10, False), (201, 5, True)])
async def test_a_worker_that_had_its_share_of_these_jobs_does_not_count_as_one_that_waits_for_a_share(
    harness: StoreHarness, later_ms: int, taken: int, shared: bool
) -> None:
    async with worker_subscriber(harness.redis, "w1", "w2"):
        for name in ("w1", "w2"):
            await harness.worker(name).claim(wait=True)
        await harness.enqueue(*(f"job{number:02}" for number in range(20)))
        await harness.worker("w1").claim(100, wait=True)
        assert await harness.waiting() == ["w1"]

        harness.clock.advance(later_ms)
        claimed = await harness.worker("w2").claim(100, wait=True)

    assert (len(claimed.jobs), claimed.left_jobs_for_others) == (taken, shared)


async def test_a_worker_that_had_its_share_counts_when_new_jobs_come(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w1", "w2"):
        for name in ("w1", "w2"):
            await harness.worker(name).claim(wait=True)
        await harness.enqueue("a", "b")
        await harness.worker("w1").claim(100, wait=True)
        await harness.worker("w2").claim(100, wait=True)

        harness.clock.advance(5)
        await harness.enqueue("c", "d")
        claimed = await harness.worker("w2").claim(100, wait=True)

    assert (len(claimed.jobs), claimed.left_jobs_for_others) == (1, True)


async def test_a_worker_that_had_its_share_is_woken_for_what_the_others_have_no_room_for(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        for name in ("w1", "w2"):
            await harness.worker(name).claim(wait=True)
        await harness.enqueue(*(f"job{number:02}" for number in range(20)))
        await harness.worker("w1").claim(100, wait=True)
        await subscriber.heard()

        rest = await harness.worker("w2").claim(4, wait=True)

        assert len(rest.jobs) == 4
        assert await subscriber.heard() == {KEYS.worker_channel("w1"): ["wake"]}


async def test_of_small_jobs_a_worker_takes_what_it_gets_done_in_a_moment_but_not_more_than_half(
    harness: StoreHarness,
) -> None:
    workers = [harness.worker(f"w{number}") for number in range(8)]
    async with worker_subscriber(harness.redis, *(f"w{number}" for number in range(8))):
        for worker in workers:
            await worker.claim(wait=True)
        await harness.enqueue(*(f"job{number:02}" for number in range(20)))

        taken = [len((await worker.claim(100, wait=True, quick=7)).jobs) for worker in workers]

    assert taken == [7, 7, 3, 2, 1, 0, 0, 0]


async def test_a_lone_worker_takes_all(harness: StoreHarness) -> None:
    await harness.worker().claim(wait=True)
    await harness.enqueue(*(f"job{number:02}" for number in range(20)))

    claimed = await harness.worker().claim(100, wait=True)
    assert (len(claimed.jobs), claimed.left_jobs_for_others) == (20, False)


# -- waiting ------------------------------------------------------------------------------------------------------


async def test_a_worker_with_free_slots_registers_as_waiting(harness: StoreHarness) -> None:
    await harness.worker().claim(1, wait=True)

    assert await harness.waiting() == ["w1"]
    assert 0 < await harness.redis.pttl(KEYS.waiting(QUEUE)) <= 180_000


async def test_a_worker_without_free_slots_does_not_wait_any_more(harness: StoreHarness) -> None:
    worker = harness.worker()
    await worker.claim(1, wait=True)
    await harness.enqueue("a")
    await worker.claim(1, wait=True)

    assert await harness.waiting() == []


async def test_a_worker_in_burst_mode_never_waits_and_learns_the_next_due_time(harness: StoreHarness) -> None:
    await harness.enqueue("a", when="+40")

    assert (await harness.worker().claim(wait=False)).next_due_in_ms == 40
    assert await harness.waiting() == []


async def test_the_longest_waiting_worker_looks_when_the_next_is_due_and_the_others_a_second_later(
    harness: StoreHarness,
) -> None:
    await harness.enqueue("a", when="+40")
    subscribed = harness.redis.pubsub()
    await subscribed.subscribe(KEYS.worker_channel("w1"), KEYS.worker_channel("w2"))
    try:
        first = await harness.worker("w1").claim(wait=True)
        harness.clock.advance(1)
        second = await harness.worker("w2").claim(wait=True)
    finally:
        await subscribed.aclose()

    assert (first.next_due_in_ms, second.next_due_in_ms) == (40, 1039)


async def test_a_dead_lookout_is_replaced_by_the_next_worker_that_claims(harness: StoreHarness) -> None:
    await harness.enqueue("a", when="+40")
    await harness.worker("dead").claim(wait=True)  # it has no subscription
    harness.clock.advance(1)

    assert (await harness.worker("w2").claim(wait=True)).next_due_in_ms == 39
    assert await harness.waiting() == ["w2"]
