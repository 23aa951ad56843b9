"""`turn`: outcomes and claim in one call, and what is left of it if Redis refuses a part."""

from __future__ import annotations

import pytest

from arqestra.store.replies import ClaimRefused
from tests.support.replies import reply_of
from tests.support.store_harness import KEYS, QUEUE, StoreHarness
from tests.support.updates import RawUpdate

BROKEN = "arq:broken"


async def test_a_claim_that_redis_refuses_does_not_keep_the_outcomes_from_being_written(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b")
    worker = harness.worker()
    ended, lost = (await worker.claim()).jobs
    await reply_of(harness.redis.delete(KEYS.lease(lost.id)))
    await reply_of(harness.redis.set(BROKEN, "not a queue"))
    assert worker.request is not None
    updates = [
        RawUpdate(job.id, QUEUE, job.token, "end", ttl_ms=60_000, result=b"done").update() for job in (ended, lost)
    ]

    with pytest.raises(ClaimRefused, match="WRONGTYPE") as refused:
        await harness.store.turn(updates, worker.request._replace(queue=BROKEN, number=2))

    assert refused.value.written == [True, False]
    assert await reply_of(harness.redis.get(KEYS.result(ended.id))) == b"done"
    assert await harness.score(ended.id) is None


async def test_a_claim_alone_that_redis_refuses_is_its_error(harness: StoreHarness) -> None:
    await reply_of(harness.redis.set(BROKEN, "not a queue"))
    worker = harness.worker(queue=BROKEN)
    with pytest.raises(Exception, match="WRONGTYPE") as refused:
        await worker.claim()
    assert not isinstance(refused.value, ClaimRefused)
