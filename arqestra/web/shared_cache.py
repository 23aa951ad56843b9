"""Readings that are shared: however many pages are open, Redis is asked once a second for what they have in common."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

__all__ = ("Readings",)

T = TypeVar("T")
FRESH_S = 1.0
MAX_ENTRIES = 500
LONGEST_S = 30.0  # that a reading may take: then the next one tries again


class Readings:
    """Values by key, each at most a second old. Who asks while one is being read waits for it.

    :param clock: seconds, for tests
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Hashable, tuple[float, asyncio.Future[Any]]] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]], fresh_s: float = FRESH_S) -> T:
        """The value of a key, read if there is none that is fresh.

        :param fresh_s: for how long it is
        """
        now_s = self._clock()
        known = self._known.get(key)
        # One that still runs is waited for, however long it has: a Redis that hangs is not asked again and again.
        if known is None or (known[1].done() and (now_s - known[0] > fresh_s or _failed(known[1]))):
            self._drop_oldest()
            known = self._known[key] = (now_s, asyncio.ensure_future(_bounded(read)))
        value: T = await asyncio.shield(known[1])
        return value

    def forget(self) -> None:
        """An action has changed something: what was read is old."""
        self._known.clear()

    def _drop_oldest(self) -> None:
        if len(self._known) >= MAX_ENTRIES:
            for key in sorted(self._known, key=lambda each: self._known[each][0])[: MAX_ENTRIES // 2]:
                del self._known[key]


async def _bounded(read: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(LONGEST_S):
        return await read()


def _failed(future: asyncio.Future[Any]) -> bool:
    return future.cancelled() or future.exception() is not None
