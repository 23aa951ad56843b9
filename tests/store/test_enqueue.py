"""`enqueue`: what is stored, what is refused, in which order jobs start, and what a call that is sent again does."""

from __future__ import annotations

import pytest

from arqestra.protocol.ids import new_job_id
from arqestra.store.records import NewJob
from tests.support.store_harness import KEYS, QUEUE, Scene, worker_ear


async def test_a_job_is_stored_as_arq_stores_it(scene: Scene) -> None:
    assert await scene.enqueue("a", payload=b"the payload") == [True]

    assert await scene.keys() == {QUEUE, "arq:job:a"}
    assert await scene.redis.get("arq:job:a") == b"the payload"
    assert await scene.score("a") == scene.clock.now_ms


async def test_a_payload_does_not_expire_while_the_job_waits(scene: Scene) -> None:
    await scene.enqueue("a", when="+1000")

    assert await scene.redis.pttl(KEYS.job("a")) == -1


@pytest.mark.parametrize(("when", "later_ms"), [("", 0), ("+1500", 1500), ("+0", 0)])
async def test_the_due_time_is_counted_from_the_clock_of_the_script(scene: Scene, when: str, later_ms: int) -> None:
    await scene.enqueue("a", when=when)

    assert await scene.score("a") == scene.clock.now_ms + later_ms


async def test_an_absolute_due_time_is_kept(scene: Scene) -> None:
    due_ms = scene.clock.now_ms + 86_400_000
    await scene.enqueue("a", when=f"={due_ms}")

    assert await scene.score("a") == due_ms
    assert await scene.worker().claim_ids() == []
    scene.clock.now_ms = due_ms
    assert await scene.worker().claim_ids() == ["a"]


async def test_without_a_clock_of_the_test_the_time_is_that_of_redis(scene: Scene) -> None:
    scene.store._runner._clock = None
    before = _ms(await scene.redis.time())
    await scene.enqueue("a")
    after = _ms(await scene.redis.time())

    score = await scene.score("a")
    assert score is not None
    assert before <= score <= after


def _ms(time: tuple[int, int]) -> int:
    return time[0] * 1000 + time[1] // 1000


async def test_attempts_of_a_first_try_given_by_the_caller_are_stored(scene: Scene) -> None:
    await scene.enqueue("a", attempts=2)

    assert (await scene.worker().claim_one()).attempt == 3


@pytest.mark.parametrize("state", ["queued", "deferred", "leased", "ended"])
async def test_a_chosen_id_that_exists_is_refused_in_every_state(scene: Scene, state: str) -> None:
    await scene.enqueue("a", unique=True, when="+1000" if state == "deferred" else "", payload=b"first")
    if state in ("leased", "ended"):
        job = await scene.worker().claim_one()
        if state == "ended":
            await scene.worker().finish(job)
    before = await scene.keys()

    assert await scene.enqueue("a", unique=True, payload=b"second") == [False]
    assert await scene.keys() == before
    assert await scene.redis.get(KEYS.job("a")) in (b"first", None)


async def test_a_chosen_id_that_is_enqueued_anew_leaves_the_dead_set(scene: Scene) -> None:
    """Or the dead job could be run again after the new one has succeeded."""
    await scene.enqueue("a", unique=True, payload=b"first")
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "dead", ttl_ms=-1, result=b"failed")

    assert await scene.enqueue("a", unique=True, payload=b"second") == [True]

    assert await scene.keys() == {QUEUE, "arq:job:a"}
    await worker.finish(await worker.claim_one(), ttl_ms=-1)
    assert await scene.store.requeue("a", QUEUE, b"failed", b"first") == "changed"


async def test_a_chosen_id_is_refused_while_only_a_stock_record_holds_it(scene: Scene) -> None:
    """arq keeps a cron job's record for a minute after its end, so that no second worker enqueues the tick again."""
    await scene.redis.set(KEYS.lease("cron:tick"), "1")

    assert await scene.enqueue("cron:tick", unique=True) == [False]


async def test_a_chosen_id_is_free_again_when_its_result_is_gone(scene: Scene) -> None:
    await scene.enqueue("a", unique=True)
    job = await scene.worker().claim_one()
    await scene.worker().finish(job, ttl_ms=-1)

    assert await scene.enqueue("a", unique=True) == [True]
    assert (await scene.worker("w2").claim_one()).attempt == 1


async def test_the_same_chosen_id_twice_in_one_call_is_one_job(scene: Scene) -> None:
    assert await scene.enqueue("a", "a", unique=True) == [True, False]
    assert await scene.queued() == ["a"]


async def test_a_chosen_id_forgets_the_attempts_and_the_abort_of_an_earlier_incarnation(scene: Scene) -> None:
    await scene.redis.set(KEYS.attempts("a"), 4)
    await scene.redis.zadd(KEYS.aborts, {"a": scene.clock.now_ms})

    await scene.enqueue("a", unique=True)

    claimed = await scene.worker().claim(aborts=True)
    assert [(job.attempt, job.flag) for job in claimed.jobs] == [(1, "")]


async def test_jobs_of_one_call_may_go_to_several_queues(scene: Scene) -> None:
    await scene.store.enqueue([NewJob("q1", "a", b"1"), NewJob("q2", "b", b"2"), NewJob("q1", "c", b"3")])

    assert await scene.queued("q1") == ["a", "c"]
    assert await scene.queued("q2") == ["b"]


async def test_generated_ids_of_one_millisecond_stay_first_in_first_out(scene: Scene) -> None:
    ids = [new_job_id() for _ in range(50)]
    await scene.enqueue(*ids)

    worker = scene.worker()
    assert [(await worker.claim_one()).id for _ in ids] == ids


async def test_an_earlier_due_time_goes_before_an_earlier_id(scene: Scene) -> None:
    await scene.enqueue("a", when="+20")
    await scene.enqueue("b", when="+10")
    scene.clock.advance(20)

    assert await scene.worker().claim_ids() == ["b", "a"]


async def test_a_due_job_wakes_a_worker_in_each_of_its_queues(scene: Scene) -> None:
    await scene.worker("w1", queue="q1").claim(wait=True)
    await scene.worker("w2", queue="q2").claim(wait=True)
    async with worker_ear(scene.redis, "w1", "w2") as ear:
        await scene.store.enqueue([NewJob("q1", "a", b""), NewJob("q2", "b", b""), NewJob("q1", "c", b"")])

        assert await ear.heard() == {KEYS.worker_channel("w1"): ["wake"], KEYS.worker_channel("w2"): ["wake"]}
