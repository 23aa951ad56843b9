"""`leave`: a worker that stops is not woken any more, and its office goes to the next in line."""

from __future__ import annotations

from tests.support.store_harness import KEYS, QUEUE, Scene, worker_ear


async def test_a_worker_that_left_is_not_woken(scene: Scene) -> None:
    await scene.worker("w1").claim(wait=True)
    async with worker_ear(scene.redis, "w1", "w2") as ear:
        scene.clock.advance(1)
        await scene.worker("w2").claim(wait=True)
        await scene.store.leave(QUEUE, "w1")
        await scene.enqueue("a")

        assert await ear.heard() == {KEYS.worker_channel("w2"): ["wake"]}


async def test_the_next_in_line_becomes_the_lookout(scene: Scene) -> None:
    async with worker_ear(scene.redis, "w1", "w2") as ear:
        await scene.worker("w1").claim(wait=True)
        scene.clock.advance(1)
        await scene.worker("w2").claim(wait=True)
        await scene.enqueue("a", when="+500")
        await ear.heard()
        await scene.store.leave(QUEUE, "w1")

        assert await ear.heard() == {KEYS.worker_channel("w2"): ["due 500"]}


async def test_the_last_that_leaves_leaves_no_key(scene: Scene) -> None:
    await scene.worker("w1").claim(wait=True)
    await scene.store.leave(QUEUE, "w1")
    await scene.store.leave(QUEUE, "w1")

    assert await scene.keys() == set()


async def test_a_worker_that_did_not_wait_changes_nothing(scene: Scene) -> None:
    async with worker_ear(scene.redis, "w1") as ear:
        await scene.worker("w1").claim(wait=True)
        await scene.enqueue("a", when="+500")
        await ear.heard()
        await scene.store.leave(QUEUE, "stranger")

        assert await ear.heard() == {}
    assert await scene.waiting() == ["w1"]
