"""Where plain functions run: the bounded pool of threads, and a pool of processes that can be killed."""

import asyncio
import contextvars
import importlib
import inspect
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from arq.jobs import SerializationError

from ...definitions.context import JobContext
from ...errors import RemoteError, SettingsError, SoftTimeLimitExceeded
from ...protocol.attempt_errors import type_and_message
from .threads import ThreadRun, Threads, called

if TYPE_CHECKING:
    from pebble import ProcessPool

__all__ = ("Executors",)

JOIN_S = 5.0


class Executors:
    """The pools of one worker, made when they are first used.

    :param threads: calls that run at once in threads
    :param processes: calls that run at once in processes; None for the number of processors
    :param max_calls_per_process: calls after which a process is replaced; None for never
    """

    def __init__(self, threads: int, processes: int | None, max_calls_per_process: int | None) -> None:
        self._threads = Threads(threads)
        self._processes_max = processes or os.cpu_count() or 1
        self._max_calls = max_calls_per_process or 0
        self._processes: ProcessPool | None = None

    async def in_thread(self, run: ThreadRun) -> Any:
        """Call in a thread, with the caller's context variables."""
        context = contextvars.copy_context()
        return await asyncio.wrap_future(self._threads.submit(partial(context.run, run)))

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
        :raises RemoteError: what the function raised cannot be pickled
        """
        __tracebackhide__ = True  # Sentry would tell the arguments, which are variables here
        ctx, args, kwargs = call
        run = partial(_run_in_child, function.__module__, function.__qualname__, soft_timeout_s)
        pool = self._process_pool()
        future = pool.schedule(run, args=(picklable(ctx), args, kwargs), timeout=timeout_s)
        try:
            data: bytes = await asyncio.wrap_future(future)
        except TimeoutError as error:
            if error.args[:1] == ("Task timeout",):  # pebble's
                raise TimeoutError(f"the job ran over its time limit of {timeout_s:g} s") from error
            raise
        return pickle.loads(data)

    def _process_pool(self) -> "ProcessPool":
        if self._processes is not None and not self._processes.active:  # it broke: pebble does not mend it
            self._processes.stop()  # type: ignore[no-untyped-call]
            self._processes = None
        if self._processes is None:
            from pebble import ProcessPool  # few workers have such jobs, and it takes its time to import

            self._processes = ProcessPool(
                max_workers=self._processes_max,
                max_tasks=self._max_calls,
                initializer=_end_with_parent,
                context=multiprocessing.get_context("spawn"),
            )
        return self._processes

    async def close(self) -> None:
        """Let go of the pools: what runs in a process is killed; a thread cannot be."""
        self._threads.close()
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


def _end_with_parent() -> None:
    """In the child: a worker that was killed leaves no process behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="arqestra-parent", daemon=True).start()


def _run_in_child(
    module: str, qualname: str, soft_timeout_s: float | None, ctx: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bytes:
    """In the child: find the function, which may be decorated, and call it.

    :returns: the value, pickled here: a value that cannot be sent must fail its job alone, not the pool
    """
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    function = getattr(found, "sync_function", None) or found
    if not callable(function):
        raise SettingsError(
            f"executor='process': expected {module}.{qualname} to be found by that name in another process"
        )
    try:
        return _pickled(
            _within_soft_limit(partial(_finished, function, JobContext(ctx), *args, **kwargs), soft_timeout_s)
        )
    except BaseException as error:  # what cannot be sent would end the process, and with it those of other jobs
        raise _sendable(error) from error.__cause__


def _finished(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a function gives; of a coroutine function behind a plain decorator what its coroutine gives."""
    value = function(*args, **kwargs)
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Any) -> Any:
    while inspect.isawaitable(value):
        value = await value
    return value


def _within_soft_limit(function: Callable[[], Any], soft_timeout_s: float | None) -> Any:
    if soft_timeout_s is None:
        return called(function)

    def warn(*_: object) -> None:
        raise SoftTimeLimitExceeded(soft_timeout_s)

    signal.signal(signal.SIGALRM, warn)
    signal.setitimer(signal.ITIMER_REAL, soft_timeout_s)
    try:
        return called(function)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:
        raise SerializationError(
            f"executor='process': expected a result that can be pickled, got {type(value).__name__}: {error}"
        ) from None


def _sendable(error: BaseException) -> BaseException:
    """The error, or its description if the worker could not rebuild it; of a group that of each such error in it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        if isinstance(error, BaseExceptionGroup) and type(error) in (ExceptionGroup, BaseExceptionGroup):
            group: BaseExceptionGroup[BaseException] = error.derive([_sendable(each) for each in error.exceptions])
            return group
        return RemoteError(*type_and_message(error))
    return error
