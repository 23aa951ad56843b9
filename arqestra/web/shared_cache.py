"""A cache that open pages share: Redis is read once a second for all of them, not once for each."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

__all__ = ("SharedCache",)

T = TypeVar("T")
FRESH_S = 1.0
MAX_ENTRIES = 500
MAX_READ_S = 30.0  # a read that takes longer has failed, and the next request tries again


class SharedCache:
    """Values by key, each at most a second old. Requests for a value that is being read wait for that one read.

    :param clock: the time in seconds, for tests
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Hashable, tuple[float, asyncio.Future[Any]]] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]], fresh_s: float = FRESH_S) -> T:
        """The value of a key; reads it if there is no fresh one.

        :param fresh_s: the age in seconds up to which a value is fresh
        """
        now_s = self._clock()
        known = self._known.get(key)
        # Wait for a read that still runs, however long it takes: do not ask a Redis that hangs again and again.
        if known is None or (known[1].done() and (now_s - known[0] > fresh_s or _failed(known[1]))):
            self._drop_oldest()
            known = self._known[key] = (now_s, asyncio.ensure_future(_bounded(read)))
        value: T = await asyncio.shield(known[1])
        return value

    def forget(self) -> None:
        """Forget all values: an action has changed something."""
        self._known.clear()

    def _drop_oldest(self) -> None:
        if len(self._known) >= MAX_ENTRIES:
            for key in sorted(self._known, key=lambda each: self._known[each][0])[: MAX_ENTRIES // 2]:
                del self._known[key]


async def _bounded(read: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(MAX_READ_S):
        return await read()


def _failed(future: asyncio.Future[Any]) -> bool:
    return future.cancelled() or future.exception() is not None
