"""Calling a job function: in the event loop, in a thread or in a process, with its soft limit and its middleware."""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import AsyncExitStack
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from arq.worker import Retry, RetryJob

from ..control import JobControl
from ..errors import SoftTimeLimitExceeded
from ..retry import Cancel, Snooze
from .attempt import Attempt
from .threads import ThreadRun

if TYPE_CHECKING:
    from .worker import Worker

__all__ = ("invoke",)

# What no middleware can swallow: it is no error, but what somebody asked for.
WISHES = (Retry, RetryJob, Snooze, Cancel, asyncio.CancelledError)


async def invoke(worker: "Worker", attempt: Attempt) -> Any:
    """Call a function that is more than a plain coroutine function; those are called by `execute.call` itself."""
    if not worker.options.middleware:
        return await _within_soft_limit(worker, attempt)
    wish: BaseException | None = None
    async with AsyncExitStack() as stack:
        attempt.carry = {}
        view = attempt.view()
        for middleware in worker.options.middleware:
            await stack.enter_async_context(middleware.around_run(view))
        try:
            return await _within_soft_limit(worker, attempt)
        except WISHES as error:
            wish = error
            raise
    if wish is not None:
        raise wish
    return None  # a middleware swallowed the job's error


async def _within_soft_limit(worker: "Worker", attempt: Attempt) -> Any:
    control, function = attempt.terms.control, attempt.terms.function
    assert function is not None
    if control is None or control.executor == "loop":
        coroutine = function.coroutine(attempt.ctx, *attempt.args, **attempt.kwargs)
        soft_s = None if control is None else control.soft_timeout_s
        if soft_s is None:
            return await coroutine
        timer = worker.loop.call_later(soft_s, attempt.warn)
        try:
            return await _driven(coroutine, attempt, soft_s)
        finally:
            timer.cancel()
    plain = function.plain  # type: ignore[union-attr] # a function with an executor is a JobFunction
    assert plain is not None
    if control.executor == "thread":
        return await _in_a_thread(worker, partial(plain, attempt.ctx, *attempt.args, **attempt.kwargs), control)
    call = (attempt.ctx, attempt.args, attempt.kwargs)
    return await worker.executors.in_process(plain, call, attempt.terms.timeout_s, control.soft_timeout_s)


async def _in_a_thread(worker: "Worker", call: Callable[[], Any], control: JobControl) -> Any:
    """The soft limit counts from the moment when a thread is free, the hard one from the attempt's start."""
    call = partial(copy_context().run, call)  # `current_job()`, and whatever else belongs to the attempt
    soft_s = control.soft_timeout_s
    if soft_s is None:
        return await worker.executors.in_thread(ThreadRun(call))
    timer: asyncio.TimerHandle | None = None

    def started() -> None:
        nonlocal timer
        timer = worker.loop.call_later(soft_s, run.warn)

    run = ThreadRun(call, partial(worker.loop.call_soon_threadsafe, started))
    try:
        return await worker.executors.in_thread(run)
    finally:
        if timer is not None:
            timer.cancel()


@types.coroutine
def _driven(coroutine: Coroutine[Any, Any, Any], attempt: Attempt, soft_s: float) -> Generator[Any, Any, Any]:
    """Drive a coroutine, and turn the cancellation by its soft limit into `SoftTimeLimitExceeded` at its await."""
    value: Any = None
    thrown: BaseException | None = None
    while True:
        try:
            waits_for = coroutine.send(value) if thrown is None else coroutine.throw(thrown)
        except StopIteration as stop:
            return stop.value
        if attempt.postponed:
            attempt.warn_again()
        value = thrown = None
        try:
            value = yield waits_for
            if attempt.warning and attempt.take_warning():  # what it awaited swallowed the cancellation
                thrown = SoftTimeLimitExceeded(soft_s)
        except GeneratorExit:
            coroutine.close()
            raise
        except asyncio.CancelledError as error:
            thrown = SoftTimeLimitExceeded(soft_s) if attempt.take_warning() else error
        except BaseException as error:
            thrown = error
