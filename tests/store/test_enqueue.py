"""`enqueue`: what is stored, what is refused, in which order jobs start, and what a call that is sent again does."""

from __future__ import annotations

import pytest

from arqestra.protocol.clock import new_job_id
from arqestra.store.records import NewJob
from arqestra.store.store import Store
from tests.support.store_harness import KEYS, QUEUE, StoreHarness, worker_subscriber


async def test_a_job_is_stored_as_arq_stores_it(harness: StoreHarness) -> None:
    assert await harness.enqueue("a", payload=b"the payload") == [True]

    assert await harness.keys() == {QUEUE, "arq:job:a"}
    assert await harness.redis.get("arq:job:a") == b"the payload"
    assert await harness.score("a") == harness.clock.now_ms


async def test_a_payload_does_not_expire_while_the_job_waits(harness: StoreHarness) -> None:
    await harness.enqueue("a", when="+1000")

    assert await harness.redis.pttl(KEYS.job("a")) == -1


@pytest.mark.parametrize(("when", "later_ms"), [("", 0), ("+1500", 1500), ("+0", 0)])
async def test_the_due_time_is_counted_from_the_clock_of_the_script(
    harness: StoreHarness, when: str, later_ms: int
) -> None:
    await harness.enqueue("a", when=when)

    assert await harness.score("a") == harness.clock.now_ms + later_ms


async def test_an_absolute_due_time_is_kept(harness: StoreHarness) -> None:
    due_ms = harness.clock.now_ms + 86_400_000
    await harness.enqueue("a", when=f"={due_ms}")

    assert await harness.score("a") == due_ms
    assert await harness.worker().claim_ids() == []
    harness.clock.now_ms = due_ms
    assert await harness.worker().claim_ids() == ["a"]


async def test_without_a_clock_of_the_test_the_time_is_that_of_redis(harness: StoreHarness) -> None:
    store = Store(harness.redis)
    before = _ms(await harness.redis.time())
    await store.enqueue([NewJob(QUEUE, "a", b"payload")])
    await store.close()
    after = _ms(await harness.redis.time())

    score = await harness.score("a")
    assert score is not None
    assert before <= score <= after


def _ms(time: tuple[int, int]) -> int:
    return time[0] * 1000 + time[1] // 1000


async def test_attempts_of_a_first_try_given_by_the_caller_are_stored(harness: StoreHarness) -> None:
    await harness.enqueue("a", attempts=2)

    assert (await harness.worker().claim_one()).attempt == 3


@pytest.mark.parametrize("state", ["queued", "deferred", "leased", "ended"])
async def test_a_chosen_id_that_exists_is_refused_in_every_state(harness: StoreHarness, state: str) -> None:
    await harness.enqueue("a", unique=True, when="+1000" if state == "deferred" else "", payload=b"first")
    if state in ("leased", "ended"):
        job = await harness.worker().claim_one()
        if state == "ended":
            await harness.worker().finish(job)
    before = await harness.keys()

    assert await harness.enqueue("a", unique=True, payload=b"second") == [False]
    assert await harness.keys() == before
    assert await harness.redis.get(KEYS.job("a")) in (b"first", None)


async def test_a_chosen_id_that_is_enqueued_anew_leaves_the_dead_set(harness: StoreHarness) -> None:
    """Or the dead job could be run again after the new one has succeeded."""
    await harness.enqueue("a", unique=True, payload=b"first")
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "dead", ttl_ms=-1, result=b"failed")

    assert await harness.enqueue("a", unique=True, payload=b"second") == [True]

    assert await harness.keys() == {QUEUE, "arq:job:a"}
    await worker.finish(await worker.claim_one(), ttl_ms=-1)
    assert await harness.store.requeue("a", QUEUE, b"failed", b"first") == "changed"


async def test_a_chosen_id_is_refused_while_only_a_stock_record_holds_it(harness: StoreHarness) -> None:
    """arq keeps a cron job's record for a minute after its end, so that no second worker enqueues the tick again."""
    await harness.redis.set(KEYS.lease("cron:tick"), "1")

    assert await harness.enqueue("cron:tick", unique=True) == [False]


async def test_a_chosen_id_is_free_again_when_its_result_is_gone(harness: StoreHarness) -> None:
    await harness.enqueue("a", unique=True)
    job = await harness.worker().claim_one()
    await harness.worker().finish(job, ttl_ms=-1)

    assert await harness.enqueue("a", unique=True) == [True]
    assert (await harness.worker("w2").claim_one()).attempt == 1


async def test_the_same_chosen_id_twice_in_one_call_is_one_job(harness: StoreHarness) -> None:
    assert await harness.enqueue("a", "a", unique=True) == [True, False]
    assert await harness.queued() == ["a"]


async def test_a_chosen_id_forgets_the_attempts_and_the_abort_of_an_earlier_incarnation(harness: StoreHarness) -> None:
    await harness.redis.set(KEYS.attempts("a"), 4)
    await harness.redis.zadd(KEYS.aborts, {"a": harness.clock.now_ms})

    await harness.enqueue("a", unique=True)

    claimed = await harness.worker().claim(aborts=True)
    assert [(job.attempt, job.flag) for job in claimed.jobs] == [(1, "")]


async def test_jobs_of_one_call_may_go_to_several_queues(harness: StoreHarness) -> None:
    await harness.store.enqueue([NewJob("q1", "a", b"1"), NewJob("q2", "b", b"2"), NewJob("q1", "c", b"3")])

    assert await harness.queued("q1") == ["a", "c"]
    assert await harness.queued("q2") == ["b"]


async def test_generated_ids_of_one_millisecond_stay_first_in_first_out(harness: StoreHarness) -> None:
    ids = [new_job_id() for _ in range(50)]
    await harness.enqueue(*ids)

    worker = harness.worker()
    assert [(await worker.claim_one()).id for _ in ids] == ids


async def test_an_earlier_due_time_goes_before_an_earlier_id(harness: StoreHarness) -> None:
    await harness.enqueue("a", when="+20")
    await harness.enqueue("b", when="+10")
    harness.clock.advance(20)

    assert await harness.worker().claim_ids() == ["b", "a"]


async def test_a_due_job_wakes_a_worker_in_each_of_its_queues(harness: StoreHarness) -> None:
    await harness.worker("w1", queue="q1").claim(wait=True)
    await harness.worker("w2", queue="q2").claim(wait=True)
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        await harness.store.enqueue([NewJob("q1", "a", b""), NewJob("q2", "b", b""), NewJob("q1", "c", b"")])

        assert await subscriber.heard() == {KEYS.worker_channel("w1"): ["wake"], KEYS.worker_channel("w2"): ["wake"]}
