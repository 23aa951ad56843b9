"""Where the state machine runs: one loop, one connection, one subscriber to the workers' channels.

Each example begins with an empty Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from redis.asyncio import Redis

from tests.support.store_harness import KEYS, QUEUE, StoreHarness, Subscriber, worker_subscriber

T = TypeVar("T")


class PropertyHarness:
    """The real thing beside the model. Synchronous outside, as Hypothesis is."""

    def __init__(self, url: str, workers: tuple[str, ...]) -> None:
        self._runner = asyncio.Runner()
        self._redis: Redis = Redis.from_url(url)
        self._subscriber: Subscriber = worker_subscriber(self._redis, *workers)
        self.run(self._subscriber.__aenter__())
        self.store_harness = StoreHarness(self._redis)

    def run(self, awaited: Awaitable[T]) -> T:
        async def run() -> T:
            return await awaited

        return self._runner.run(run())

    def clear(self) -> StoreHarness:
        """An empty Redis and a store whose clock starts near the real one."""

        async def clear() -> StoreHarness:
            await self._subscriber.heard()
            await self._redis.flushdb()
            await self.store_harness.store.close()
            return StoreHarness(self._redis)

        self.store_harness = self.run(clear())
        return self.store_harness

    def close(self) -> None:
        async def close() -> None:
            await self.store_harness.store.close()
            await self._subscriber.__aexit__()
            await self._redis.aclose()

        self.run(close())
        self._runner.close()

    def heard(self) -> list[tuple[str, str]]:
        """Workers and messages since the last time, but for those to a timer owner."""
        heard = self.run(self._subscriber.heard())
        prefix = KEYS.worker_channel("")
        return [
            (channel.removeprefix(prefix), word)
            for channel, words in heard.items()
            for word in words
            if word.startswith(("wake", "job "))
        ]

    def keys(self) -> dict[str, object]:
        """All that Redis holds, in the form of `Model.as_redis`."""
        return self.run(self._keys())

    async def _keys(self) -> dict[str, object]:
        names = sorted(key.decode() for key in await self._redis.keys("*"))
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                self._read(pipe, name)
            replies = await pipe.execute()
        return {name: _plain(name, reply) for name, reply in zip(names, replies, strict=True)}

    @staticmethod
    def _read(pipe: Any, name: str) -> None:
        if name in (QUEUE, KEYS.aborts, KEYS.dead(QUEUE), KEYS.waiting(QUEUE)):
            pipe.zrange(name, 0, -1, withscores=True)
        elif name.startswith(KEYS.dead_results("")):
            pipe.hgetall(name)
        else:
            pipe.get(name)


def _plain(name: str, reply: Any) -> object:
    if isinstance(reply, list):
        return {member.decode(): int(score) for member, score in reply}
    if isinstance(reply, dict):
        return {field.decode(): value for field, value in reply.items()}
    is_text = name.startswith((KEYS.lease_prefix, KEYS.attempts_prefix, KEYS.offer("")))
    return reply.decode() if is_text else reply
