"""Live updates: one reading for all, none for nobody, and no later than two seconds."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import msgspec
import pytest
from starlette.applications import Starlette

from arqestra import Pool, Worker
from arqestra.web import dashboard, monitoring
from arqestra.web.app_state import AppState
from arqestra.web.live import Hub
from arqestra.web.shared_cache import SharedCache
from arqestra.web.views.overview import read_live
from tests.web.conftest import client_of


async def test_one_reading_for_all_and_none_for_nobody() -> None:
    numbers = itertools.count(1)
    hub = Hub(lambda: _told(next(numbers)), interval_s=0.01)
    streams = [hub.follow() for _ in range(10)]
    seen = []
    for stream in streams:
        assert (await anext(stream)).startswith(b"retry")
        seen.append(await anext(stream))
    assert seen[0] == b"data: 1\n\n"
    assert len(set(seen)) < 10, "not one for each"
    for stream in streams:
        await stream.aclose()
    reads = hub.reads
    await asyncio.sleep(0.05)
    assert hub.reads == reads, "nobody follows, and nothing is read"
    again = hub.follow()
    await anext(again)
    assert int((await anext(again)).split()[1]) > reads, "nothing old is told"
    await hub.close()
    rest = [event async for event in again]
    assert len(rest) <= 1, "the end ends the streams"


async def _told(number: int) -> bytes:
    return str(number).encode()


async def test_a_reading_that_fails_is_tried_again() -> None:
    answers: Iterator[Exception | bytes] = iter([ConnectionError("no"), b"1"])

    async def read() -> bytes:
        found = next(answers, b"2")
        if isinstance(found, Exception):
            raise found
        return found

    hub = Hub(read, interval_s=0.01)
    stream = hub.follow()
    await anext(stream)
    assert await anext(stream) == b"data: 1\n\n"
    await hub.close()
    await stream.aclose()


async def test_readings_are_shared_and_get_old() -> None:
    now_s = [0.0]
    cache = SharedCache(lambda: now_s[0])
    count = itertools.count(1)

    async def read() -> int:
        await asyncio.sleep(0)
        return next(count)

    assert await asyncio.gather(*(cache.get("key", read) for _ in range(5))) == [1] * 5
    now_s[0] = 2.0
    assert await cache.get("key", read) == 2
    cache.forget()
    assert await cache.get("key", read) == 3


async def test_what_happens_is_told(redis_url: str, pool: Pool, working: Worker) -> None:
    app_state = AppState(redis_url)
    await app_state.open()
    hub = Hub(lambda: _encoded(app_state))
    stream = hub.follow()
    await anext(stream)
    await anext(stream)
    await pool.enqueue_many([("add", (number,)) for number in range(500)])
    async with asyncio.timeout(20):
        async for event in stream:
            latest = msgspec.json.decode(event.removeprefix(b"data: "))["latest"] if event.startswith(b"data") else {}
            if sum(latest.get("ended", ())) > 1:
                break
    await stream.aclose()
    await hub.close()
    await app_state.close()


async def _encoded(app_state: AppState) -> bytes:
    return msgspec.json.encode(await read_live(app_state))


async def test_a_reading_that_hangs_is_not_begun_again_and_again() -> None:
    now_s = [0.0]
    cache = SharedCache(lambda: now_s[0])
    ended = asyncio.Event()
    asked = itertools.count(1)

    async def read() -> int:
        number = next(asked)
        await ended.wait()
        return number

    first = asyncio.ensure_future(cache.get("key", read))
    await asyncio.sleep(0)
    now_s[0] = 10.0
    second = asyncio.ensure_future(cache.get("key", read))
    await asyncio.sleep(0)
    ended.set()
    assert [*await asyncio.gather(first, second)] == [1, 1]
    assert await cache.get("key", read) == 2, "it is not fresh any more"


async def test_a_redis_that_hangs_is_told(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    async with client_of(app) as client:
        assert (await client.get("/healthz")).status_code == 200
        monkeypatch.setattr(monitoring, "MAX_PING_S", 0.02)
        monkeypatch.setattr(dashboard, "MAX_READ_S", 0.02)
        monkeypatch.setattr(monitoring, "redis_time_ms", hang)
        monkeypatch.setattr(Pool, "workers", hang)
        async with asyncio.timeout(20):
            for path in ("/healthz", "/workers", "/api/workers"):
                assert (await client.get(path)).status_code == 503, path
