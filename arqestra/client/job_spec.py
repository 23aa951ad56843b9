"""What `Pool.enqueue_many` takes for one job."""

from collections.abc import Mapping, Sequence
from typing import Any

from arq.worker import Function

from ..definitions.function import BoundJob, Call, JobFunction
from ..errors import ArgumentsError

__all__ = ("JobSpec", "call_of", "name_of_function")

# What `enqueue_many` takes for one job: a bound call, or a name or function with its arguments.
JobSpec = (
    Call[Any]
    | tuple[str | Function | BoundJob[..., Any]]
    | tuple[str | Function | BoundJob[..., Any], Sequence[Any]]
    | tuple[str | Function | BoundJob[..., Any], Sequence[Any], Mapping[str, Any]]
)


def name_of_function(function: Any) -> str:
    """What a job function is enqueued by.

    :raises ArgumentsError: it is neither a name nor a function of arq's or ours
    """
    if isinstance(function, str):
        return function
    if isinstance(function, Function):
        return function.name
    raise ArgumentsError(f"expected the name of a job function (str), got {function!r}")


def _types_of(spec: Any) -> str:
    """What an impossible spec is, without its values: they may be secret."""
    if isinstance(spec, tuple):
        return f"({', '.join(type(part).__name__ for part in spec)})"
    return type(spec).__name__


def call_of(spec: Any) -> Call[Any]:
    """The call that one entry of `enqueue_many` says.

    :raises ArgumentsError: it says none
    """
    if isinstance(spec, Call):
        return spec
    if not (isinstance(spec, tuple) and 1 <= len(spec) <= 3):
        raise ArgumentsError(
            f"enqueue_many: expected function.bind(...) or a tuple (function, args, kwargs), got {_types_of(spec)}"
        )
    target, args, kwargs = (*spec, (), {})[:3] if len(spec) == 1 else (*spec, {})[:3]
    # Asked first, for it is nearly always so: `isinstance` of an abstract class costs as much as all else here.
    plain = type(args) in (tuple, list) and type(kwargs) is dict
    if not plain and (isinstance(args, str | bytes | Mapping) or not isinstance(kwargs, Mapping)):
        raise ArgumentsError(
            f"enqueue_many: expected (function, list of arguments, dict of keywords), got {_types_of(spec)}"
        )
    if isinstance(target, JobFunction | BoundJob):
        return target.bind(*args, **kwargs)
    return Call(name_of_function(target), args, kwargs)
