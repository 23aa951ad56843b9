"""The event loop that a workflow's function runs in: deterministic, without I/O, with durable timers.

A replay must take the same way through the same code. In the worker's loop the order of things depends on the network.
So a workflow has a loop of its own, which runs what is ready, in order, until nothing is: then the workflow waits. The
execution brings in what happened (a step ended, a timer is over) one event at a time, in the order of the history.
After each event the loop runs until the workflow waits again.

`asyncio.gather`, `TaskGroup`, `timeout`, `sleep`, events and queues work as in any other loop. Time stands still
between two events. A timer is one of the workflow's steps, and outlives the worker. There are no sockets, threads or
processes: what reaches out belongs into a job, or into `flow.side_effect`.

The idea comes from Temporal's Python SDK ("The Workflow Sandbox and event loop").
"""

import asyncio
import collections
import contextlib
import contextvars
import sys
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, NoReturn

__all__ = ("WorkflowLoop", "break_cycle")


class WorkflowLoop(asyncio.AbstractEventLoop):
    """Runs what is ready, and nothing else.

    :param clock_ms: the workflow's time
    :param start_timer: starts a durable timer of so many ms that calls the function; returns what cancels it
    """

    def __init__(
        self, clock_ms: Callable[[], int], start_timer: Callable[[int, Callable[[], None]], Callable[[], None]]
    ) -> None:
        self._clock_ms = clock_ms
        self._start_timer = start_timer
        self._ready: collections.deque[asyncio.Handle] = collections.deque()
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._timers: weakref.WeakKeyDictionary[asyncio.TimerHandle, Callable[[], None]] = weakref.WeakKeyDictionary()
        self._closed = False

    def run_until_waiting(self) -> None:
        """Run what is ready, and what becomes ready by that, until nothing is."""
        with self._in_charge():
            while self._ready:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    with contextlib.suppress(SystemExit, KeyboardInterrupt):  # their task has them already
                        handle._run()
                del handle  # it holds the task, and the traceback of the task's error leads to this frame

    @contextlib.contextmanager
    def _in_charge(self) -> Iterator[None]:
        """Stand in for the worker's loop, and hide the workflow's async generators from it."""
        outer, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
        task = _swap_task(outer, None)
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(None, None)
        try:
            yield
        finally:
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(outer)
            _swap_task(outer, task)

    def discard(self) -> None:
        """End all tasks where they are. The workflow goes on elsewhere, from its history.

        Python runs their `finally` blocks; these can start nothing any more.
        """
        self._closed = True
        with self._in_charge():
            for task in list(self._tasks):
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _close(task.get_coro())
        for task in list(self._tasks):
            break_cycle(task)
        self._ready.clear()
        self._timers.clear()
        now_ms = self._clock_ms()
        # Break the reference cycle between this loop and the execution, whose clock and timers these are.
        self._clock_ms = lambda: now_ms
        self._start_timer = _no_timer

    # -- what asyncio needs ---------------------------------------------------------------------------------------

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._closed:
            self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        if delay <= 0:
            self._ready.append(handle)
        elif not self._closed:
            self._timers[handle] = self._start_timer(max(1, round(delay * 1000)), lambda: self._ready.append(handle))
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self.time(), callback, *args, context=context)

    def time(self) -> float:
        return self._clock_ms() / 1000

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.add(task)
        return task

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """asyncio calls this when nobody waits for the timer any more."""
        cancel = self._timers.pop(handle, None)
        if cancel is not None:
            cancel()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Ignore an exception of a task that the workflow does not await: that is the workflow's own affair."""

    async def shutdown_asyncgens(self) -> None:
        """Nothing is kept of them."""


def _swap_task(loop: asyncio.AbstractEventLoop | None, task: Any) -> Any:
    """Make a task the current one, and return the one before. From Python 3.14 on, a thread has one current task."""
    if loop is None or sys.version_info < (3, 14):
        return None
    return asyncio.tasks._swap_current_task(loop, task)  # as asyncio itself does where it starts a task eagerly


def _no_timer(_ms: int, _over: Callable[[], None]) -> Callable[[], None]:
    return lambda: None


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError(
        "a workflow has no I/O, threads or processes of its own: expected them in a job (flow.run) or in "
        "flow.side_effect"
    )


for _method in (
    *("run_in_executor", "call_soon_threadsafe", "create_connection", "create_datagram_endpoint", "getaddrinfo"),
    *("create_server", "create_unix_connection", "subprocess_exec", "subprocess_shell", "sock_recv", "sock_sendall"),
    *("add_reader", "add_writer", "add_signal_handler"),
):
    setattr(WorkflowLoop, _method, _refuse)


def break_cycle(future: Any) -> None:
    """Break the reference cycle of a future that will not end, what it waits for, and who waits for it."""
    waited_for: Any = getattr(future, "_fut_waiter", None)
    for each in (future, waited_for):
        for callback, _ in getattr(each, "_callbacks", None) or ():
            each.remove_done_callback(callback)
        if sys.version_info >= (3, 14):  # a future knows its waiters for `asyncio.print_call_graph`, too
            for waiter in getattr(each, "_asyncio_awaited_by", None) or ():
                asyncio.future_discard_from_awaited_by(each, waiter)


def _close(coroutine: Any) -> None:
    # It may await in a `finally` block, or be running. Then there is nothing to do.
    with contextlib.suppress(BaseException):
        coroutine.close()
