"""Job functions: what a worker runs and what a producer enqueues.

`@job(...)` makes a `JobFunction` out of a coroutine function. It is an `arq.worker.Function`, so a stock arq worker
runs it, and calling it calls the coroutine. Raw coroutine functions, `arq.worker.func(...)` and import strings work
wherever arq takes them.
"""

import enum
import inspect
import types
import typing
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, update_wrapper
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, overload

import msgspec
from arq.utils import import_string, to_seconds
from arq.worker import Function

from .errors import ArgumentsError, SettingsError

__all__ = ("BoundJob", "Call", "JobFunction", "Rebuilder", "Seconds", "job", "rebuild_value")

P = ParamSpec("P")
R = TypeVar("R")
Seconds = int | float | timedelta
_BUILTIN = (int, float, str, bool, list, dict, type(None), object)


@dataclass(frozen=True, slots=True)
class BoundJob(Generic[P, R]):
    """A job function with options for one enqueue; made by `JobFunction.options`."""

    function: "JobFunction[P, R]"
    queue: str | None = None
    defer_by: Seconds | None = None
    defer_until: datetime | None = None
    expires: Seconds | None = None
    job_id: str | None = None

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> "Call[R]":
        """The call with these arguments, for `Pool.enqueue_many`. Raises `ArgumentsError` if they do not fit."""
        function = self.function
        function.check_arguments(args, kwargs)
        return Call(
            function.name,
            args,
            kwargs,
            self.queue or function.queue,
            self.defer_by,
            self.defer_until,
            self.expires,
            self.job_id,
            function.result_type,
        )


class Call(NamedTuple, Generic[R]):
    """A call of a job function that is ready to be enqueued: the function's name, the arguments, the options."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str | None = None
    defer_by: Seconds | None = None
    defer_until: datetime | None = None
    expires: Seconds | None = None
    job_id: str | None = None
    result_type: Any = Any


@dataclass(eq=False)
class JobFunction(Function, Generic[P, R]):
    """A coroutine function with the settings it runs under. Made by `@job`; see there for the fields."""

    queue: str | None = None

    def __post_init__(self) -> None:
        update_wrapper(self, self.coroutine, updated=())

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
    ) -> BoundJob[P, R]:
        """A copy bound to options for one enqueue.

        :param queue: queue name; default the function's, then the pool's
        :param defer_by: start that much later; seconds or timedelta
        :param defer_until: start at that time; a datetime with time zone
        :param expires: do not start later than that after now; seconds or timedelta
        :param job_id: id of the job; an id that exists is refused
        :raises SettingsError: both defer_by and defer_until
        """
        if defer_by is not None and defer_until is not None:
            raise SettingsError("expected defer_by or defer_until or neither, got both")
        return BoundJob(self, queue, defer_by, defer_until, expires, job_id)

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """The call with these arguments, for `Pool.enqueue_many`. Raises `ArgumentsError` if they do not fit."""
        return BoundJob(self).bind(*args, **kwargs)

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.coroutine)

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise `ArgumentsError` unless the coroutine can be called with these: a mistake fails in the producer."""
        try:
            self.signature.bind(None, *args, **kwargs)
        except TypeError as error:
            given = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
            raise ArgumentsError(
                f"{self.name}{self.signature} (ctx is given by the worker): {error}; got ({given})"
            ) from None

    @cached_property
    def result_type(self) -> Any:
        """What the coroutine is annotated to return, or Any."""
        return _type_hints(self.coroutine).get("return", Any)


@overload
def job(function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> JobFunction[P, R]: ...


@overload
def job(
    *,
    name: str | None = ...,
    queue: str | None = ...,
    timeout: Seconds | None = ...,
    keep_result: Seconds | None = ...,
    keep_result_forever: bool | None = ...,
    max_tries: int | None = ...,
) -> Callable[[Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]], JobFunction[P, R]]: ...


def job(
    function: Any = None,
    *,
    name: str | None = None,
    queue: str | None = None,
    timeout: Seconds | None = None,
    keep_result: Seconds | None = None,
    keep_result_forever: bool | None = None,
    max_tries: int | None = None,
) -> Any:
    """Make a job function out of a coroutine function, with or without arguments. The defaults are the worker's.

    :param name: name in payloads; default the coroutine's `__qualname__`, as in arq
    :param queue: queue that `Pool.enqueue` puts it in; default the pool's
    :param timeout: seconds that one attempt may run
    :param keep_result: seconds that the result is kept; 0 keeps none
    :param keep_result_forever: keep the result until it is deleted; wins over keep_result
    :param max_tries: attempts, the first included
    :raises SettingsError: not a coroutine function, or an impossible value
    """

    def wrap(coroutine: Any) -> JobFunction[..., Any]:
        target = import_string(coroutine) if isinstance(coroutine, str) else coroutine
        if not inspect.iscoroutinefunction(target):
            raise SettingsError(f"@job: expected a coroutine function (async def), got {target!r}")
        _check_options(timeout, keep_result, max_tries)
        return JobFunction(
            name or target.__qualname__,
            target,
            to_seconds(timeout),
            to_seconds(keep_result),
            keep_result_forever,
            max_tries,
            queue,
        )

    return wrap if function is None else wrap(function)


def _check_options(timeout: Seconds | None, keep_result: Seconds | None, max_tries: int | None) -> None:
    for option, seconds, least in (("timeout", timeout, "more than 0"), ("keep_result", keep_result, "0 or more")):
        if seconds is None:
            continue
        if isinstance(seconds, bool) or not isinstance(seconds, int | float | timedelta):
            raise SettingsError(f"@job: {option}: expected seconds (int, float or timedelta), got {seconds!r}")
        if to_seconds(seconds) < 0 or (least == "more than 0" and to_seconds(seconds) == 0):
            raise SettingsError(f"@job: {option}: expected {least} seconds, got {seconds!r}")
    if max_tries is not None and (isinstance(max_tries, bool) or not isinstance(max_tries, int) or max_tries < 1):
        raise SettingsError(f"@job: max_tries: expected an int of at least 1, got {max_tries!r}")


def _type_hints(coroutine: Any) -> dict[str, Any]:
    """Hints of a function, its signature's names only; empty where they cannot be resolved."""
    try:
        return typing.get_type_hints(coroutine)
    except Exception:
        return {}


def _needs_rebuilding(hint: Any) -> bool:
    """Whether plain data differs from what the hint says: a class, a datetime, a UUID, an enum, a tuple."""
    if hint is Any or hint in _BUILTIN or isinstance(hint, TypeVar):
        return False
    parts = typing.get_args(hint)
    if parts:
        origin = typing.get_origin(hint)
        if origin is types.UnionType:
            return any(_needs_rebuilding(part) for part in parts)
        if origin is dict and parts[0] not in (str, Any):
            return True
        return (isinstance(origin, type) and origin not in _BUILTIN) or any(_needs_rebuilding(part) for part in parts)
    return isinstance(hint, type)


def _rebuild_unknown(hint: type, value: Any) -> Any:
    """msgspec's hook for a type that it does not know."""
    validate = getattr(hint, "model_validate", None)  # a pydantic model
    if validate is not None:
        return validate(value)
    return value if not isinstance(hint, type) or _is_instance(value, hint) else hint(value)


def _is_instance(value: Any, hint: Any) -> bool:
    """Whether the value is what the hint says already; False for hints that cannot be asked (TypedDict, Protocol)."""
    try:
        return isinstance(hint, type) and isinstance(value, hint)
    except TypeError:
        return False


def rebuild_value(hint: Any, value: Any) -> Any:
    """The object that plain data stands for by a type hint.

    :raises msgspec.ValidationError: the data does not fit the hint
    """
    if not _needs_rebuilding(hint) or _is_instance(value, hint):
        return value
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    try:
        return msgspec.convert(value, hint, strict=False, dec_hook=_rebuild_unknown)
    except msgspec.ValidationError:
        raise
    except TypeError:
        return value  # a hint that msgspec cannot express (a union of two classes): the plain data, as without hint


class Rebuilder:
    """Rebuilds the arguments of one job function from its type hints.

    :param coroutine: the function whose hints count
    """

    def __init__(self, coroutine: Any) -> None:
        self._by_position: list[Any] = []
        self._by_name: dict[str, Any] = {}
        self._rest: Any = Any
        self._other_names: Any = Any
        hints = _type_hints(coroutine)
        parameters = list(inspect.signature(coroutine).parameters.values())[1:] if hints else []
        for parameter in parameters:
            hint = hints.get(parameter.name, Any)
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._rest = hint
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._other_names = hint
            else:
                self._by_name[parameter.name] = hint
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    self._by_position.append(hint)
        every = [*self._by_name.values(), self._rest, self._other_names]
        self.needed = any(_needs_rebuilding(hint) for hint in every)

    def rebuild(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function expects them.

        :raises ArgumentsError: a value does not fit its hint
        """
        known = self._by_position
        try:
            rebuilt = tuple(
                rebuild_value(known[i] if i < len(known) else self._rest, value) for i, value in enumerate(args)
            )
            named = {
                name: rebuild_value(self._by_name.get(name, self._other_names), value) for name, value in kwargs.items()
            }
        except (msgspec.ValidationError, ValueError) as error:
            raise ArgumentsError(f"arguments do not fit the type hints of the job function: {error}") from error
        return rebuilt, named
