"""Live updates as server-sent events: one reading a second for all open pages, and none while none is open."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ("Hub",)

logger = logging.getLogger("arq.dashboard")

INTERVAL_S = 0.8  # workers count once a second, and nobody is to wait longer than two
SILENCE_S = 15.0  # after which a proxy may think that a connection is dead


class Hub:
    """Reads while somebody follows.

    :param read: what followers are told, as JSON
    :param interval_s: between two readings
    """

    def __init__(self, read: Callable[[], Awaitable[bytes]], interval_s: float = INTERVAL_S) -> None:
        self._read = read
        self._interval_s = interval_s
        self._followers = 0
        self._latest = b""
        self._changed = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._closed = False
        self.readings = 0

    async def follow(self) -> AsyncIterator[bytes]:
        """Events from now on, as they go over the line."""
        self._followers += 1
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_on())
        try:
            yield b"retry: 2000\n\n"
            if self._latest:
                yield _event(self._latest)
            while not self._closed:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        await self._changed.wait()
                except TimeoutError:
                    yield b": still there\n\n"
                    continue
                if not self._closed:
                    yield _event(self._latest)
        finally:
            self._followers -= 1
            if not self._followers and self._reading is not None:
                self._reading.cancel()
                self._reading = None
                self._latest = b""

    async def _read_on(self) -> None:
        while True:
            try:
                self._latest = await self._read()
            except Exception as error:  # Redis may be away for a while; the next reading may succeed
                logger.warning("dashboard: no reading: %s: %s", type(error).__name__, error)
            else:
                self.readings += 1
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
            await asyncio.sleep(self._interval_s)

    async def close(self) -> None:
        """Stop reading, and end what followers follow."""
        self._closed = True
        self._changed.set()
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
            self._reading = None


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
