"""A claim over several queues: strict order, quotas, caps; pause, resume, purge."""

from __future__ import annotations

from arqestra.store.records import QueueShare
from tests.support.store_harness import KEYS, QUEUE, StoreHarness, extra, worker_subscriber


def strict(*queues: str, slots: int) -> tuple[QueueShare, ...]:
    return tuple(QueueShare(queue, slots, slots) for queue in queues)


async def fill(harness: StoreHarness, queue: str, jobs: int) -> None:
    await harness.enqueue(*(f"{queue}{number:05}" for number in range(jobs)), queue=queue)


async def test_the_more_urgent_queue_is_emptied_first(harness: StoreHarness) -> None:
    await fill(harness, "low", 10_000)
    await fill(harness, "critical", 3)

    claimed = await harness.worker().claim(5, shares=strict("critical", "low", slots=5))

    assert [(job.queue, job.id) for job in claimed.jobs] == [
        ("critical", "critical00000"),
        ("critical", "critical00001"),
        ("critical", "critical00002"),
        ("low", "low00000"),
        ("low", "low00001"),
    ]
    assert claimed.more == {"low"}


async def test_quotas_come_first_and_what_is_left_goes_on(harness: StoreHarness) -> None:
    await fill(harness, "a", 100)
    await fill(harness, "b", 1)
    shares = (QueueShare("a", 6, 10), QueueShare("b", 3, 10), QueueShare("c", 1, 10))

    claimed = await harness.worker().claim(10, shares=shares)

    assert [job.queue for job in claimed.jobs].count("a") == 9
    assert [job.queue for job in claimed.jobs].count("b") == 1


async def test_a_cap_is_kept(harness: StoreHarness) -> None:
    await fill(harness, "a", 100)
    await fill(harness, "b", 100)

    claimed = await harness.worker().claim(10, shares=(QueueShare("a", 2, 2), QueueShare("b", 10, 10)))

    assert [job.queue for job in claimed.jobs] == ["a"] * 2 + ["b"] * 8


async def test_a_worker_waits_for_every_queue_that_it_has_room_for(harness: StoreHarness) -> None:
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        await harness.worker().claim(5, wait=True, shares=strict("a", "b", slots=5))
        assert await harness.waiting("a") == ["w1"]
        assert await harness.waiting("b") == ["w1"]
        await fill(harness, "b", 1)
        assert (await subscriber.heard())[KEYS.worker_channel("w1")] == ["wake"]


async def test_outcomes_go_to_the_queue_that_the_job_came_from(harness: StoreHarness) -> None:
    await fill(harness, "a", 1)
    await fill(harness, "b", 1)
    worker = harness.worker()
    for job in (await worker.claim(5, shares=strict("a", "b", slots=5))).jobs:
        await worker.finish(job)

    assert await harness.queued("a") == []
    assert await harness.queued("b") == []


async def test_a_paused_queue_gives_nothing_and_wakes_its_workers_when_it_is_resumed(harness: StoreHarness) -> None:
    assert await harness.store.pause(QUEUE, paused=True)
    await harness.enqueue("a")
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1") as subscriber:
        assert await worker.claim_ids(5, wait=True) == []
        await harness.enqueue("b")
        assert await subscriber.heard() == {}

        assert await harness.store.pause(QUEUE, paused=False)

        assert (await subscriber.heard())[KEYS.worker_channel("w1")] == ["wake"]
    assert await worker.claim_ids(5) == ["a", "b"]
    assert KEYS.paused not in await harness.keys()


async def test_a_paused_queue_is_not_said_to_have_anything_due(harness: StoreHarness) -> None:
    await harness.enqueue("a", extra=extra(("r", "r:f:", 1000.0, 1)))
    await harness.store.pause(QUEUE, paused=True)

    claimed = await harness.worker().claim(5)

    assert (claimed.jobs, claimed.queued, claimed.next_due_in_ms) == ([], 0, -1)


async def test_a_pause_reaches_a_worker_that_waits_already(harness: StoreHarness) -> None:
    worker = harness.worker()
    async with worker_subscriber(harness.redis, "w1"):
        await worker.claim(5, wait=True)
        await harness.store.pause(QUEUE, paused=True)
        await harness.enqueue("a")
        assert await worker.claim_ids(5, wait=True) == []
        assert await harness.waiting() == []


async def test_a_purge_removes_all_but_what_runs(harness: StoreHarness) -> None:
    await harness.enqueue(*(f"due{number:04}" for number in range(700)))
    await harness.enqueue("deferred", when="+60000")
    await harness.enqueue("held1", "held2", extra=extra(("c", "c:f:", 1)))
    worker = harness.worker()
    running = (await worker.claim(3)).jobs

    removed = await harness.store.purge(QUEUE)

    assert removed == 703 - 3
    assert sorted(await harness.queued()) == sorted(job.id for job in running)
    for job in running:
        assert await worker.finish(job, ttl_ms=-1)
    assert await harness.keys() == set()


async def test_an_id_that_two_queues_have_is_taken_once(harness: StoreHarness) -> None:
    await harness.enqueue("a", "b", queue="q1")
    await harness.stock_enqueue("a", queue="q2")  # stock arq, after the payload of the first had expired
    await harness.enqueue("c", queue="q2")

    claimed = await harness.worker().claim(10, shares=strict("q1", "q2", slots=10))

    assert [(job.queue, job.id) for job in claimed.jobs] == [("q1", "a"), ("q1", "b"), ("q2", "c")]


async def test_a_queue_without_due_jobs_for_which_others_wait_is_not_said_to_have_any(harness: StoreHarness) -> None:
    """Also where the claim has no slot for it: the worker would ask again."""
    async with worker_subscriber(harness.redis, "w2"):
        await harness.worker("w2").claim(wait=True)
        await fill(harness, "other", 4)
        shares = (QueueShare(QUEUE, 0, 4), QueueShare("other", 4, 4))
        claimed = await harness.worker("w1").claim(4, wait=True, shares=shares)

    assert len(claimed.jobs) == 4
    assert claimed.more == {"other"}
