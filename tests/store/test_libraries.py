"""Libraries of functions that nobody has used for a day go; the one in use, and others' libraries, stay."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis

import arqestra.store.libraries
from arqestra.store.libraries import UNUSED_MS, note_library
from arqestra.store.scripts import library
from arqestra.store.store import Store
from tests.support.replies import reply_of
from tests.support.store_harness import KEYS, StoreHarness

OLD = "arqestra_000000000000"
TEXT = "#!lua name={0}\nredis.register_function('{0}_f', function() return 1 end)"


async def loaded(redis: Redis) -> set[str]:
    entries: Any = await reply_of(redis.execute_command("FUNCTION LIST"))
    return {entry[entry.index(b"library_name") + 1].decode() for entry in entries}


async def answer(ms: int) -> int:
    """What Redis' clock shows."""
    return ms


@pytest.fixture
async def old(harness: StoreHarness) -> str:
    """The library of another version stands beside ours, and a stranger's."""
    await harness.redis.execute_command("FUNCTION", "FLUSH")
    for name in (OLD, "another"):
        await harness.redis.execute_command("FUNCTION", "LOAD", TEXT.format(name))
    await harness.redis.execute_command("FUNCTION", "LOAD", library().text)
    return OLD


async def test_a_library_that_nobody_uses_goes_after_a_day(
    harness: StoreHarness, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = harness.clock.now_ms
    monkeypatch.setattr(arqestra.store.libraries, "redis_time_ms", lambda _: answer(now_ms))
    assert await note_library(harness.store) == []
    now_ms += UNUSED_MS - 1
    assert await note_library(harness.store) == []
    now_ms += 2
    assert await note_library(harness.store) == [old]

    assert await loaded(harness.redis) == {library().name, "another"}
    assert await reply_of(harness.redis.hkeys(KEYS.libraries)) == [library().name.encode()]
    assert await harness.redis.pttl(KEYS.libraries) > UNUSED_MS


async def test_a_library_that_another_version_notes_stays(
    harness: StoreHarness, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = harness.clock.now_ms
    monkeypatch.setattr(arqestra.store.libraries, "redis_time_ms", lambda _: answer(now_ms))
    await note_library(harness.store)
    now_ms += 2 * UNUSED_MS
    await reply_of(harness.redis.hset(KEYS.libraries, old, str(now_ms - 1)))

    assert await note_library(harness.store) == []
    assert old in await loaded(harness.redis)


async def test_who_still_uses_a_deleted_library_gets_it_again(harness: StoreHarness, old: str) -> None:
    await harness.enqueue("a")
    await harness.redis.execute_command("FUNCTION", "DELETE", library().name)
    assert await harness.enqueue("b") == [True]


async def test_a_connection_of_resp3_tells_the_same(harness: StoreHarness, old: str) -> None:
    async with Redis.from_pool(ConnectionPool(**harness.redis.connection_pool.connection_kwargs, protocol=3)) as redis:
        store = Store(redis)
        try:
            assert await note_library(store) == []
        finally:
            await store.close()
    assert set(await reply_of(harness.redis.hkeys(KEYS.libraries))) == {old.encode(), library().name.encode()}
