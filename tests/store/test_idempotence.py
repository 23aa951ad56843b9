"""Every script sent twice: a client may resend a command whose reply was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from arqestra.embedded import EmbeddedRedis
from arqestra.store.records import Ending, NewJob
from arqestra.store.store import Store
from tests.support.proxies.lossy import LossyProxy
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, Kind, Scene


@pytest.fixture
async def proxy(redis_server: EmbeddedRedis, redis_url: str) -> AsyncIterator[LossyProxy]:
    async with LossyProxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def lossy(proxy: LossyProxy, scene: Scene) -> AsyncIterator[Store]:
    """A store behind the proxy; its scripts are known to the server and it is connected."""
    async with Redis.from_url(proxy.url) as client:
        store = Store(client, clock=scene.clock)
        await store.peek("warm-up", QUEUE)
        yield store
        await store.close()


@pytest.mark.parametrize("unique", [False, True])
async def test_an_enqueue_sent_twice_is_one_job(scene: Scene, proxy: LossyProxy, lossy: Store, unique: bool) -> None:
    await scene.enqueue("warm-up")  # so that the reply that is lost is that of a call which was carried out
    await scene.store.delete("warm-up", QUEUE)
    proxy.lose_next_reply()

    assert await lossy.enqueue([NewJob(QUEUE, "a", b"nonce 1", nonce="nonce 1" if unique else "")]) == [True]

    assert proxy.lost == 1
    assert await scene.queued() == ["a"]
    assert await scene.enqueue("a", unique=True, payload=b"nonce 2") == [False]


async def test_an_enqueue_sent_again_does_not_start_a_job_anew_that_has_ended_meanwhile(scene: Scene) -> None:
    job = NewJob(QUEUE, "generated", b"payload")
    await scene.store.enqueue_chunk([job])
    worker = scene.worker()
    await worker.finish(await worker.claim_one())

    assert await scene.store.enqueue_chunk([job], resent=True) == [True]
    assert await worker.claim_ids() == []


async def test_an_enqueue_sent_again_does_not_move_a_job_that_is_leased_meanwhile(scene: Scene) -> None:
    job = NewJob(QUEUE, "generated", b"payload")
    await scene.store.enqueue_chunk([job])
    await scene.worker("w1").claim_one()

    assert await scene.store.enqueue_chunk([job], resent=True) == [True]
    assert await scene.worker("w2").claim_ids() == []


async def test_another_producers_job_of_the_same_chosen_id_is_refused_to_a_call_sent_again(scene: Scene) -> None:
    await scene.enqueue("a", unique=True, payload=b"nonce of the other")

    again = NewJob(QUEUE, "a", b"nonce of ours", nonce="nonce of ours")
    assert await scene.store.enqueue_chunk([again], resent=True) == [False]


async def test_a_chosen_id_that_has_ended_meanwhile_is_still_accepted_to_the_call_sent_again(scene: Scene) -> None:
    job = NewJob(QUEUE, "a", b"has the nonce 17", nonce="nonce 17")
    await scene.store.enqueue_chunk([job])
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), result=b"a result with the nonce 17")

    assert await scene.store.enqueue_chunk([job], resent=True) == [True]
    assert await scene.store.enqueue_chunk([job._replace(nonce="nonce 18")], resent=True) == [False]
    assert await worker.claim_ids() == []


async def test_a_claim_sent_twice_is_one_claim(scene: Scene) -> None:
    await scene.enqueue("a", "b", "c", "d")
    worker = scene.worker()
    first = await worker.claim(2)
    scene.clock.advance(100)

    again = await worker.claim_again()

    assert [(job.id, job.attempt, job.token, job.due_ms) for job in again.jobs] == [
        (job.id, job.attempt, job.token, job.due_ms) for job in first.jobs
    ]
    assert await scene.attempts("a") == 1
    assert await scene.worker("w2").claim_ids() == ["c", "d"]


async def test_a_claim_sent_twice_that_was_not_carried_out_the_first_time_claims(scene: Scene) -> None:
    worker = scene.worker()
    await worker.claim(2)  # found nothing
    await scene.enqueue("a")

    assert [(job.id, job.attempt) for job in (await worker.claim_again()).jobs] == [("a", 1)]


async def test_a_claim_sent_twice_still_says_that_a_job_is_to_be_aborted(scene: Scene) -> None:
    await scene.enqueue("a")
    await scene.store.abort("a", QUEUE)
    worker = scene.worker()
    first = await worker.claim(1, aborts=True)
    again = await worker.claim_again()

    assert [(job.id, job.flag, job.attempt) for job in again.jobs] == [("a", "abort", 0)]
    assert [(job.id, job.flag) for job in first.jobs] == [("a", "abort")]


async def test_a_claim_sent_twice_still_says_that_a_job_is_dead(scene: Scene) -> None:
    await scene.enqueue("a")
    for _ in range(3):
        await scene.worker("dying").claim_one()
        scene.clock.advance(LEASE_MS)
    worker = scene.worker()
    await worker.claim(1)

    assert [(job.id, job.flag, job.crashes) for job in (await worker.claim_again()).jobs] == [("a", "dead", 3)]


async def test_a_claim_sent_twice_finds_its_jobs_among_very_many_leases(scene: Scene) -> None:
    others = [f"other{number:04}" for number in range(6_000)]
    await scene.enqueue(*others)
    busy = scene.worker("busy")
    for _ in range(6):
        assert len((await busy.claim(1000)).jobs) == 1000
    scene.clock.advance(1000)
    await scene.enqueue("a")
    worker = scene.worker()
    await worker.claim(1)

    assert [job.id for job in (await worker.claim_again()).jobs] == ["a"]


async def test_a_claim_and_the_outcomes_before_it_may_be_sent_twice_together(scene: Scene) -> None:
    await scene.enqueue("a", "b")
    worker = scene.worker()
    first = await worker.claim_one()
    ending = Ending(first.id, QUEUE, first.token, "retry")
    worker.number += 1
    assert worker.request is not None
    request = worker.request._replace(number=worker.number)
    _, claimed = await scene.store.turn([ending], request)
    _, again = await scene.store.turn([ending], request, resent=True)

    assert claimed is not None
    assert again is not None
    assert (
        [(job.id, job.attempt) for job in again.jobs] == [(job.id, job.attempt) for job in claimed.jobs] == [("a", 2)]
    )


@pytest.mark.parametrize("kind", ["end", "dead", "retry", "release"])
async def test_an_outcome_sent_twice_is_one_outcome(scene: Scene, kind: Kind) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    await worker.finish(job, kind, 500 if kind in ("retry", "release") else 0, result=b"8" if kind == "end" else b"")
    before = {key: await scene.redis.dump(key) for key in await scene.keys()}
    scene.clock.advance(5)

    await worker.finish(job, kind, 500 if kind in ("retry", "release") else 0, result=b"9" if kind == "end" else b"")

    assert {key: await scene.redis.dump(key) for key in await scene.keys()} == before


async def test_a_renewal_sent_twice_is_one_renewal(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    scene.clock.advance(1000)
    await worker.renew(job)
    lease = await scene.lease("a")

    assert (await worker.renew(job)).lost == []
    assert await scene.lease("a") == lease


async def test_an_abort_sent_twice_is_one_request(scene: Scene, proxy: LossyProxy, lossy: Store) -> None:
    await scene.enqueue("a")
    proxy.lose_next_reply(2)

    assert await lossy.abort("a", QUEUE) == "queued"
    assert proxy.lost == 2
    assert len((await scene.worker().claim(aborts=True)).jobs) == 1


async def test_a_delete_sent_twice_says_that_it_deleted(scene: Scene, proxy: LossyProxy, lossy: Store) -> None:
    await scene.enqueue("warm-up", "a")
    await scene.store.delete("warm-up", QUEUE)
    proxy.lose_next_reply()

    assert await lossy.delete("a", QUEUE) == "deleted"
    assert proxy.lost == 1
    assert await scene.keys() == set()


async def test_a_requeue_sent_twice_is_one_run(scene: Scene, proxy: LossyProxy, lossy: Store) -> None:
    await scene.store.requeue("warm-up", QUEUE, b"none", b"none")
    await scene.redis.set(KEYS.result("a"), b"failed")
    proxy.lose_next_reply()

    assert await lossy.requeue("a", QUEUE, b"failed", b"payload") == "queued"
    assert proxy.lost == 1
    assert await scene.queued() == ["a"]
