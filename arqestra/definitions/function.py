"""Job functions: what a worker runs and what a producer enqueues.

A `JobFunction` is an `arq.worker.Function`, so a stock arq worker runs it too. Calling it calls the function itself.
`decorator.py` makes it (`@job`). Raw functions, `arq.worker.func(...)` and import strings work wherever arq takes them.
"""

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, update_wrapper
from typing import Any, ClassVar, Generic, NamedTuple, ParamSpec, TypeVar

from arq.worker import Function

from ..errors import ArgumentsError, SettingsError
from .coerce import type_hints
from .default_pool import EnqueuedJob, default_pool
from .job_options import JobOptions
from .options import check_options
from .redact import Redactor, call_text, redactor_of
from .signature import CHUNK_FUNCTION, Group, Signature, group

__all__ = ("BoundJob", "Call", "JobFunction", "PlainJobFunction", "Seconds", "check_same_callable", "target_of")

P = ParamSpec("P")
R = TypeVar("R")
Seconds = int | float | timedelta


@dataclass(frozen=True, slots=True)
class BoundJob(Generic[P, R]):
    """A job function with options for one enqueue; made by `JobFunction.options`."""

    function: "JobFunction[P, R]"
    queue: str | None = None
    defer_by: Seconds | None = None
    defer_until: datetime | None = None
    expires: Seconds | None = None
    job_id: str | None = None
    priority: int | None = None
    headers: Mapping[str, str] | None = None

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> "Call[R]":
        """The call with these arguments, for `Pool.enqueue_many`. Raises `ArgumentsError` if they do not fit."""
        function = self.function
        function.check_arguments(args, kwargs)
        job_options = function.job_options
        return Call(
            function.name,
            args,
            kwargs,
            self.queue or function.queue,
            self.defer_by,
            defer_until=self.defer_until,
            expires=self.expires or job_options.expires_s,
            job_id=self.job_id,
            result_type=function.result_type,
            priority=job_options.priority if self.priority is None else self.priority,
            headers=self.headers,
            job_options=job_options if function.asks_at_enqueue else None,
            workflow=function.is_workflow,
        )

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> EnqueuedJob[R] | None:
        """Enqueue a call by the default pool: see `JobFunction.delay`."""
        return default_pool("delay").enqueue(self, *args, **kwargs)


class Call(NamedTuple, Generic[R]):
    """A call of a job function that is ready to be enqueued: the function's name, the arguments, the options.

    :ivar added: keywords that wrappers of enqueues added to the caller's: see `drop_in/instrumentation.py`
    """

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str | None = None
    defer_by: Seconds | None = None
    defer_until: datetime | None = None
    expires: Seconds | None = None
    job_id: str | None = None
    result_type: Any = Any
    priority: int = 0
    headers: Mapping[str, str] | None = None
    job_options: JobOptions | None = None
    added: Mapping[str, Any] | None = None
    workflow: bool = False


@dataclass(eq=False)
class JobFunction(Function, Generic[P, R]):
    """A function with the options it runs under. Made by `@job`; see there for the fields.

    :ivar job_options: the options that arq's `Function` does not know
    :ivar sync_function: the function itself, if it is a plain one; for stock arq, `coroutine` runs it in a thread
    """

    is_workflow: ClassVar[bool] = False
    queue: str | None = None
    job_options: JobOptions = field(default_factory=JobOptions)
    sync_function: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        update_wrapper(self, self.sync_function or self.coroutine, updated=())

    def __hash__(self) -> int:
        """A key of dictionaries, as functions are; arq's `Function` is none."""
        return hash(self.name)

    def __call__(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the coroutine function itself, as a test does."""
        return self.coroutine(ctx, *args, **kwargs)

    def options(
        self,
        *,
        queue: str | None = None,
        defer_by: Seconds | None = None,
        defer_until: datetime | None = None,
        expires: Seconds | None = None,
        job_id: str | None = None,
        priority: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> BoundJob[P, R]:
        """A copy bound to options for one enqueue.

        :param queue: queue name; default the function's, then the pool's
        :param defer_by: start that much later; seconds or timedelta
        :param defer_until: start at that time; a datetime with time zone
        :param expires: do not start later than that after now; seconds or timedelta
        :param job_id: id of the job; an id that exists is refused
        :param priority: from 0 to 9, the most urgent; default the function's
        :param headers: text that travels with the job, for middleware and `current_job().headers`
        :raises SettingsError: both defer_by and defer_until, or an impossible value
        """
        check_options(
            "options",
            {
                **{"queue": queue, "defer_by": defer_by, "defer_until": defer_until, "expires": expires},
                **{"job_id": job_id, "priority": priority, "headers": headers},
            },
        )
        return BoundJob(
            self,
            queue=queue,
            defer_by=defer_by,
            defer_until=defer_until,
            expires=expires,
            job_id=job_id,
            priority=priority,
            headers=headers,
        )

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """The call with these arguments, for `Pool.enqueue_many`. Raises `ArgumentsError` if they do not fit."""
        return BoundJob(self).bind(*args, **kwargs)

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> EnqueuedJob[R] | None:
        """Enqueue a call by the pool that `arqestra.set_default_pool` has set, and block until Redis has it.

        :returns: the job (a `SyncJob`), or None if it was refused: see `SyncPool.enqueue`
        :raises SettingsError: no default pool is set
        :raises ArgumentsError, SerializationError, PayloadTooLarge: as `Pool.enqueue`
        """
        return default_pool("delay").enqueue(self, *args, **kwargs)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        countdown: Seconds | None = None,
        eta: datetime | None = None,
        expires: Seconds | None = None,
        queue: str | None = None,
        priority: int | None = None,
        task_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> EnqueuedJob[R] | None:
        """As `delay`, with Celery's names of options. `function.options(...).delay(...)` is the same, and typed.

        :param args: positional arguments of the function
        :param kwargs: its keyword arguments
        :param countdown: `defer_by` of `options`: start that much later; seconds or timedelta
        :param eta: `defer_until`: start at that time
        :param expires: do not start later than that after now; seconds or timedelta
        :param queue: queue name; default the function's, then the pool's
        :param priority: from 0 to 9, the most urgent (with Celery on Redis 0 is); default the function's
        :param task_id: `job_id`: id of the job; an id that exists is refused
        :param headers: text that travels with the job
        :raises SettingsError: no default pool is set, both countdown and eta, or an impossible value
        """
        check_options(
            "apply_async",
            {
                **{"countdown": countdown, "eta": eta, "expires": expires, "queue": queue},
                **{"priority": priority, "task_id": task_id, "headers": headers},
            },
        )
        if countdown is not None and eta is not None:
            raise SettingsError("apply_async: expected countdown or eta or neither, got both")
        if not isinstance(args, list | tuple) or not isinstance(kwargs or {}, Mapping):
            raise ArgumentsError("apply_async: expected a list or tuple of arguments and a dict of keyword arguments")
        bound = BoundJob(
            self,
            queue=queue,
            defer_by=countdown,
            defer_until=eta,
            expires=expires,
            job_id=task_id,
            priority=priority,
            headers=headers,
        )
        return default_pool("apply_async").enqueue(bound, *args, **kwargs or {})

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """A call for a flow. If another call comes before it, its first argument is the result of that."""
        return Signature(self, args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """A call for a flow that does not get the result of the call before it."""
        return Signature(self, args, kwargs, immutable=True)

    def map(self, items: Iterable[Any]) -> Group[R]:
        """A group of a call for each item."""
        return group(self.s(item) for item in items)

    def starmap(self, items: Iterable[Sequence[Any]]) -> Group[R]:
        """A group of a call for each tuple of arguments."""
        return group(self.s(*_arguments_of_a_call(arguments)) for arguments in items)

    def chunks(self, items: Iterable[Sequence[Any]], size: int) -> Group[list[R]]:
        """A group of jobs. Each makes `size` calls, one after the other, and gives the list of their results.

        If another call comes before the group in a flow, each call gets its result as first argument, as in `starmap`.

        :param items: tuples of arguments
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise SettingsError(f"chunks: size: expected an int of at least 1, got {size!r}")
        calls = [_arguments_of_a_call(arguments) for arguments in items]
        pieces = [calls[first : first + size] for first in range(0, len(calls), size)]
        chunk = ChunkOf(self)
        return group(Signature(chunk, (self.name, piece)) for piece in pieces)

    @property
    def plain(self) -> Callable[..., Any] | None:
        """The name of `sync_function` in 0.1."""
        return self.sync_function

    @property
    def target(self) -> Callable[..., Any]:
        """The function that was decorated."""
        return self.sync_function or self.coroutine

    @cached_property
    def asks_at_enqueue(self) -> bool:
        """Whether an enqueue needs more of the function than its name: it has limits or a lock."""
        job_options = self.job_options
        return any((job_options.rate_limit, job_options.concurrency, job_options.unique, job_options.debounce))

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.target)

    @cached_property
    def redactor(self) -> Redactor:
        """How its arguments are shown."""
        return redactor_of(self.target)

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise `ArgumentsError` unless the function can be called with these. A mistake fails in the producer."""
        try:
            self.signature.bind(None, *args, **kwargs)
        except TypeError as error:
            given = call_text(*self.redactor.redacted(args, kwargs))
            raise ArgumentsError(
                f"{self.name}{self.redactor.signature_text(self.signature)} (ctx is given by the worker): {error}; "
                f"got ({given})"
            ) from None

    @cached_property
    def result_type(self) -> Any:
        """What the function is annotated to return, or Any."""
        return type_hints(self.target).get("return", Any)


@dataclass(frozen=True)
class ChunkOf:
    """Stands in a signature for the function that every worker has, and that makes several calls of one job function.

    :ivar function: the job function that is called
    """

    function: JobFunction[..., Any]

    @property
    def name(self) -> str:
        return CHUNK_FUNCTION

    @property
    def queue(self) -> str | None:
        return self.function.queue

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise `ArgumentsError` unless each call fits the function."""
        *before, _, calls = args
        for call in calls:
            self.function.check_arguments((*before, *call), kwargs)

    @property
    def result_type(self) -> Any:
        """The list of what the calls return."""
        return list[self.function.result_type]  # type: ignore[name-defined]


def _arguments_of_a_call(arguments: Any) -> list[Any]:
    if isinstance(arguments, str | bytes | Mapping) or not isinstance(arguments, Iterable):
        raise ArgumentsError(f"starmap, chunks: expected tuples of arguments, got {type(arguments).__name__}")
    return list(arguments)


class PlainJobFunction(JobFunction[P, R]):
    """A plain function as a job: calling it gives its value, not a coroutine."""

    def __call__(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]
        """Call the function itself, as a test does."""
        assert self.sync_function is not None
        value: R = self.sync_function(ctx, *args, **kwargs)
        return value


def target_of(function: Any) -> Callable[..., Any] | None:
    """The callable of a job function, of arq's `Function` or `CronJob`, or of a raw function; None for a name."""
    if isinstance(function, str):
        return None
    if isinstance(function, BoundJob):
        return function.function.target
    target: Callable[..., Any] | None = getattr(function, "sync_function", None)
    return target or getattr(function, "coroutine", function)


def check_same_callable(where: str, name: str, one: Callable[..., Any], other: Callable[..., Any]) -> None:
    """Refuse two callables under one name: one of them would never run. The same one may be there twice.

    :param where: the setting, for the message
    :raises SettingsError: they are not the same
    """
    if one is other or one == other:
        return
    first, second = _location_of(one), _location_of(other)
    if first == second:
        second = f"{second}, made a second time"
    raise SettingsError(
        f"{where}: expected one callable of the name {name!r}, got {first} and {second}; give one of them another "
        "name: @job(name=...), func(..., name=...), cron(..., name=...)"
    )


def _location_of(target: Callable[..., Any]) -> str:
    """Its name, and where it is defined."""
    name = f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', type(target).__qualname__)}"
    code = getattr(inspect.unwrap(target), "__code__", None)
    if code is None:
        code = getattr(getattr(target, "__func__", None), "__code__", None)
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"
