"""Every script sent twice: a client may resend a command whose reply was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from arqestra.embedded import EmbeddedRedis
from arqestra.store.records import NewJob
from arqestra.store.store import Store
from tests.support.proxies.lossy import LossyProxy
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, Kind, StoreHarness
from tests.support.updates import RawUpdate


@pytest.fixture
async def proxy(redis_server: EmbeddedRedis, redis_url: str) -> AsyncIterator[LossyProxy]:
    async with LossyProxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def lossy(proxy: LossyProxy, harness: StoreHarness) -> AsyncIterator[Store]:
    """A store behind the proxy; its scripts are known to the server and it is connected."""
    async with Redis.from_url(proxy.url) as client:
        store = Store(client, clock=harness.clock)
        await store.peek("warm-up", QUEUE)
        yield store
        await store.close()


@pytest.mark.parametrize("unique", [False, True])
async def test_an_enqueue_sent_twice_is_one_job(
    harness: StoreHarness, proxy: LossyProxy, lossy: Store, unique: bool
) -> None:
    await harness.enqueue("warm-up")  # so that the reply that is lost is that of a call which was carried out
    await harness.store.delete("warm-up", QUEUE)
    proxy.lose_next_reply()

    assert await lossy.enqueue([NewJob(QUEUE, "a", b"nonce 1", nonce="nonce 1" if unique else "")]) == [True]

    assert proxy.lost == 1
    assert await harness.queued() == ["a"]
    assert await harness.enqueue("a", unique=True, payload=b"nonce 2") == [False]


async def test_an_enqueue_sent_again_does_not_start_a_job_anew_that_has_ended_meanwhile(harness: StoreHarness) -> None:
    job = NewJob(QUEUE, "generated", b"payload")
    await harness.store.enqueue_batch([job])
    worker = harness.worker()
    await worker.finish(await worker.claim_one())

    assert await harness.store.enqueue_batch([job], resent=True) == [True]
    assert await worker.claim_ids() == []


async def test_an_enqueue_sent_again_does_not_move_a_job_that_is_leased_meanwhile(harness: StoreHarness) -> None:
    job = NewJob(QUEUE, "generated", b"payload")
    await harness.store.enqueue_batch([job])
    await harness.worker("w1").claim_one()

    assert await harness.store.enqueue_batch([job], resent=True) == [True]
    assert await harness.worker("w2").claim_ids() == []


async def test_another_producers_job_of_the_same_chosen_id_is_refused_to_a_call_sent_again(
    harness: StoreHarness,
) -> None:
    await harness.enqueue("a", unique=True, payload=b"nonce of the other")

    again = NewJob(QUEUE, "a", b"nonce of ours", nonce="nonce of ours")
    assert await harness.store.enqueue_batch([again], resent=True) == [False]


async def test_a_chosen_id_that_has_ended_meanwhile_is_still_accepted_to_the_call_sent_again(
    harness: StoreHarness,
) -> None:
    job = NewJob(QUEUE, "a", b"has the nonce 17", nonce="nonce 17")
    await harness.store.enqueue_batch([job])
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), result=b"a result with the nonce 17")

    assert await harness.store.enqueue_batch([job], resent=True) == [True]
    assert await harness.store.enqueue_batch([job._replace(nonce="nonce 18")], resent=True) == [False]
    assert await worker.claim_ids() == []


async def test_a_claim_sent_twice_is_one_claim(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c", "d")
    worker = harness.worker()
    first = await worker.claim(2)
    harness.clock.advance(100)

    again = await worker.claim_again()

    assert [(job.id, job.attempt, job.token, job.due_ms) for job in again.jobs] == [
        (job.id, job.attempt, job.token, job.due_ms) for job in first.jobs
    ]
    assert await harness.attempts("a") == 1
    assert await harness.worker("w2").claim_ids() == ["c", "d"]


async def test_a_claim_sent_twice_that_was_not_carried_out_the_first_time_claims(harness: StoreHarness) -> None:
    worker = harness.worker()
    await worker.claim(2)  # found nothing
    await harness.enqueue("a")

    assert [(job.id, job.attempt) for job in (await worker.claim_again()).jobs] == [("a", 1)]


async def test_a_claim_sent_twice_still_says_that_a_job_is_to_be_aborted(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    await harness.store.abort("a", QUEUE)
    worker = harness.worker()
    first = await worker.claim(1, aborts=True)
    again = await worker.claim_again()

    assert [(job.id, job.flag, job.attempt) for job in again.jobs] == [("a", "abort", 0)]
    assert [(job.id, job.flag) for job in first.jobs] == [("a", "abort")]


async def test_a_claim_sent_twice_still_says_that_a_job_is_dead(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    for _ in range(3):
        await harness.worker("dying").claim_one()
        harness.clock.advance(LEASE_MS)
    worker = harness.worker()
    await worker.claim(1)

    assert [(job.id, job.flag, job.crashes) for job in (await worker.claim_again()).jobs] == [("a", "dead", 3)]


async def test_a_claim_sent_twice_finds_its_jobs_among_very_many_leases(harness: StoreHarness) -> None:
    others = [f"other{number:04}" for number in range(6_000)]
    await harness.enqueue(*others)
    busy = harness.worker("busy")
    for _ in range(6):
        assert len((await busy.claim(1000)).jobs) == 1000
    harness.clock.advance(1000)
    await harness.enqueue("a")
    worker = harness.worker()
    await worker.claim(1)

    assert [job.id for job in (await worker.claim_again()).jobs] == ["a"]


async def test_a_claim_and_the_outcomes_before_it_may_be_sent_twice_together(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b")
    worker = harness.worker()
    first = await worker.claim_one()
    ending = RawUpdate(first.id, QUEUE, first.token, "retry").update()
    worker.number += 1
    assert worker.request is not None
    request = worker.request._replace(number=worker.number)
    _, claimed = await harness.store.turn([ending], request)
    _, again = await harness.store.turn([ending], request, resent=True)

    assert claimed is not None
    assert again is not None
    assert (
        [(job.id, job.attempt) for job in again.jobs] == [(job.id, job.attempt) for job in claimed.jobs] == [("a", 2)]
    )


@pytest.mark.parametrize("kind", ["end", "dead", "retry", "release"])
async def test_an_outcome_sent_twice_is_one_outcome(harness: StoreHarness, kind: Kind) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    await worker.finish(job, kind, 500 if kind in ("retry", "release") else 0, result=b"8" if kind == "end" else b"")
    before = {key: await harness.redis.dump(key) for key in await harness.keys()}
    harness.clock.advance(5)

    await worker.finish(job, kind, 500 if kind in ("retry", "release") else 0, result=b"9" if kind == "end" else b"")

    assert {key: await harness.redis.dump(key) for key in await harness.keys()} == before


async def test_a_renewal_sent_twice_is_one_renewal(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    harness.clock.advance(1000)
    await worker.renew(job)
    lease = await harness.lease("a")

    assert (await worker.renew(job)).lost == []
    assert await harness.lease("a") == lease


async def test_an_abort_sent_twice_is_one_request(harness: StoreHarness, proxy: LossyProxy, lossy: Store) -> None:
    await harness.enqueue("a")
    proxy.lose_next_reply(2)

    assert await lossy.abort("a", QUEUE) == "queued"
    assert proxy.lost == 2
    assert len((await harness.worker().claim(aborts=True)).jobs) == 1


async def test_a_delete_sent_twice_says_that_it_deleted(harness: StoreHarness, proxy: LossyProxy, lossy: Store) -> None:
    await harness.enqueue("warm-up", "a")
    await harness.store.delete("warm-up", QUEUE)
    proxy.lose_next_reply()

    assert await lossy.delete("a", QUEUE) == "deleted"
    assert proxy.lost == 1
    assert await harness.keys() == set()


async def test_a_requeue_sent_twice_is_one_run(harness: StoreHarness, proxy: LossyProxy, lossy: Store) -> None:
    await harness.store.requeue("warm-up", QUEUE, b"none", b"none")
    await harness.redis.set(KEYS.result("a"), b"failed")
    proxy.lose_next_reply()

    assert await lossy.requeue("a", QUEUE, b"failed", b"payload") == "queued"
    assert proxy.lost == 1
    assert await harness.queued() == ["a"]
