"""Live updates as server-sent events: one read of Redis a second for all open pages, none while no page is open."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ("Hub",)

logger = logging.getLogger("arq.dashboard")

INTERVAL_S = 0.8  # workers write once a second, and a page must not be more than two seconds late
SILENCE_S = 15.0  # a proxy may close a connection that is silent for longer


class Hub:
    """Reads while somebody follows, and sends the result to all followers.

    :param read: reads what followers get, as JSON
    :param interval_s: between two reads
    :ivar reads: how often it has read
    """

    def __init__(self, read: Callable[[], Awaitable[bytes]], interval_s: float = INTERVAL_S) -> None:
        self._read = read
        self._interval_s = interval_s
        self._followers = 0
        self._latest = b""
        self._changed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._closed = False
        self.reads = 0

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Events from now on, encoded as server-sent events."""
        self._followers += 1
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_repeatedly())
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
            if not self._followers and self._reader is not None:
                self._reader.cancel()
                self._reader = None
                self._latest = b""

    async def _read_repeatedly(self) -> None:
        while True:
            try:
                self._latest = await self._read()
            except Exception as error:  # Redis may be away for a while; the next read may succeed
                logger.warning("dashboard: no reading: %s: %s", type(error).__name__, error)
            else:
                self.reads += 1
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
            await asyncio.sleep(self._interval_s)

    async def close(self) -> None:
        """Stop reading, and end the streams of all followers."""
        self._closed = True
        self._changed.set()
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
            self._reader = None


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
