"""A worker without jobs is sent the next one with its wake-up: `enqueue` leases it; what was not heeded comes back."""

from __future__ import annotations

import pytest

from arqestra.store.records import LeasedJob, NewJob, Offer, QueueShare
from tests.support.store_harness import (
    KEYS,
    LEASE_MS,
    MARGIN_MS,
    OFFER_MS,
    QUEUE,
    Lease,
    StoreHarness,
    StoreWorker,
    Subscriber,
    extra,
    worker_subscriber,
)

W1, W2 = (KEYS.worker_channel(worker) for worker in ("w1", "w2"))


async def _sent(subscriber: Subscriber, worker: StoreWorker) -> LeasedJob:
    """The job that came to a worker with its wake-up; there must be one, and no other message."""
    [message] = (await subscriber.heard())[KEYS.worker_channel(worker.id)]
    assert message.startswith("job "), f"expected a job, got {message!r}"
    return worker.take_in(message)


async def test_the_job_comes_with_the_wake_up_and_is_leased(harness: StoreHarness) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.offer()
        await harness.enqueue("a", payload=b"what is to be done")
        job = await _sent(subscriber, worker)

    now = harness.clock()
    assert job == LeasedJob(
        queue=QUEUE,
        token="w1.1",
        claimed_ms=now,
        id="a",
        payload=b"what is to be done",
        attempt=1,
        due_ms=now,
        crashes=0,
        flag="",
    )
    assert await harness.lease("a") == Lease("w1.1", now + LEASE_MS, now, 0)
    assert (await harness.score("a"), await harness.attempts("a")) == (now + LEASE_MS, 1)
    assert await harness.waiting() == []


async def test_it_is_finished_as_any_job_and_leaves_nothing(harness: StoreHarness) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.offer()
        await harness.enqueue("a")
        job = await _sent(subscriber, worker)

    assert (await worker.renew(job)).lost == []
    assert await worker.finish(job, ttl_ms=-1)
    assert (await worker.claim(wait=True)).jobs == []
    await worker.leave()
    assert await harness.keys() == set()


async def test_a_payload_of_any_bytes_comes_whole(harness: StoreHarness) -> None:
    data = bytes(range(256)) + b" job 1 2 3 " + "\u20ac".encode()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await harness.worker("w1", queue="a queue: \u20ac").claim(wait=True, offer_ms=OFFER_MS)
        await harness.enqueue("id \u20ac 7", payload=data.decode("latin-1").encode(), queue="a queue: \u20ac")
        job = await _sent(subscriber, harness.worker())

    assert (job.queue, job.id) == ("a queue: \u20ac", "id \u20ac 7")
    assert job.payload == data.decode("latin-1").encode()


async def test_of_several_jobs_the_first_comes_and_the_others_are_claimed(harness: StoreHarness) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.offer()
        await harness.enqueue("a", "b", "c")
        assert (await _sent(subscriber, worker)).id == "a"

    assert await worker.claim_ids() == ["b", "c"]


async def test_each_worker_is_sent_a_job_of_its_own(harness: StoreHarness) -> None:
    first, second = harness.worker("w1"), harness.worker("w2")
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        await first.offer()
        harness.clock.advance(1)
        await second.offer()
        await harness.enqueue("a")
        harness.clock.advance(1)
        await harness.enqueue("b")
        heard = await subscriber.heard()

    assert first.take_in(heard[W1][0]).id == "a"
    assert second.take_in(heard[W2][-1]).id == "b"


async def test_a_chosen_id_comes_as_well(harness: StoreHarness) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.offer()
        assert await harness.enqueue("a", unique=True) == [True]
        assert (await _sent(subscriber, worker)).id == "a"
    assert await harness.enqueue("a", unique=True, payload=b"another") == [False]


@pytest.mark.parametrize(
    "what",
    ["deferred", "with attempts", "with a priority", "under a limit", "large", "behind another", "of a paused queue"],
)
async def test_what_is_special_is_fetched(harness: StoreHarness, what: str) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.offer()
        if what == "deferred":
            await harness.enqueue("a", when="+0")
        elif what == "with attempts":
            await harness.enqueue("a", attempts=1)
        elif what == "with a priority":
            await harness.enqueue("a", extra=extra(priority=3))
        elif what == "under a limit":
            await harness.enqueue("a", extra=extra(("c", "limit", 5)))
        elif what == "large":
            await harness.enqueue("a", payload=b"x" * 70_000)
        elif what == "behind another":
            await harness.stock_enqueue("stock")
            harness.clock.advance(1)
            await harness.enqueue("a")
        else:
            await harness.store.pause(QUEUE, paused=True)
            await harness.enqueue("a")

        assert await subscriber.heard() == {W1: ["wake"]}
    assert await harness.lease("a") is None
    assert await harness.attempts("a") == (1 if what == "with attempts" else 0)


async def test_without_an_offer_the_worker_is_only_woken(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await harness.worker().claim(wait=True)
        await harness.enqueue("a")

        assert await subscriber.heard() == {W1: ["wake"]}


async def test_an_offer_is_over_after_its_time(harness: StoreHarness) -> None:
    await harness.worker().claim(wait=True, offer_ms=OFFER_MS)

    assert 0 < await harness.redis.pttl(KEYS.offer("w1")) <= OFFER_MS


async def test_a_dead_worker_is_sent_nothing(harness: StoreHarness) -> None:
    await harness.worker("w1").offer()  # nobody listens to its channel
    await harness.enqueue("a")

    assert await harness.lease("a") is None
    assert await harness.worker("w2").claim_ids() == ["a"]


async def test_a_claim_that_finds_a_job_makes_no_offer(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.worker().claim(wait=True, offer_ms=OFFER_MS)

    assert await harness.redis.exists(KEYS.offer("w1")) == 0


async def test_a_message_that_was_lost_comes_with_the_next_claim(harness: StoreHarness) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1"):
        await worker.offer()
        await harness.enqueue("a")
    harness.clock.advance(3)

    [job] = (await worker.claim(wait=True, offer_ms=OFFER_MS)).jobs
    assert (job.id, job.token, job.attempt, job.crashes) == ("a", "w1.2", 1, 0)
    assert job.due_ms == harness.clock() - 3
    assert await harness.attempts("a") == 1


async def test_a_claim_without_slots_puts_it_back_for_another_worker(harness: StoreHarness) -> None:
    worker = harness.worker("w1")
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        await worker.offer()
        await harness.enqueue("a")
        harness.clock.advance(1)
        await harness.worker("w2").claim(wait=True)
        await subscriber.heard()
        await worker.claim(0, wait=True)

        assert await subscriber.heard() == {W2: ["wake"]}
    assert await harness.worker("w2").claim_ids() == ["a"]


async def test_what_was_taken_in_does_not_come_back(harness: StoreHarness) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.offer()
        await harness.enqueue("a")
        job = await _sent(subscriber, worker)

        assert (await worker.claim(wait=True)).jobs == []
        await worker.leave()
    assert (await worker.renew(job)).lost == []


async def test_a_worker_that_leaves_without_having_heard_it_gives_it_back(harness: StoreHarness) -> None:
    worker = harness.worker("w1")
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        await worker.offer()
        await harness.enqueue("a")
        harness.clock.advance(1)
        await harness.worker("w2").claim(wait=True)
        await subscriber.heard()
        await worker.leave()

        assert await subscriber.heard() == {W2: ["wake"]}
    [job] = (await harness.worker("w2").claim()).jobs
    assert (job.id, job.attempt, job.crashes) == ("a", 1, 0)
    assert await harness.redis.exists(KEYS.offer("w1")) == 0


async def test_of_several_queues_the_one_is_given_back_of_which_it_was(harness: StoreHarness) -> None:
    worker = harness.worker("w1")
    shares = (QueueShare("q1", 5, 10), QueueShare("q2", 5, 10))
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        await worker.claim(wait=True, offer_ms=OFFER_MS, shares=shares)
        await harness.enqueue("a", queue="q2")
        harness.clock.advance(1)
        await harness.worker("w2", queue="q2").claim(wait=True)
        await subscriber.heard()
        await worker.leave("q1", "q2")

        assert await subscriber.heard() == {W2: ["wake"]}
    assert await harness.worker("w2", queue="q2").claim_ids() == ["a"]


async def test_one_offer_is_one_job_from_whichever_queue(harness: StoreHarness) -> None:
    worker = harness.worker("w1")
    shares = (QueueShare("q1", 5, 10), QueueShare("q2", 5, 10))
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.claim(wait=True, offer_ms=OFFER_MS, shares=shares)
        await harness.enqueue("a", queue="q2")
        await harness.enqueue("b", queue="q1")
        first, second = (await subscriber.heard())[W1]

    assert worker.take_in(first).id == "a"
    assert second == "wake"
    assert await harness.lease("b") is None


async def test_a_lease_that_went_to_another_is_not_touched(harness: StoreHarness) -> None:
    frozen = harness.worker("w1")
    async with worker_subscriber(harness.redis, "w1"):
        await frozen.offer()
        await harness.enqueue("a")
    harness.clock.advance(LEASE_MS)
    [job] = (await harness.worker("w2").claim()).jobs
    assert (job.crashes, job.attempt) == (1, 2)

    assert (await frozen.claim(wait=True)).jobs == []
    assert await harness.lease("a") == Lease(job.token, harness.clock() + LEASE_MS, job.due_ms, 1)


async def test_the_repeated_enqueue_sends_nothing_a_second_time(harness: StoreHarness) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.offer()
        await harness.enqueue("a")
        await _sent(subscriber, worker)
        await worker.claim(wait=True, offer_ms=OFFER_MS)
        job = NewJob(QUEUE, "a", b"payload")
        assert await harness.store.enqueue_batch([job], resent=True) == [True]

        assert await subscriber.heard() == {}


async def test_a_claim_that_is_sent_again_brings_the_job_that_was_not_heeded(harness: StoreHarness) -> None:
    """The reply of the claim that made the offer was lost, and so was the message."""
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1"):
        await worker.offer()
        await harness.enqueue("a")

    [job] = (await worker.claim_again()).jobs
    assert (job.id, job.token, job.attempt, job.crashes) == ("a", "w1.1", 1, 0)
    assert (await worker.claim_again()).jobs == [job]


async def test_an_offer_without_a_claim_is_as_good(harness: StoreHarness) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.claim(wait=True)
        worker.number = 7
        await harness.store.turn(
            [],
            None,
            offer=Offer(
                queue=QUEUE, worker_id="w1", number=7, lease_ms=LEASE_MS, margin_ms=MARGIN_MS, stands_ms=OFFER_MS
            ),
        )
        await harness.enqueue("a")

        assert (await _sent(subscriber, worker)).token == "w1.7"
    assert (await worker.claim(wait=True)).jobs == []


async def test_an_offer_that_is_repeated_does_not_hide_the_job_that_was_sent(harness: StoreHarness) -> None:
    worker = harness.worker()
    offer = Offer(queue=QUEUE, worker_id="w1", number=7, lease_ms=LEASE_MS, margin_ms=MARGIN_MS, stands_ms=OFFER_MS)
    async with worker_subscriber(harness.redis, "w1"):
        await worker.claim(wait=True)
        worker.number = 7
        await harness.store.turn([], None, offer=offer)
        await harness.enqueue("a")
        await harness.store.turn([], None, offer=offer, resent=True)

    assert await worker.claim_ids(wait=True) == ["a"]


async def test_a_claim_that_comes_late_takes_nothing_back_of_a_newer_offer(harness: StoreHarness) -> None:
    """It hung in a dead connection, was sent again on another, and newer ones followed."""
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.claim(wait=True)
        late = worker.request
        assert late is not None
        await worker.offer()
        await harness.enqueue("a")
        job = await _sent(subscriber, worker)
        _, claimed = await harness.store.turn((), late._replace(offer_ms=OFFER_MS))

    assert claimed is not None
    assert claimed.jobs == []
    assert (await worker.renew(job)).lost == []
    assert b" " in await harness.redis.get(KEYS.offer("w1"))
    assert (await worker.claim(wait=True)).jobs == []


async def test_a_leave_that_comes_late_takes_nothing_back_of_a_newer_offer(harness: StoreHarness) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.offer()
        await worker.offer()
        await harness.enqueue("a")
        job = await _sent(subscriber, worker)
        await worker.claim(wait=True)
        await worker.offer()
        await harness.store.leave(QUEUE, "w1", 0, 1)

    assert (await worker.renew(job)).lost == []
    assert await harness.waiting() == ["w1"]


async def test_a_claim_of_given_jobs_leaves_the_offer_alone(harness: StoreHarness) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await worker.offer()
        await worker.claim(wait=True, only=("nothing",))
        await harness.enqueue("a")

        assert (await _sent(subscriber, worker)).token == "w1.1"
