"""The asynchronous pool behind a `SyncPool`: connected when it is first used, once for each process."""

import asyncio
import contextvars
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError

from ..definitions.function import Call
from ..errors import JobCancelled
from ..store.records import EnqueueResult, NewJob
from .background_loop import BackgroundLoop, background_loop, is_running
from .pool import Pool

__all__ = ("OpenPool", "SyncConnection")

T = TypeVar("T")
Connect = Callable[[], Coroutine[Any, Any, Pool]]

CALLS_LIMIT_S = 20.0  # that `close` gives the calls under way


class OpenPool:
    """A pool in the background loop of one process.

    :param loop: where it lives
    :param pool: connected
    """

    def __init__(self, loop: BackgroundLoop, pool: Pool) -> None:
        self.loop, self.pool = loop, pool
        self._is_closed = False
        self._calls: set[asyncio.Future[Any]] = set()  # that end within limits of their own
        self._waits: set[asyncio.Future[Any]] = set()  # for jobs, maybe for ever
        loop.resources.add(self)

    async def run(self, call: Callable[[Pool], Awaitable[T]], is_wait: bool) -> T:
        """Run a call of the pool."""
        self._check_open()
        task = asyncio.current_task()
        assert task is not None
        under_way = self._waits if is_wait else self._calls
        under_way.add(task)
        try:
            return await call(self.pool)
        except asyncio.CancelledError as error:
            if task.cancelling():
                raise
            raise JobCancelled(*error.args) from error.__cause__
        finally:
            under_way.discard(task)

    def put(self, call: Call[Any], new: NewJob) -> asyncio.Future[EnqueueResult]:
        """Enqueue a job that is encoded already."""
        self._check_open()
        stored = self.pool.put(new)
        self._calls.add(stored)

        def end(stored: asyncio.Future[EnqueueResult]) -> None:
            self._calls.discard(stored)
            if not stored.cancelled() and stored.exception() is None and stored.result() is True:
                self.pool.store.enqueued.add(new.queue, call.name)

        stored.add_done_callback(end)
        return stored

    async def close(self) -> None:
        """End the waits, let the calls end, and close the connections."""
        self._is_closed = True
        self.loop.resources.discard(self)
        for wait in self._waits:
            wait.cancel()
        if under_way := self._waits | self._calls:
            await asyncio.wait(under_way, timeout=CALLS_LIMIT_S)
        for call in self._calls:
            call.cancel()
        await self.pool.aclose()

    def _check_open(self) -> None:
        if self._is_closed:
            raise RedisConnectionError("this SyncPool was closed during the call")


class SyncConnection:
    """Runs calls of a pool on the background loop. Pool and handles of one `SyncPool` share it.

    :param connect: makes the pool
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._opened: OpenPool | None = None
        self._opening: asyncio.Task[OpenPool] | None = None

    def open(self) -> OpenPool:
        """The pool of this process. It connects with the first call; after a failure the next call tries again."""
        opened, loop = self._opened, background_loop()
        if opened is None or opened.loop is not loop:
            opened = loop.run(partial(self._open_once, loop))
        return opened

    async def _open_once(self, loop: BackgroundLoop) -> OpenPool:
        """Connect, once for all threads that ask at the same time."""
        opened, opening, here = self._opened, self._opening, asyncio.get_running_loop()
        if opened is not None and opened.loop is loop:
            return opened
        if opening is None or opening.done() or opening.get_loop() is not here:
            # Not in the context of a caller, which would live as long as the connection.
            opening = self._opening = here.create_task(self._open(loop), context=contextvars.Context())
            opening.add_done_callback(_take_note)
        return await asyncio.shield(opening)

    async def _open(self, loop: BackgroundLoop) -> OpenPool:
        opened = self._opened = OpenPool(loop, await self._connect())
        return opened

    def run(self, call: Callable[[Pool], Awaitable[T]], *, is_wait: bool = False) -> T:
        """Run a call of the pool, and wait for its end.

        :param is_wait: it waits for a job, so that `close` does not wait for it
        :raises JobCancelled: the job that it waited for was aborted; async code gets a `CancelledError`
        """
        opened = self.open()
        return opened.loop.run(partial(opened.run, call, is_wait))

    def iterate(self, begin: Callable[[Pool], AsyncIterator[T]]) -> Iterator[T]:
        """The items of an asynchronous iterator, each time waiting for the next one."""
        opened, end = self.open(), object()
        items: AsyncIterator[T] = begin(opened.pool)

        async def next_item(_: Pool) -> Any:
            return await anext(items, end)

        try:
            while (item := opened.loop.run(partial(opened.run, next_item, True))) is not end:
                yield item
        finally:
            if is_running(opened.loop):
                opened.loop.submit(partial(_close_iterator, items))

    def close(self) -> None:
        """Close the connections of this process. A later call makes new ones."""
        opened, self._opened = self._opened, None
        if opened is not None and is_running(opened.loop):
            opened.loop.run(opened.close)

    def __del__(self) -> None:
        opened = getattr(self, "_opened", None)
        if opened is not None and is_running(opened.loop):
            warnings.warn("a SyncPool was dropped without `pool.close()`", ResourceWarning, stacklevel=2)
            opened.loop.submit(opened.close)


def _take_note(opening: asyncio.Task[OpenPool]) -> None:
    """All who asked for it may have given up; asyncio is not to complain that nobody has seen its error."""
    if not opening.cancelled():
        opening.exception()


async def _close_iterator(items: Any) -> None:
    await items.aclose()
