"""`finish`: the token, the outcomes, and what is left behind."""

from __future__ import annotations

from typing import Literal

import pytest
from redis.exceptions import ResponseError

from arqestra.store.records import Ending
from tests.support.replies import reply_of
from tests.support.store_harness import ENDS, KEYS, LEASE_MS, QUEUE, Ear, Kind, Scene, extra

KINDS: tuple[Kind, ...] = ("end", "dead", "retry", "release")


async def test_an_end_leaves_the_result_alone(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()

    assert await worker.finish(await worker.claim_one(), ttl_ms=5000, result=b"the result")

    assert await scene.keys() == {"arq:result:a"}
    assert await scene.redis.get("arq:result:a") == b"the result"
    assert 0 < await scene.redis.pttl("arq:result:a") <= 5000


async def test_a_result_can_be_kept_for_ever_or_not_at_all(scene: Scene) -> None:
    await scene.enqueue("a", "b")
    worker = scene.worker()
    kept, dropped = (await worker.claim()).jobs

    await worker.finish(kept, ttl_ms=0, result=b"kept")
    await worker.finish(dropped, ttl_ms=-1)

    assert await scene.keys() == {"arq:result:a"}
    assert await scene.redis.pttl("arq:result:a") == -1


async def test_each_result_of_a_call_is_kept_as_long_as_its_own_job_says(scene: Scene) -> None:
    ttls_ms = [60_000, 60_000, 120_000, 0, -1, 0, 60_000]
    await scene.enqueue(*(f"{i}" for i in range(len(ttls_ms))))
    jobs = (await scene.worker().claim(len(ttls_ms))).jobs
    endings = [
        Ending(job.id, QUEUE, job.token, "end", ttl_ms=ttl_ms, result=f"result {job.id}".encode())
        for job, ttl_ms in zip(jobs, ttls_ms, strict=True)
    ]
    again = Ending(jobs[0].id, QUEUE, jobs[0].token, "end", ttl_ms=120_000, result=b"again")

    assert await scene.store.turn([*endings, again], None) == ([True] * (len(ttls_ms) + 1), None)

    ttls_ms[0] = 120_000
    assert await scene.keys() == {f"arq:result:{i}" for i, ttl_ms in enumerate(ttls_ms) if ttl_ms >= 0}
    for i, ttl_ms in enumerate(ttls_ms):
        expected = None if ttl_ms < 0 else b"again" if i == 0 else f"result {i}".encode()
        assert await scene.redis.get(f"arq:result:{i}") == expected
        if ttl_ms > 0:
            assert ttl_ms - 30_000 < await scene.redis.pttl(f"arq:result:{i}") <= ttl_ms
        elif ttl_ms == 0:
            assert await scene.redis.pttl(f"arq:result:{i}") == -1


@pytest.mark.parametrize(("kind", "number"), [("end", 30_000), ("retry", 0)], ids=["id-kept", "retry"])
async def test_an_outcome_that_redis_refuses_leaves_those_behind_it_to_be_sent_again(
    scene: Scene, kind: Kind, number: int
) -> None:
    await scene.enqueue("a", "b")
    worker = scene.worker()
    a, b = (await worker.claim()).jobs
    beyond_bounds = Ending(a.id, QUEUE, a.token, "end", ttl_ms=2**63 - 1, result=b"x")
    fine = Ending(b.id, QUEUE, b.token, kind, number, ttl_ms=-1)

    with pytest.raises(ResponseError, match="invalid expire"):
        await scene.store.turn([beyond_bounds, fine], None)

    assert await worker.finish(b, kind, number)


async def test_an_end_may_keep_the_id_taken_for_a_while(scene: Scene) -> None:
    await scene.enqueue("a", unique=True)
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "end", 30_000, ttl_ms=-1)

    assert await scene.keys() == {"arq:in-progress:a"}
    assert 0 < await scene.redis.pttl("arq:in-progress:a") <= 30_000
    assert await scene.enqueue("a", unique=True) == [False]


async def test_the_end_is_announced(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    async with Ear(scene.redis, [KEYS.done_channel("a")]) as ear:
        await worker.finish(job, "retry")
        assert await ear.heard() == {}
        await worker.finish(await worker.claim_one())
        assert await ear.heard() == {KEYS.done_channel("a"): [""]}


async def test_a_dead_job_is_kept_in_the_dead_set(scene: Scene) -> None:
    await scene.enqueue("a", payload=b"the payload")
    worker = scene.worker()

    await worker.finish(await worker.claim_one(), "dead", result=b"the result")

    assert await scene.keys() == {"arq:result:a", KEYS.dead(QUEUE), KEYS.dead_results(QUEUE)}
    assert await scene.redis.zrange(KEYS.dead(QUEUE), 0, -1, withscores=True) == [(b"a", float(scene.clock.now_ms))]
    assert await reply_of(scene.redis.hgetall(KEYS.dead_results(QUEUE))) == {b"a": b"the result"}


async def test_the_dead_set_has_a_cap(scene: Scene) -> None:
    old = {f"old{number:05}": scene.clock() - 20_000 + number for number in range(10_000)}
    await scene.redis.zadd(KEYS.dead(QUEUE), old)
    await reply_of(scene.redis.hset(KEYS.dead_results(QUEUE), mapping=dict.fromkeys(old, b"")))
    await scene.enqueue("a")
    worker = scene.worker()

    await worker.finish(await worker.claim_one(), "dead")

    assert await scene.redis.zcard(KEYS.dead(QUEUE)) == 10_000
    assert await reply_of(scene.redis.hlen(KEYS.dead_results(QUEUE))) == 10_000
    assert await scene.redis.zscore(KEYS.dead(QUEUE), "old00000") is None
    assert await scene.redis.zscore(KEYS.dead(QUEUE), "a") is not None


@pytest.mark.parametrize(("before", "attempts"), [(b"", 2), (b"7", 8)])
async def test_a_job_is_run_again_with_another_payload(scene: Scene, before: bytes, attempts: int) -> None:
    """A payload may hold any bytes, line feeds too; a call that is sent again changes nothing."""
    await scene.enqueue("a", payload=b"3\nold")
    worker = scene.worker()
    job = await worker.claim_one()
    again = b"\n12\n\x00new\n"

    assert await worker.finish(job, "retry", result=before + b"\n" + again)
    assert not await worker.finish(job, "retry", result=before + b"\nother")

    claimed = await worker.claim_one()
    assert (claimed.payload, claimed.attempt) == (again, attempts)


async def test_whoever_lost_the_lease_changes_no_payload(scene: Scene) -> None:
    await scene.enqueue("a", payload=b"old")
    job = await scene.worker("w1").claim_one()
    scene.clock.advance(60_000)
    await scene.worker("w2").claim_one()

    assert not await scene.worker("w1").finish(job, "retry", result=b"\nnew")
    assert await scene.redis.get("arq:job:a") == b"old"


async def test_a_retry_is_put_off_by_its_delay(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    scene.clock.advance(300)
    await worker.finish(job, "retry", 2000)

    assert await scene.score("a") == scene.clock.now_ms + 2000
    assert await scene.lease("a") is None
    scene.clock.advance(2000)
    again = await worker.claim_one()
    assert (again.attempt, again.due_ms) == (2, scene.clock.now_ms)


@pytest.mark.parametrize("kind", ["retry", "release"])
async def test_without_a_delay_a_job_returns_to_its_old_place(scene: Scene, kind: Literal["retry", "release"]) -> None:
    await scene.enqueue("a")
    due_ms = scene.clock.now_ms
    scene.clock.advance(5)
    await scene.enqueue("b")
    worker = scene.worker()
    job = await worker.claim_one()
    scene.clock.advance(5)
    await worker.finish(job, kind)

    assert await scene.score("a") == due_ms
    assert await worker.claim_ids() == ["a", "b"]


async def test_a_release_refunds_the_attempt(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    for _ in range(3):
        job = await worker.claim_one()
        assert job.attempt == 1
        await worker.finish(job, "release")

    assert KEYS.attempts("a") not in await scene.keys()


async def test_a_retry_refunds_nothing(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    attempts = []
    for _ in range(3):
        job = await worker.claim_one()
        attempts.append(job.attempt)
        await worker.finish(job, "retry")

    assert attempts == [1, 2, 3]


async def test_a_retry_may_set_the_number_of_attempts(scene: Scene) -> None:
    """arq's `_job_try`, when a stock producer enqueued the job: its number is in the payload alone."""
    await scene.enqueue("a")
    worker = scene.worker()
    await worker.finish(await worker.claim_one(), "retry", result=b"4")

    assert (await worker.claim_one()).attempt == 5


# -- fencing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_whose_lease_was_taken_writes_nothing(scene: Scene, kind: Kind) -> None:
    await scene.enqueue("a")
    zombie = await scene.worker("zombie").claim_one()
    scene.clock.advance(LEASE_MS)
    await scene.worker("w2").claim_one()
    before = await _everything(scene)

    async with Ear(scene.redis, [KEYS.done_channel("a")]) as ear:
        assert not await scene.worker("zombie").finish(zombie, kind, 100, result=b"7")
        assert await ear.heard() == {}

    assert await _everything(scene) == before


@pytest.mark.parametrize("kind", KINDS)
async def test_an_earlier_claim_of_the_same_worker_writes_nothing(scene: Scene, kind: Kind) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    earlier = await worker.claim_one()
    scene.clock.advance(LEASE_MS)
    await worker.claim_one()

    assert not await worker.finish(earlier, kind)


async def test_a_token_that_is_the_beginning_of_another_is_another(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    worker.number = 11
    job = await worker.claim_one()  # token w1.12

    assert not await worker.finish(job._replace(token="w1.1"))
    assert await worker.finish(job)


@pytest.mark.parametrize("kind", KINDS)
async def test_after_a_stock_finish_nothing_is_written(scene: Scene, kind: Kind) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    await scene.stock_finish("a")

    assert not await worker.finish(job, kind, result=b"9")
    assert await scene.keys() == {"arq:result:a"}
    assert await scene.redis.get("arq:result:a") == b"stock result"


async def test_a_lease_that_ran_out_but_was_not_taken_still_writes(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    job = await worker.claim_one()
    scene.clock.advance(LEASE_MS + 5000)

    assert await worker.finish(job)
    assert await scene.queued() == []


async def test_one_lost_lease_does_not_hold_up_the_others(scene: Scene) -> None:
    await scene.enqueue("a", "b", "c")
    worker = scene.worker()
    jobs = (await worker.claim()).jobs
    await scene.stock_finish("b")

    written, _ = await scene.store.turn([Ending(job.id, job.queue, job.token, "end") for job in jobs], None)

    assert written == [True, False, True]
    assert await scene.queued() == []


async def _everything(scene: Scene) -> dict[str, object]:
    """The keys and values, TTLs left out."""
    found: dict[str, object] = {}
    for key in sorted(await scene.keys()):
        kind = (await scene.redis.type(key)).decode()
        if kind == "string":
            found[key] = await scene.redis.get(key)
        elif kind == "zset":
            found[key] = await scene.redis.zrange(key, 0, -1, withscores=True)
        elif kind == "hash":
            found[key] = await reply_of(scene.redis.hgetall(key))
        else:
            found[key] = await reply_of(scene.redis.smembers(key))
    return found


async def test_outcomes_of_several_queues_and_kinds_go_each_to_its_own(scene: Scene) -> None:
    """In one call, in an order in which none stands beside its like; one queue has specs, and one lease is lost."""
    queues = ("q1", "q2")
    await scene.enqueue("a1", "a2", "a3", queue="q1", extra=extra(("c", "limit", 9)))
    await scene.enqueue("b1", "b2", "b3", queue="q2")
    jobs = {}
    for queue in queues:
        jobs |= {job.id: job for job in (await scene.worker("w", queue=queue).claim()).jobs}
        scene.clock.advance(1)
    await scene.redis.delete(KEYS.lease("b2"))
    kinds: dict[str, Kind] = {"a1": "end", "b1": "end", "a2": "retry", "b2": "end", "a3": "fail", "b3": "release"}
    endings = [
        Ending(job_id, jobs[job_id].queue, jobs[job_id].token, kind, 0, 60_000 if kind in ENDS else -1, result)
        for (job_id, kind), result in zip(kinds.items(), (b"1", b"2", b"", b"4", b"5", b""), strict=True)
    ]
    written, _ = await scene.store.turn(endings, None)

    assert written == [True, True, True, False, True, True]
    assert [await scene.redis.get(KEYS.result(job_id)) for job_id in ("a1", "b1", "a3")] == [b"1", b"2", b"5"]
    assert [await scene.queued(queue) for queue in queues] == [["a2"], ["b3", "b2"]]
    assert [await scene.attempts(job_id) for job_id in ("a2", "b3")] == [1, 0]
    assert {job_id.decode() for job_id in await reply_of(scene.redis.hkeys(KEYS.specs("q1")))} == {"a2"}
    assert await scene.redis.zcard(KEYS.holders("limit")) == 0


async def test_a_job_that_is_interrupted_again_and_again_is_free_of_that_only_so_often(scene: Scene) -> None:
    """And once more after a day without it."""
    await scene.enqueue("a")
    worker = scene.worker()
    attempts = []
    for _ in range(23):
        job = await worker.claim_one()
        attempts.append(job.attempt)
        assert await worker.finish(job, kind="interrupt")

    assert attempts == [1] * 21 + [2, 3]
    assert 0 < await scene.redis.pttl(KEYS.interrupts("a")) <= 86_400_000

    await scene.redis.delete(KEYS.interrupts("a"))
    assert await worker.finish(await worker.claim_one(), kind="interrupt")
    assert (await worker.claim_one()).attempt == 4


async def test_a_look_without_the_result_only_tells_that_there_is_one(scene: Scene) -> None:
    await scene.enqueue("a")
    worker = scene.worker()
    assert (await scene.store.peek("a", QUEUE, result=False)).result is None
    assert await worker.finish(await worker.claim_one(), result=b"a large one")

    assert (await scene.store.peek("a", QUEUE, result=False)).result == b""
    assert (await scene.store.peek("a", QUEUE)).result == b"a large one"
