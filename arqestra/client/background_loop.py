"""One event loop in a thread of its own, for code that has none: `SyncPool` runs there.

There is one for each process. It starts with the first call, and ends when the process does. A process that is forked
makes its own; the copy of its parent's loop, and all that belongs to it, is left alone for ever. Closing it would take
the parent's sockets out of an epoll that both share.

A call is handed over by `call_soon_threadsafe`, and its thread sleeps on a lock that the loop releases. That takes half
the time of `asyncio.run_coroutine_threadsafe`, whose future has a condition, a list of waiters, and callbacks.
"""

import asyncio
import atexit
import contextvars
import logging
import multiprocessing.util
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError

from ..store.scripts import library

__all__ = ("BackgroundLoop", "Resource", "background_loop", "is_running")

logger = logging.getLogger("arq.connections")

T = TypeVar("T")

try:
    import uvloop
except ImportError:  # there is none for Windows
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop

CLOSE_LIMIT_S = 30.0  # for all that is open, when the process ends
END_LIMIT_S = 2.0  # for the thread itself


class Resource(Protocol):
    """What is to be closed before the loop ends."""

    async def close(self) -> None:
        """Close it, within a limit of its own."""


class _Waiter(Generic[T]):
    """A thread that sleeps until its call on the loop has ended.

    :ivar ended: locked until the call has ended
    :ivar call: that is under way, once the loop has begun it
    :ivar gave_up: the thread does not wait any more
    """

    __slots__ = ("_error", "_value", "call", "ended", "gave_up")

    def __init__(self) -> None:
        self.ended = threading.Lock()
        self.ended.acquire()
        self._value: T
        self._error: BaseException | None = None
        self.call: asyncio.Future[Any] | None = None
        self.gave_up = False

    def succeed(self, value: T) -> None:
        """The call has returned: wake the thread."""
        self._value = value
        self.ended.release()

    def fail(self, error: BaseException) -> None:
        """The call has raised: wake the thread."""
        self._error = error
        self.ended.release()

    def outcome(self) -> T:
        """What the call has returned, or raised."""
        if self._error is None:
            return self._value
        error, self._error = self._error, None
        try:
            raise error
        finally:
            del error  # break the reference cycle of its traceback and this frame


class BackgroundLoop:
    """An event loop that runs in a daemon thread.

    :ivar resources: what is closed when the process ends
    """

    def __init__(self) -> None:
        self.resources: set[Resource] = set()
        self._is_ending = False
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._run_forever, name="arqestra", daemon=True)
        self._thread.start()

    def run(self, call: Callable[[], Coroutine[Any, Any, T]], limit_s: float = -1) -> T:
        """Run a call on the loop, in the context of the caller, and wait for its end.

        :param call: makes the coroutine
        :param limit_s: seconds to wait at most; default without a limit
        :raises RuntimeError: the caller runs on that loop itself, and would wait for itself
        """
        waiter: _Waiter[T] = _Waiter()  # `_Waiter[T]()` would take as long as all of the rest
        return self._wait(waiter, self._begin, call, limit_s)

    def run_future(self, begin: Callable[[], asyncio.Future[T]]) -> T:
        """As `run`, of what needs no task: something that begins at once and gives a future."""
        waiter: _Waiter[T] = _Waiter()
        return self._wait(waiter, self._begin_future, begin, -1)

    def submit(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run a call on the loop, from any thread, and do not wait."""
        self._loop.call_soon_threadsafe(self._begin, call, _Waiter(), context=contextvars.Context())

    def end(self) -> None:
        """Close all resources and end the thread, within limits. Daemon threads that call meanwhile sleep on."""
        try:
            self.run(self._close_resources, CLOSE_LIMIT_S)
        except TimeoutError as error:
            logger.warning("closing the connections of SyncPool: %s", error)
        self._is_ending = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_LIMIT_S)

    def _wait(self, waiter: _Waiter[T], begin: Callable[..., None], call: Callable[[], Any], limit_s: float) -> T:
        """Hand a call over, and sleep until it has ended."""
        if threading.get_ident() == self._thread.ident:
            raise RuntimeError(
                "expected a call from another thread than that of arqestra's event loop (from a middleware or a "
                "serializer of a SyncPool?): it would wait for itself"
            )
        sleep = waiter.ended.acquire
        try:
            self._loop.call_soon_threadsafe(begin, call, waiter, context=contextvars.copy_context())
            has_ended = sleep(True, limit_s)  # nothing before it: the loop has woken up, and waits for the GIL
        except BaseException:
            if self._loop.is_closed():
                _sleep_until_the_end()
            self._loop.call_soon_threadsafe(_give_up, waiter)  # a signal handler has raised, such as that of Ctrl-C
            raise
        if not has_ended:
            self._loop.call_soon_threadsafe(_give_up, waiter)
            raise TimeoutError(f"expected the event loop of arqestra to answer within {limit_s:g} s")
        return waiter.outcome()

    def _begin(self, call: Callable[[], Coroutine[Any, Any, T]], waiter: _Waiter[T]) -> None:
        if not waiter.gave_up and not self._is_ending:
            waiter.call = self._loop.create_task(self._answer(call, waiter))

    async def _answer(self, call: Callable[[], Coroutine[Any, Any, T]], waiter: _Waiter[T]) -> None:
        try:
            value = await call()
        except asyncio.CancelledError:
            self._answer_cancelled(waiter)
        except BaseException as error:  # also what a job raised, such as SystemExit: it would end this loop
            waiter.fail(error)
        else:
            waiter.succeed(value)

    def _begin_future(self, begin: Callable[[], asyncio.Future[T]], waiter: _Waiter[T]) -> None:
        def answer(future: asyncio.Future[T]) -> None:
            if future.cancelled():
                self._answer_cancelled(waiter)
            elif (error := future.exception()) is not None:
                waiter.fail(error)
            else:
                waiter.succeed(future.result())

        if not waiter.gave_up and not self._is_ending:
            try:
                waiter.call = begin()
            except BaseException as error:
                waiter.fail(error)
            else:
                waiter.call.add_done_callback(answer)

    def _answer_cancelled(self, waiter: _Waiter[Any]) -> None:
        if not self._is_ending:  # else the thread sleeps until the process is gone
            waiter.fail(RedisConnectionError("this SyncPool was closed during the call"))

    async def _close_resources(self) -> None:
        self._is_ending = True
        await asyncio.gather(*(resource.close() for resource in self.resources))

    async def _cancel_tasks(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run_forever(self) -> None:
        while not self._is_ending:
            try:
                self._loop.run_forever()
            except BaseException:  # a callback has raised SystemExit or the like: others still wait for this loop
                logger.exception("an error in the event loop of arqestra, which goes on")
        self._loop.run_until_complete(self._cancel_tasks())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def _give_up(waiter: _Waiter[Any]) -> None:
    waiter.gave_up = True
    if waiter.call is not None:
        waiter.call.cancel()


_current: BackgroundLoop | None = None
_of_parents: list[BackgroundLoop] = []
_has_ended = False  # the process has begun to end
# A fork waits for it: if another thread were importing then, the child could never import the same module. A signal
# handler may come in between, and call too.
_starting = threading.RLock()


def background_loop() -> BackgroundLoop:
    """The loop of this process. The first call starts it.

    :raises RuntimeError: threads are none: gevent or eventlet has replaced them
    """
    global _current
    loop = _current
    if loop is not None:
        return loop
    if _has_ended and threading.current_thread().daemon:
        _sleep_until_the_end()
    _refuse_green_threads()
    with _starting:
        if _current is None:
            library()  # reading its files imports modules
            _current = BackgroundLoop()
            _end_with_a_process_of_multiprocessing()
        return _current


def _sleep_until_the_end() -> None:
    """The process ends in a moment, and this daemon thread with it: an error would only be noise."""
    threading.Event().wait()


def is_running(loop: BackgroundLoop) -> bool:
    """Whether it is that of this process, and has not ended."""
    return loop is _current


def _refuse_green_threads() -> None:
    """An event loop in a greenlet would never give way to the others."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        raise RuntimeError("SyncPool: expected threads of the system, gevent has replaced them by greenlets")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        raise RuntimeError("SyncPool: expected threads of the system, eventlet has replaced them by greenlets")


def _before_fork() -> None:
    _starting.acquire()


def _after_fork_in_parent() -> None:
    _starting.release()


def _after_fork_in_child() -> None:
    global _current, _has_ended, _starting
    _starting, _has_ended = threading.RLock(), False
    if _current is not None:
        _of_parents.append(_current)
        _current = None


def _end_with_the_process() -> None:
    global _current, _has_ended
    _has_ended = True
    loop, _current = _current, None
    if loop is not None:
        loop.end()


def _end_with_a_process_of_multiprocessing() -> None:
    """Its processes do not call what is registered at `atexit` (before Python 3.13), but finalizers of their own."""
    if multiprocessing.parent_process() is not None:
        multiprocessing.util.Finalize(None, _end_with_the_process, exitpriority=0)


atexit.register(_end_with_the_process)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
