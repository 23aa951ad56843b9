"""`@job`: makes a `JobFunction` out of an async function or a plain one."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

from arq.utils import import_string, to_seconds

from ..errors import SettingsError
from .durations import Duration
from .function import BoundJob, Call, JobFunction, PlainJobFunction, Seconds
from .job_options import Hook, JobOptions
from .limits import ConcurrencyLimit, RateLimit
from .options import check_options
from .redact import is_routine
from .retry import Backoff
from .unique import Debounce, Unique

# All names of the module `arqestra.function` of 0.1, which is this one today: see `drop_in/old_paths.py`.
__all__ = ("BoundJob", "Call", "JobFunction", "PlainJobFunction", "Seconds", "job")

P = ParamSpec("P")
R = TypeVar("R")


class _Decorator(Protocol):
    """The type of `@job(...)` with options."""

    @overload
    def __call__(  # type: ignore[overload-overlap] # a coroutine function fits both; the first counts
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> JobFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> PlainJobFunction[P, R]: ...


@overload
def job(  # type: ignore[overload-overlap]
    function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
) -> JobFunction[P, R]: ...
@overload
def job(function: Callable[Concatenate[Any, P], R], /) -> PlainJobFunction[P, R]: ...
@overload
def job(
    *,
    name: str | None = ...,
    queue: str | None = ...,
    timeout: Seconds | None = ...,
    keep_result: Seconds | None = ...,
    keep_result_forever: bool | None = ...,
    max_tries: int | None = ...,
    soft_timeout: Duration | None = ...,
    retry: Backoff | None = ...,
    rate_limit: str | RateLimit | None = ...,
    concurrency: int | ConcurrencyLimit | None = ...,
    unique: Unique | bool | None = ...,
    debounce: Duration | Debounce | None = ...,
    priority: int = ...,
    expires: Duration | None = ...,
    acks: Literal["late", "early"] = ...,
    executor: Literal["thread", "process"] | None = ...,
    on_exhausted: Hook | None = ...,
    on_expired: Hook | None = ...,
) -> _Decorator: ...


def job(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    queue: str | None = None,
    timeout: Seconds | None = None,
    keep_result: Seconds | None = None,
    keep_result_forever: bool | None = None,
    max_tries: int | None = None,
    soft_timeout: Duration | None = None,
    retry: Backoff | None = None,
    rate_limit: str | RateLimit | None = None,
    concurrency: int | ConcurrencyLimit | None = None,
    unique: Unique | bool | None = None,
    debounce: Duration | Debounce | None = None,
    priority: int = 0,
    expires: Duration | None = None,
    acks: Literal["late", "early"] = "late",
    executor: Literal["thread", "process"] | None = None,
    on_exhausted: Hook | None = None,
    on_expired: Hook | None = None,
) -> Any:
    """Make a job function of a function, with or without options. The defaults are the worker's.

    :param name: name in payloads; default the function's `__qualname__`, as in arq
    :param queue: queue that `Pool.enqueue` puts it in; default the pool's
    :param timeout: seconds that one attempt may run; then it is cancelled, and fails with `TimeoutError`
    :param keep_result: seconds that the result is kept, a century at most; 0 keeps none
    :param keep_result_forever: keep the result until it is deleted; wins over keep_result
    :param max_tries: attempts, the first included
    :param soft_timeout: seconds after which `SoftTimeLimitExceeded` is raised inside the function, at its current await
    :param retry: which errors are retried, and when; default none, but the job may ask for it (`Retry`)
    :param rate_limit: how often its jobs start, in the whole fleet: "10/m" or `RateLimit`
    :param concurrency: how many of its jobs run at once, in the whole fleet: a number or `ConcurrencyLimit`
    :param unique: `Unique(...)`, or True for one job of the same arguments until it has finished
    :param debounce: seconds of quiet, or `Debounce(...)`: enqueues in quick succession become one run
    :param priority: from 0 to 9, the most urgent, within its queue
    :param expires: seconds after the enqueue after which it is not started any more; then it ends as expired
    :param acks: "late" (default: a job whose worker dies runs again) or "early" (at most once: it fails instead)
    :param executor: of a plain function: "thread" (default), or "process" that a hard time limit can kill
    :param on_exhausted: async function of (ctx, error), called when the last attempt failed that `retry` allows (or
        `max_tries`, for a job that raises `Retry`). It is not called for an error that is not retried
    :param on_expired: async function of ctx, called when the job expired
    :raises SettingsError: an impossible value
    """
    check_options(
        "@job",
        {
            **{"name": name, "queue": queue, "timeout": timeout, "keep_result": keep_result},
            **{"keep_result_forever": keep_result_forever, "max_tries": max_tries},
        },
    )
    options = {
        "soft_timeout": soft_timeout,
        "retry": retry,
        "rate_limit": rate_limit,
        "concurrency": concurrency,
        "unique": unique or None,
        "debounce": debounce,
        "priority": priority,
        "expires": expires,
        "acks": acks,
        "executor": executor,
        "on_exhausted": on_exhausted,
        "on_expired": on_expired,
    }

    def wrap(given: Any) -> JobFunction[..., Any]:
        target = import_string(given) if isinstance(given, str) else given
        if not is_routine(target):
            raise SettingsError(f"@job: expected a function (async def or def), got {target!r}")
        if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
            raise SettingsError(f"@job: expected a function that returns its result, got a generator: {target!r}")
        is_async = inspect.iscoroutinefunction(target)
        job_options = JobOptions.of(
            "@job", is_async=is_async, signature=inspect.signature(target), timeout_s=to_seconds(timeout), **options
        )
        make: Any = JobFunction if is_async else PlainJobFunction
        made: JobFunction[..., Any] = make(
            name or target.__qualname__,
            target if is_async else _in_a_thread(target),
            timeout_s=to_seconds(timeout),
            keep_result_s=to_seconds(keep_result),
            keep_result_forever=keep_result_forever,
            max_tries=max_tries if retry is None or retry.tries is None else retry.tries,
            queue=queue,
            job_options=job_options,
            sync_function=None if is_async else target,
        )
        return made

    return wrap if function is None else wrap(function)


def _in_a_thread(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """A plain function as a stock arq worker can run it. Our worker has bounded executors instead."""

    @wraps(function)
    async def run(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        value = await asyncio.to_thread(function, ctx, *args, **kwargs)
        while inspect.isawaitable(value):  # a coroutine function behind a plain decorator
            value = await value
        return value

    return run
