"""Threads for plain functions: bounded in number, and none of them keeps the process from ending.

`concurrent.futures.ThreadPoolExecutor` waits for its threads when the interpreter exits, so one job that never returns
would keep a worker from ever stopping.
"""

import ctypes
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ...errors import SoftTimeLimitExceeded

__all__ = ("ThreadRun", "Threads", "called")

_Submitted = tuple["Future[Any]", Callable[[], Any]]


class Threads:
    """A pool of daemon threads, each started when it is first needed.

    :param most: threads at once
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._submitted: queue.SimpleQueue[_Submitted | None] = queue.SimpleQueue()
        self._threads = 0
        self._unmet = 0  # idle threads less calls that wait for one; below 0 another thread is needed

    def submit(self, call: Callable[[], Any]) -> "Future[Any]":
        """Call it in a thread; cancelling the future before a thread is free means that it is never called."""
        future: Future[Any] = Future()
        self._submitted.put((future, call))
        with self._lock:
            self._unmet -= 1
            if self._unmet < 0 and self._threads < self._most:
                self._threads += 1
                self._unmet += 1
                name = f"arqestra-job-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Let idle threads end. What runs cannot be stopped; what waits is not started."""
        while not self._submitted.empty():
            waiting = self._submitted.get()
            if waiting is not None:
                waiting[0].cancel()
        with self._lock:
            threads, self._threads, self._unmet = self._threads, 0, 0
        for _ in range(threads):
            self._submitted.put(None)

    def _work(self) -> None:
        while (submitted := self._submitted.get()) is not None:
            future, call = submitted
            if future.set_running_or_notify_cancel():
                try:
                    value = call()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(value)
            del submitted, future, call  # a thread that waits keeps nothing alive
            with self._lock:
                self._unmet += 1


class ThreadRun:
    """One call in a thread, which can be told that its soft limit is over.

    :param started: called in the thread when the call begins, which may be long after it was submitted
    """

    def __init__(self, function: Callable[[], Any], started: Callable[[], object] | None = None) -> None:
        self._function = function
        self._started = started
        self._lock = threading.Lock()
        self._thread_id: int | None = None

    def __call__(self) -> Any:
        with self._lock:
            self._thread_id = threading.get_ident()
        if self._started is not None:
            self._started()
        try:
            return called(self._function)
        finally:
            self._end()

    def _end(self) -> None:
        """Nothing may be raised in this thread from here on: its next job is another one."""
        while True:
            try:
                with self._lock:
                    if self._thread_id is not None:
                        _raise_in_thread(self._thread_id, None)
                        self._thread_id = None
                return
            except SoftTimeLimitExceeded:  # it came between the function's end and this
                continue

    def warn(self) -> None:
        """Raise `SoftTimeLimitExceeded` in the thread, at its next step in Python code."""
        with self._lock:
            if self._thread_id is not None:
                _raise_in_thread(self._thread_id, SoftTimeLimitExceeded)


def called(function: Callable[[], Any]) -> Any:
    """Call it. What no future can carry becomes an error that says so: one loses it, another ends the event loop."""
    try:
        return function()
    except (StopIteration, KeyboardInterrupt, GeneratorExit) as error:
        raise RuntimeError(f"the job raised {error!r}") from error


def _raise_in_thread(thread_id: int, error: type[BaseException] | None) -> None:
    argument = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), argument)
