"""Who listens to events or watches a job is told of everything, or of what was missed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arqestra import Pool
from arqestra.protocol.events import Event, decode_events, encode_events
from tests.integration.telling_worker import fail_twice, tell, working
from tests.support.wait import wait_until


async def test_events_are_told_to_whoever_listens(pool: Pool, redis_url: str) -> None:
    heard: list[Event] = []

    async def listen() -> None:
        async for event in pool.events():
            heard.append(event)

    async with working(redis_url) as worker:
        assert not worker.reporter.publisher.listened
        listening = asyncio.create_task(listen())
        await wait_until(lambda: worker.reporter.publisher.listened, "that somebody listens")
        told, retried = await pool.enqueue(tell), await pool.enqueue(fail_twice)
        assert told is not None
        assert retried is not None
        await wait_until(lambda: any(e.kind == "progress" for e in heard), "progress")
        await wait_until(lambda: sum(e.kind == "complete" for e in heard) == 2, "both ends")
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await wait_until(lambda: not worker.reporter.publisher.listened, "that nobody listens any more")

    kinds = [event.kind for event in heard if event.job_id == retried.job_id]
    assert kinds == ["started", "retried", "started", "retried", "started", "complete"]
    (first,) = [event for event in heard if event.job_id == retried.job_id and event.attempt == 1 and event.error]
    assert (first.function, first.queue, first.error) == ("fail_twice", "arq:queue", "ValueError: attempt 1")
    (progress,) = [event for event in heard if event.kind == "progress"]
    assert (progress.job_id, progress.done, progress.message) == (told.job_id, 4, "done")


async def test_a_listener_that_falls_behind_is_told_how_many_events_it_has_missed(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = 0

    def count(data: bytes) -> list[Event]:
        nonlocal messages
        messages += 1
        return decode_events(data)

    monkeypatch.setattr("arqestra.client.fleet_views.decode_events", count)
    kinds: list[str] = []
    dropped: list[int] = []
    goes_on, has_begun = asyncio.Event(), asyncio.Event()

    async def listen() -> None:
        async for event in pool.events():
            has_begun.set()
            await goes_on.wait()
            kinds.append(event.kind)
            dropped.append(event.count)

    listening = asyncio.create_task(listen())
    message = encode_events([Event("complete", 1, "w", job_id=f"j{number}") for number in range(500)])

    async def is_listening() -> bool:
        return bool(await pool.publish(pool.store.keys.events, message))

    await wait_until(is_listening, "a listener")
    await has_begun.wait()
    for _ in range(40):
        await pool.publish(pool.store.keys.events, message)
    await wait_until(lambda: messages == 41, "all messages")
    goes_on.set()
    await wait_until(lambda: "dropped" in kinds, "what was missed")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)

    assert 10_000 <= kinds.index("dropped") <= 10_001
    assert sum(dropped) == 41 * 500 - kinds.index("dropped")


async def test_a_watcher_outlives_an_outage_of_redis(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    peek, failures = pool.store.peek, 0

    async def fails_at_first(*args: Any, **kwargs: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures < 3:
            raise ConnectionError("away")
        return await peek(*args, **kwargs)

    async with working(redis_url):
        told = await pool.enqueue(tell)
        assert told is not None
        await told.result(timeout=30)
        monkeypatch.setattr(pool.store, "peek", fails_at_first)
        assert [progress.done async for progress in told.watch(poll_delay=0.05)] == [4]
