"""Calling a job function: in the event loop, in a thread or in a process, with its soft limit and its middleware."""

import asyncio
import inspect
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import AsyncExitStack
from contextvars import copy_context
from functools import partial
from typing import Any

from ...definitions.job_options import JobOptions
from ...errors import SoftTimeLimitExceeded
from .attempt import Attempt, SoftLimit
from .context import RunContext
from .observed import run_observed
from .outcome import CancelReason, wish_of
from .threads import ThreadRun
from .updates import NO_RESULT, encode_value

__all__ = ("invoke", "is_unfinished", "resolved")

GENERATORS = (types.GeneratorType, types.AsyncGeneratorType)


async def invoke(run: RunContext, attempt: Attempt) -> Any:
    """Call a function that is more than a plain coroutine function; those are called by `execute.call` itself."""
    if attempt.options.observed is None:
        return await _within_middleware(run, attempt)

    async def shown() -> Any:
        value = await _within_middleware(run, attempt)
        if not isinstance(value, NO_RESULT):
            encode_value(run, attempt, value)  # so that the wrappers hear of it if that fails the job
        return value

    return await run_observed(run, attempt, shown)


async def _within_middleware(run: RunContext, attempt: Attempt) -> Any:
    if not run.options.middleware:
        return await _within_soft_limit(run, attempt)
    wish: BaseException | None = None
    try:
        async with AsyncExitStack() as stack:
            attempt.carry = {}
            view = attempt.view()
            for middleware in run.options.middleware:
                await stack.enter_async_context(middleware.around_run(view))
            try:
                value = await _within_soft_limit(run, attempt)
                if not isinstance(value, NO_RESULT):
                    encode_value(run, attempt, value)  # so that the middleware hears of it if that fails the job
                return value
            except BaseException as error:
                if is_asked_for(run, attempt, error):
                    wish = error
                raise
        if wish is not None:
            raise wish
        attempt.result = None
        return None  # a middleware swallowed the job's error
    finally:
        wish = None  # its traceback holds this frame: a circle otherwise


def is_asked_for(run: RunContext, attempt: Attempt, error: BaseException) -> bool:
    """What no middleware can swallow: it is no error, but what the job or somebody else asked for."""
    interrupted = attempt.reason not in (None, CancelReason.TIMEOUT) or run.is_stopping()
    return interrupted or isinstance(error, asyncio.CancelledError) or wish_of(error) is not None


async def _within_soft_limit(run: RunContext, attempt: Attempt) -> Any:
    job_options, function = attempt.options.job_options, attempt.options.function
    assert function is not None
    if job_options is None or job_options.executor == "loop":
        observed = attempt.options.observed
        target = function.coroutine if observed is None else observed.bare
        called = target(attempt.ctx, *attempt.args, **attempt.kwargs)
        return await _in_the_loop(run, attempt, called, None if job_options is None else job_options.soft_timeout_s)
    sync_function = function.sync_function  # type: ignore[union-attr] # a function with an executor is a JobFunction
    assert sync_function is not None
    if job_options.executor == "thread":
        call_s = run.loop.time()
        bound = partial(sync_function, attempt.ctx, *attempt.args, **attempt.kwargs)
        value = await _in_a_thread(run, bound, job_options)
        if not is_unfinished(value):
            return value
        # A coroutine function behind a plain decorator: the decorator ran in the thread, the coroutine runs here.
        left_s = job_options.soft_timeout_s and max(0.0, job_options.soft_timeout_s - (run.loop.time() - call_s))
        return await _in_the_loop(run, attempt, value, left_s)
    call = (attempt.ctx, attempt.args, attempt.kwargs)
    return await run.executors.in_process(sync_function, call, attempt.options.timeout_s, job_options.soft_timeout_s)


async def _in_the_loop(run: RunContext, attempt: Attempt, called: Any, soft_s: float | None) -> Any:
    """Await what a call gave, with a soft limit if there is one."""
    if soft_s is None:
        return await resolved(called)
    timer = run.loop.call_later(soft_s, attempt.warn)
    try:
        return await _driven(resolved(called), attempt, soft_s)
    finally:
        timer.cancel()


def is_unfinished(value: Any) -> bool:
    """Whether what a call gave is no value yet: a coroutine or another awaitable, or a generator."""
    kind = type(value)
    return hasattr(kind, "__await__") or kind in GENERATORS


async def resolved(value: Any) -> Any:
    """Await what came back, and what comes out of that: a job is complete when its code has run.

    :raises TypeError: it is a generator, of which nothing has run
    """
    while inspect.isawaitable(value):
        value = await value
    if type(value) in GENERATORS:
        raise TypeError(
            f"expected a function that returns its result, got a generator: nothing of {value.__qualname__} has run"
        )
    return value


async def _in_a_thread(run: RunContext, call: Callable[[], Any], job_options: JobOptions) -> Any:
    """The soft limit counts from the moment when a thread is free, the hard one from the attempt's start."""
    call = partial(copy_context().run, call)  # `current_job()`, and whatever else belongs to the attempt
    soft_s = job_options.soft_timeout_s
    if soft_s is None:
        return await run.executors.in_thread(ThreadRun(call))
    timer: asyncio.TimerHandle | None = None

    def started() -> None:
        nonlocal timer
        timer = run.loop.call_later(soft_s, thread.warn)

    thread = ThreadRun(call, partial(run.loop.call_soon_threadsafe, started))
    try:
        return await run.executors.in_thread(thread)
    except SoftTimeLimitExceeded as error:
        error.name_limit(soft_s)  # a thread can be sent a class only
        raise
    finally:
        if timer is not None:
            timer.cancel()


@types.coroutine
def _driven(coroutine: Coroutine[Any, Any, Any], attempt: Attempt, soft_s: float) -> Generator[Any, Any, Any]:
    """Drive a coroutine, and turn the cancellation by its soft limit into `SoftTimeLimitExceeded` at its await."""
    value: Any = None
    thrown: BaseException | None = None
    try:
        while True:
            try:
                waits_for = coroutine.send(value) if thrown is None else coroutine.throw(thrown)
            except StopIteration as stop:
                return stop.value
            if attempt.soft_limit is SoftLimit.POSTPONED:
                attempt.warn_again()
            value = thrown = None
            try:
                value = yield waits_for
                if attempt.take_warning():  # what it awaited swallowed the cancellation
                    thrown = SoftTimeLimitExceeded(soft_s)
            except GeneratorExit:
                coroutine.close()
                raise
            except asyncio.CancelledError as error:
                thrown = SoftTimeLimitExceeded(soft_s) if attempt.take_warning() else error
            except BaseException as error:
                thrown = error
    finally:
        thrown = None  # its traceback holds this frame: a circle otherwise
