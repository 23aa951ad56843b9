"""`finish`: the token, the outcomes, and what is left behind."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from redis.exceptions import ResponseError

from arqestra.store.records import LeasedJob
from tests.support.replies import reply_of
from tests.support.store_harness import ENDS, KEYS, LEASE_MS, QUEUE, Kind, StoreHarness, Subscriber, extra
from tests.support.updates import RawUpdate

KINDS: tuple[Kind, ...] = ("end", "dead", "retry", "release")


async def test_an_end_leaves_the_result_alone(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()

    assert await worker.finish(await worker.claim_one(), ttl_ms=5000, result=b"the result")

    assert await harness.keys() == {"arq:result:a"}
    assert await harness.redis.get("arq:result:a") == b"the result"
    assert 0 < await harness.redis.pttl("arq:result:a") <= 5000


async def test_a_result_can_be_kept_for_ever_or_not_at_all(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b")
    worker = harness.worker()
    kept, dropped = (await worker.claim()).jobs

    await worker.finish(kept, ttl_ms=0, result=b"kept")
    await worker.finish(dropped, ttl_ms=-1)

    assert await harness.keys() == {"arq:result:a"}
    assert await harness.redis.pttl("arq:result:a") == -1


async def test_each_result_of_a_call_is_kept_as_long_as_its_own_job_says(harness: StoreHarness) -> None:
    ttls_ms = [60_000, 60_000, 120_000, 0, -1, 0, 60_000]
    await harness.enqueue(*(f"{i}" for i in range(len(ttls_ms))))
    jobs = (await harness.worker().claim(len(ttls_ms))).jobs
    endings = [
        RawUpdate(job.id, QUEUE, job.token, "end", ttl_ms=ttl_ms, result=f"result {job.id}".encode()).update()
        for job, ttl_ms in zip(jobs, ttls_ms, strict=True)
    ]
    again = RawUpdate(jobs[0].id, QUEUE, jobs[0].token, "end", ttl_ms=120_000, result=b"again").update()

    assert await harness.store.turn([*endings, again], None) == ([True] * (len(ttls_ms) + 1), None)

    ttls_ms[0] = 120_000
    assert await harness.keys() == {f"arq:result:{i}" for i, ttl_ms in enumerate(ttls_ms) if ttl_ms >= 0}
    for i, ttl_ms in enumerate(ttls_ms):
        expected = None if ttl_ms < 0 else b"again" if i == 0 else f"result {i}".encode()
        assert await harness.redis.get(f"arq:result:{i}") == expected
        if ttl_ms > 0:
            assert ttl_ms - 30_000 < await harness.redis.pttl(f"arq:result:{i}") <= ttl_ms
        elif ttl_ms == 0:
            assert await harness.redis.pttl(f"arq:result:{i}") == -1


@pytest.mark.parametrize(("kind", "number"), [("end", 30_000), ("retry", 0)], ids=["id-kept", "retry"])
async def test_an_outcome_that_redis_refuses_leaves_those_behind_it_to_be_sent_again(
    harness: StoreHarness, kind: Kind, number: int
) -> None:
    await harness.enqueue("a", "b")
    worker = harness.worker()
    a, b = (await worker.claim()).jobs
    beyond_bounds = RawUpdate(a.id, QUEUE, a.token, "end", ttl_ms=2**63 - 1, result=b"x").update()
    fine = RawUpdate(b.id, QUEUE, b.token, kind, number, ttl_ms=-1).update()

    with pytest.raises(ResponseError, match="invalid expire"):
        await harness.store.turn([beyond_bounds, fine], None)

    assert await worker.finish(b, kind, number)


async def test_an_end_may_keep_the_id_taken_for_a_while(harness: StoreHarness) -> None:
    await harness.enqueue("a", unique=True)
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "end", 30_000, ttl_ms=-1)

    assert await harness.keys() == {"arq:in-progress:a"}
    assert 0 < await harness.redis.pttl("arq:in-progress:a") <= 30_000
    assert await harness.enqueue("a", unique=True) == [False]


async def test_the_end_is_announced(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    async with Subscriber(harness.redis, [KEYS.done_channel("a")]) as subscriber:
        await worker.finish(job, "retry")
        assert await subscriber.heard() == {}
        await worker.finish(await worker.claim_one())
        assert await subscriber.heard() == {KEYS.done_channel("a"): [""]}


async def test_a_dead_job_is_kept_in_the_dead_set(harness: StoreHarness) -> None:
    await harness.enqueue("a", payload=b"the payload")
    worker = harness.worker()

    await worker.finish(await worker.claim_one(), "dead", result=b"the result")

    assert await harness.keys() == {"arq:result:a", KEYS.dead(QUEUE), KEYS.dead_results(QUEUE)}
    assert await harness.redis.zrange(KEYS.dead(QUEUE), 0, -1, withscores=True) == [(b"a", float(harness.clock.now_ms))]
    assert await reply_of(harness.redis.hgetall(KEYS.dead_results(QUEUE))) == {b"a": b"the result"}


async def test_the_dead_set_has_a_cap(harness: StoreHarness) -> None:
    old = {f"old{number:05}": harness.clock() - 20_000 + number for number in range(10_000)}
    await harness.redis.zadd(KEYS.dead(QUEUE), old)
    await reply_of(harness.redis.hset(KEYS.dead_results(QUEUE), mapping=dict.fromkeys(old, b"")))
    await harness.enqueue("a")
    worker = harness.worker()

    await worker.finish(await worker.claim_one(), "dead")

    assert await harness.redis.zcard(KEYS.dead(QUEUE)) == 10_000
    assert await reply_of(harness.redis.hlen(KEYS.dead_results(QUEUE))) == 10_000
    assert await harness.redis.zscore(KEYS.dead(QUEUE), "old00000") is None
    assert await harness.redis.zscore(KEYS.dead(QUEUE), "a") is not None


async def test_failures_leave_the_same_on_the_short_way_as_on_the_long_one(harness: StoreHarness) -> None:
    outcomes: list[tuple[Kind, int, bytes]] = [
        *(
            ("dead", 60_000, b"entry"),
            ("dead", 60_000, b"another entry"),
            ("dead", 0, b"entry"),
            ("dead", -1, b"entry"),
        ),
        *(("fail", 60_000, b"entry"), ("dead", 60_000, b"+"), ("end", 60_000, b"+"), ("end", 60_000, b"")),
        *(("expire", 60_000, b""), ("abort", -1, b"+"), ("dead", 60_000, b"the 21st entry")),
    ]
    found = []
    for is_special in (False, True):
        await harness.enqueue(*(f"{i:02}" for i in range(len(outcomes) + 1)))
        jobs = (await harness.worker().claim(len(outcomes) + 1)).jobs
        for i, (_, _, entry) in enumerate(outcomes):
            if entry == b"+":
                await reply_of(harness.redis.rpush(KEYS.errors(f"{i:02}"), b"earlier"))
        await reply_of(harness.redis.rpush(KEYS.errors("10"), *(f"{i}" for i in range(20))))
        if is_special:
            await harness.redis.zadd("arq:abort", {"another job": 1})
        updates = [
            RawUpdate(job.id, QUEUE, job.token, kind, ttl_ms=ttl_ms, result=b"result", error=entry).update()
            for job, (kind, ttl_ms, entry) in zip(jobs, outcomes, strict=False)
        ]
        lost = RawUpdate(jobs[-1].id, QUEUE, "another.1", "dead", ttl_ms=0, result=b"result", error=b"entry").update()

        assert (await harness.store.turn([*updates, lost], None))[0] == [True] * len(outcomes) + [False]

        found.append(await everything(harness))
        await harness.redis.flushdb()
    assert found[0] == found[1]
    assert found[0][KEYS.errors("10")][0] == [b"%d" % i for i in range(1, 20)] + [b"the 21st entry"]


async def everything(harness: StoreHarness) -> dict[str, tuple[Any, int]]:
    """What each key holds, and for how many minutes; without times."""
    redis = harness.redis
    found: dict[str, tuple[Any, int]] = {}
    for key in await harness.keys() - {"arq:abort"}:
        kind = (await redis.type(key)).decode()
        value: Any
        if kind == "zset":
            value = sorted(await redis.zrange(key, 0, -1))
        elif kind == "list":
            value = await reply_of(redis.lrange(key, 0, -1))
        elif kind == "hash":
            value = await reply_of(redis.hgetall(key))
        else:
            value = (await redis.get(key)).partition(b"|")[0]
        found[key] = (value, round(await redis.pttl(key) / 60_000))
    return found


@pytest.mark.parametrize(("before", "attempts"), [(b"", 2), (b"7", 8)])
async def test_a_job_is_run_again_with_another_payload(harness: StoreHarness, before: bytes, attempts: int) -> None:
    """A payload may hold any bytes, line feeds too; a call that is sent again changes nothing."""
    await harness.enqueue("a", payload=b"3\nold")
    worker = harness.worker()
    job = await worker.claim_one()
    again = b"\n12\n\x00new\n"

    assert await worker.finish(job, "retry", result=before + b"\n" + again)
    assert not await worker.finish(job, "retry", result=before + b"\nother")

    claimed = await worker.claim_one()
    assert (claimed.payload, claimed.attempt) == (again, attempts)


async def test_whoever_lost_the_lease_changes_no_payload(harness: StoreHarness) -> None:
    await harness.enqueue("a", payload=b"old")
    job = await harness.worker("w1").claim_one()
    harness.clock.advance(60_000)
    await harness.worker("w2").claim_one()

    assert not await harness.worker("w1").finish(job, "retry", result=b"\nnew")
    assert await harness.redis.get("arq:job:a") == b"old"


async def test_a_retry_is_put_off_by_its_delay(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    harness.clock.advance(300)
    await worker.finish(job, "retry", 2000)

    assert await harness.score("a") == harness.clock.now_ms + 2000
    assert await harness.lease("a") is None
    harness.clock.advance(2000)
    again = await worker.claim_one()
    assert (again.attempt, again.due_ms) == (2, harness.clock.now_ms)


@pytest.mark.parametrize("kind", ["retry", "release"])
async def test_without_a_delay_a_job_returns_to_its_old_place(
    harness: StoreHarness, kind: Literal["retry", "release"]
) -> None:
    await harness.enqueue("a")
    due_ms = harness.clock.now_ms
    harness.clock.advance(5)
    await harness.enqueue("b")
    worker = harness.worker()
    job = await worker.claim_one()
    harness.clock.advance(5)
    await worker.finish(job, kind)

    assert await harness.score("a") == due_ms
    assert await worker.claim_ids() == ["a", "b"]


async def test_a_release_refunds_the_attempt(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    for _ in range(3):
        job = await worker.claim_one()
        assert job.attempt == 1
        await worker.finish(job, "release")

    assert KEYS.attempts("a") not in await harness.keys()


async def test_a_retry_refunds_nothing(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    attempts = []
    for _ in range(3):
        job = await worker.claim_one()
        attempts.append(job.attempt)
        await worker.finish(job, "retry")

    assert attempts == [1, 2, 3]


async def test_a_retry_may_set_the_number_of_attempts(harness: StoreHarness) -> None:
    """arq's `_job_try`, when a stock producer enqueued the job: its number is in the payload alone."""
    await harness.enqueue("a")
    worker = harness.worker()
    await worker.finish(await worker.claim_one(), "retry", result=b"4")

    assert (await worker.claim_one()).attempt == 5


# -- fencing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_whose_lease_was_taken_writes_nothing(harness: StoreHarness, kind: Kind) -> None:
    await harness.enqueue("a")
    zombie = await harness.worker("zombie").claim_one()
    harness.clock.advance(LEASE_MS)
    await harness.worker("w2").claim_one()
    before = await _everything(harness)

    async with Subscriber(harness.redis, [KEYS.done_channel("a")]) as subscriber:
        assert not await harness.worker("zombie").finish(zombie, kind, 100, result=b"7")
        assert await subscriber.heard() == {}

    assert await _everything(harness) == before


@pytest.mark.parametrize("kind", KINDS)
async def test_an_earlier_claim_of_the_same_worker_writes_nothing(harness: StoreHarness, kind: Kind) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    earlier = await worker.claim_one()
    harness.clock.advance(LEASE_MS)
    await worker.claim_one()

    assert not await worker.finish(earlier, kind)


async def test_a_token_that_is_the_beginning_of_another_is_another(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    worker.number = 11
    job = await worker.claim_one()  # token w1.12

    assert not await worker.finish(job._replace(token="w1.1"))
    assert await worker.finish(job)


@pytest.mark.parametrize("kind", KINDS)
async def test_after_a_stock_finish_nothing_is_written(harness: StoreHarness, kind: Kind) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    await harness.stock_finish("a")

    assert not await worker.finish(job, kind, result=b"9")
    assert await harness.keys() == {"arq:result:a"}
    assert await harness.redis.get("arq:result:a") == b"stock result"


async def test_a_lease_that_ran_out_but_was_not_taken_still_writes(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    job = await worker.claim_one()
    harness.clock.advance(LEASE_MS + 5000)

    assert await worker.finish(job)
    assert await harness.queued() == []


async def test_one_lost_lease_does_not_hold_up_the_others(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", "c")
    worker = harness.worker()
    jobs = (await worker.claim()).jobs
    await harness.stock_finish("b")

    written, _ = await harness.store.turn(
        [RawUpdate(job.id, job.queue, job.token, "end").update() for job in jobs], None
    )

    assert written == [True, False, True]
    assert await harness.queued() == []


async def _everything(harness: StoreHarness) -> dict[str, object]:
    """The keys and values, TTLs left out."""
    found: dict[str, object] = {}
    for key in sorted(await harness.keys()):
        kind = (await harness.redis.type(key)).decode()
        if kind == "string":
            found[key] = await harness.redis.get(key)
        elif kind == "zset":
            found[key] = await harness.redis.zrange(key, 0, -1, withscores=True)
        elif kind == "hash":
            found[key] = await reply_of(harness.redis.hgetall(key))
        else:
            found[key] = await reply_of(harness.redis.smembers(key))
    return found


async def test_outcomes_of_several_queues_and_kinds_go_each_to_its_own(harness: StoreHarness) -> None:
    """In one call, in an order in which none stands beside its like; one queue has specs, and one lease is lost."""
    queues = ("q1", "q2")
    await harness.enqueue("a1", "a2", "a3", queue="q1", extra=extra(("c", "limit", 9)))
    await harness.enqueue("b1", "b2", "b3", queue="q2")
    jobs: dict[str, LeasedJob] = {}
    for queue in queues:
        jobs |= {job.id: job for job in (await harness.worker("w", queue=queue).claim()).jobs}
        harness.clock.advance(1)
    await harness.redis.delete(KEYS.lease("b2"))
    kinds: dict[str, Kind] = {"a1": "end", "b1": "end", "a2": "retry", "b2": "end", "a3": "fail", "b3": "release"}
    endings = [
        RawUpdate(
            job_id, jobs[job_id].queue, jobs[job_id].token, kind, 0, 60_000 if kind in ENDS else -1, result
        ).update()
        for (job_id, kind), result in zip(kinds.items(), (b"1", b"2", b"", b"4", b"5", b""), strict=True)
    ]
    written, _ = await harness.store.turn(endings, None)

    assert written == [True, True, True, False, True, True]
    assert [await harness.redis.get(KEYS.result(job_id)) for job_id in ("a1", "b1", "a3")] == [b"1", b"2", b"5"]
    assert [await harness.queued(queue) for queue in queues] == [["a2"], ["b3", "b2"]]
    assert [await harness.attempts(job_id) for job_id in ("a2", "b3")] == [1, 0]
    assert {job_id.decode() for job_id in await reply_of(harness.redis.hkeys(KEYS.specs("q1")))} == {"a2"}
    assert await harness.redis.zcard(KEYS.holders("limit")) == 0


async def test_a_job_that_is_interrupted_again_and_again_is_free_of_that_only_so_often(harness: StoreHarness) -> None:
    """And once more after a day without it."""
    await harness.enqueue("a")
    worker = harness.worker()
    attempts = []
    for _ in range(103):
        job = await worker.claim_one()
        attempts.append(job.attempt)
        assert await worker.finish(job, kind="interrupt")

    assert attempts == [1] * 101 + [2, 3]
    assert 0 < await harness.redis.pttl(KEYS.interrupts("a")) <= 86_400_000

    await harness.redis.delete(KEYS.interrupts("a"))
    assert await worker.finish(await worker.claim_one(), kind="interrupt")
    assert (await worker.claim_one()).attempt == 4


async def test_a_look_without_the_result_only_tells_that_there_is_one(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    worker = harness.worker()
    assert (await harness.store.peek("a", QUEUE, result=False)).result is None
    assert await worker.finish(await worker.claim_one(), result=b"a large one")

    assert (await harness.store.peek("a", QUEUE, result=False)).result == b""
    assert (await harness.store.peek("a", QUEUE)).result == b"a large one"
