"""`leave`: a worker that stops is not woken any more, and its office goes to the next in line."""

from __future__ import annotations

from tests.support.store_harness import KEYS, QUEUE, StoreHarness, worker_subscriber


async def test_a_worker_that_left_is_not_woken(harness: StoreHarness) -> None:
    await harness.worker("w1").claim(wait=True)
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        harness.clock.advance(1)
        await harness.worker("w2").claim(wait=True)
        await harness.store.leave(QUEUE, "w1")
        await harness.enqueue("a")

        assert await subscriber.heard() == {KEYS.worker_channel("w2"): ["wake"]}


async def test_the_next_in_line_becomes_the_lookout(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        await harness.worker("w1").claim(wait=True)
        harness.clock.advance(1)
        await harness.worker("w2").claim(wait=True)
        await harness.enqueue("a", when="+500")
        await subscriber.heard()
        await harness.store.leave(QUEUE, "w1")

        assert await subscriber.heard() == {KEYS.worker_channel("w2"): ["due 500"]}


async def test_the_last_that_leaves_leaves_no_key(harness: StoreHarness) -> None:
    await harness.worker("w1").claim(wait=True)
    await harness.store.leave(QUEUE, "w1")
    await harness.store.leave(QUEUE, "w1")

    assert await harness.keys() == set()


async def test_a_worker_that_did_not_wait_changes_nothing(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await harness.worker("w1").claim(wait=True)
        await harness.enqueue("a", when="+500")
        await subscriber.heard()
        await harness.store.leave(QUEUE, "stranger")

        assert await subscriber.heard() == {}
    assert await harness.waiting() == ["w1"]
