"""Waking: one waiting worker for what is due, none that is dead, and a timer owner that knows what comes next."""

from __future__ import annotations

import pytest

from tests.support.store_harness import KEYS, QUEUE, StoreHarness, worker_subscriber

W1, W2, W3 = (KEYS.worker_channel(worker) for worker in ("w1", "w2", "w3"))


def _woken(heard: dict[str, list[str]]) -> list[str]:
    return [channel for channel, words in heard.items() if "wake" in words]


async def _wait_in_line(harness: StoreHarness, *workers: str) -> None:
    for worker in workers:
        await harness.worker(worker).claim(wait=True)
        harness.clock.advance(1)
    assert await harness.waiting() == list(workers)


async def test_one_enqueue_wakes_exactly_one_worker(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w1", "w2", "w3") as subscriber:
        await _wait_in_line(harness, "w1", "w2", "w3")
        await harness.enqueue("a", "b", "c")

        assert await subscriber.heard() == {W1: ["wake"]}
    assert await harness.waiting() == ["w2", "w3"]


async def test_the_woken_worker_wakes_the_next_while_due_jobs_remain(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w1", "w2", "w3") as subscriber:
        await _wait_in_line(harness, "w1", "w2", "w3")
        await harness.enqueue("a", "b")
        await subscriber.heard()

        await harness.worker("w1").claim(1, wait=True)
        assert _woken(await subscriber.heard()) == [W2]
        await harness.worker("w2").claim(1, wait=True)
        assert _woken(await subscriber.heard()) == []


async def test_a_dead_waiter_is_skipped(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w3") as subscriber:
        await _wait_in_line(harness, "w3")
        # Registered without asking who is alive, as by workers that were killed later.
        for dead in ("w1", "w2"):
            await harness.redis.zadd(KEYS.waiting(QUEUE), {dead: 0})
        await harness.enqueue("a")

        assert await subscriber.heard() == {W3: ["wake"]}
    assert await harness.waiting() == []


async def test_nobody_waits_and_no_key_is_left(harness: StoreHarness) -> None:
    await harness.enqueue("a")

    assert await harness.keys() == {QUEUE, "arq:job:a"}


async def test_a_job_that_is_not_due_wakes_nobody_and_its_time_is_told_to_the_timer_owner(
    harness: StoreHarness,
) -> None:
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        await _wait_in_line(harness, "w1", "w2")
        await harness.enqueue("a", when="+300")

        assert await subscriber.heard() == {W1: ["due 300"]}
    assert await harness.waiting() == ["w1", "w2"]


async def test_a_job_due_later_than_another_is_no_news(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await _wait_in_line(harness, "w1")
        await harness.enqueue("a", when="+300")
        await subscriber.heard()
        await harness.enqueue("b", when="+400")
        assert await subscriber.heard() == {}
        await harness.enqueue("c", when="+200")
        assert await subscriber.heard() == {W1: ["due 200"]}


@pytest.mark.parametrize("delay_ms", [9_000, 11_000, 3_600_000])
async def test_the_timer_owner_is_told_of_a_distant_time_too(harness: StoreHarness, delay_ms: int) -> None:
    """No poll on the hot path: with a long `poll_delay` there is nothing else that would start the job."""
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await _wait_in_line(harness, "w1")
        await harness.enqueue("a", when=f"+{delay_ms}")

        assert await subscriber.heard() == {W1: [f"due {delay_ms}"]}


async def test_when_the_timer_owner_is_woken_the_next_in_line_is_told_the_time(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        await _wait_in_line(harness, "w1", "w2")
        await harness.enqueue("later", when="+300")
        await subscriber.heard()
        harness.clock.advance(100)
        await harness.enqueue("a")

        assert await subscriber.heard() == {W1: ["wake"], W2: ["due 200"]}


async def test_when_the_timer_owner_fills_its_slots_the_next_in_line_is_told_the_time(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w1", "w2") as subscriber:
        await _wait_in_line(harness, "w1", "w2")
        await harness.stock_enqueue("a")  # a stock producer wakes nobody; the timer owner's poll finds it
        await harness.enqueue("later", when="+300")
        await subscriber.heard()

        assert (await harness.worker("w1").claim(1, wait=True)).jobs[0].id == "a"
        assert await subscriber.heard() == {W2: ["due 300"]}


async def test_a_retry_that_is_due_at_once_wakes_a_worker(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    busy = harness.worker("busy")
    job = await busy.claim_one()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await _wait_in_line(harness, "w1")
        await busy.finish(job, "retry")

        assert await subscriber.heard() == {W1: ["wake"]}


async def test_the_time_of_a_deferred_retry_is_told_to_the_timer_owner(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    busy = harness.worker("busy")
    job = await busy.claim_one()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await _wait_in_line(harness, "w1")
        await busy.finish(job, "retry", 250)

        assert await subscriber.heard() == {W1: ["due 250"]}


async def test_a_release_wakes_a_worker(harness: StoreHarness) -> None:
    await harness.enqueue("a")
    leaving = harness.worker("leaving")
    job = await leaving.claim_one()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await _wait_in_line(harness, "w1")
        await leaving.finish(job, "release")

        assert await subscriber.heard() == {W1: ["wake"]}
        assert (await harness.worker("w1").claim(wait=True)).jobs[0].attempt == 1
