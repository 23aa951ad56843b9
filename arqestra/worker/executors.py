"""Where plain functions run: a bounded pool of threads, and a pool of processes that can be killed."""

import asyncio
import contextvars
import ctypes
import importlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from pebble import ProcessPool

from ..errors import SettingsError, SoftTimeLimitExceeded

__all__ = ("Executors", "ThreadRun")

JOIN_S = 5.0


class ThreadRun:
    """One call in a thread, which can be told that its soft limit is over."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._thread_id: int | None = None

    def __call__(self) -> Any:
        with self._lock:
            self._thread_id = threading.get_ident()
        try:
            return self._function()
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


def _raise_in_thread(thread_id: int, error: type[BaseException] | None) -> None:
    argument = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), argument)


class Executors:
    """The pools of one worker, made when they are first used.

    :param threads: calls that run at once in threads
    :param processes: calls that run at once in processes; None for the number of processors
    :param max_calls_per_process: calls after which a process is replaced; None for never
    """

    def __init__(self, threads: int, processes: int | None, max_calls_per_process: int | None) -> None:
        self._threads_max = threads
        self._processes_max = processes or os.cpu_count() or 1
        self._max_calls = max_calls_per_process or 0
        self._threads: ThreadPoolExecutor | None = None
        self._processes: ProcessPool | None = None

    async def in_thread(self, run: ThreadRun) -> Any:
        """Call in a thread, with the caller's context variables."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._threads_max, thread_name_prefix="arqestra-job")
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, run)

    async def in_process(
        self,
        function: Callable[..., Any],
        call: tuple[Mapping[Any, Any], tuple[Any, ...], Mapping[str, Any]],
        timeout_s: float | None,
        soft_timeout_s: float | None,
    ) -> Any:
        """Call in a process, which is killed at the time limit and when the caller is cancelled.

        :param function: found in the process by its module and qualified name
        :param call: ctx, as far as it can be pickled, and the arguments
        :raises TimeoutError: the limit was reached
        :raises pebble.ProcessExpired: the process died
        """
        ctx, args, kwargs = call
        if self._processes is None:
            self._processes = ProcessPool(
                max_workers=self._processes_max,
                max_tasks=self._max_calls,
                context=multiprocessing.get_context("spawn"),
            )
        run = partial(_run_in_child, function.__module__, function.__qualname__, soft_timeout_s)
        future = self._processes.schedule(run, args=(picklable(ctx), args, kwargs), timeout=timeout_s)
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Let go of the pools: what runs in a process is killed; a thread cannot be."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        if self._processes is not None:
            pool, self._processes = self._processes, None
            pool.stop()  # type: ignore[no-untyped-call]
            await asyncio.to_thread(pool.join, JOIN_S)


def picklable(ctx: Mapping[Any, Any]) -> dict[Any, Any]:
    """The entries that can be sent to another process."""
    sent: dict[Any, Any] = {}
    for name, value in ctx.items():
        try:
            pickle.dumps((name, value))
        except Exception:
            continue
        sent[name] = value
    return sent


def _run_in_child(
    module: str, qualname: str, soft_timeout_s: float | None, ctx: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """In the child: find the function, which may be decorated, and call it."""
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    function = getattr(found, "plain", None) or found
    if not callable(function):
        raise SettingsError(
            f"executor='process': expected {module}.{qualname} to be found by that name in another process"
        )
    if soft_timeout_s is not None:
        signal.signal(signal.SIGALRM, _on_soft_limit)
        signal.setitimer(signal.ITIMER_REAL, soft_timeout_s)
    try:
        return function(ctx, *args, **kwargs)
    finally:
        if soft_timeout_s is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _on_soft_limit(*_: object) -> None:
    raise SoftTimeLimitExceeded
