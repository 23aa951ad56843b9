"""Which callable runs under a name: two of one name would mean that one of them never runs."""

import inspect
from collections.abc import Callable
from typing import Any

from ..errors import SettingsError
from .function import BoundJob

__all__ = ("check_same_callable", "target_of")


def target_of(function: Any) -> Callable[..., Any] | None:
    """The callable that a job function, arq's `Function` or `CronJob`, or a raw function stands for; None of a name."""
    if isinstance(function, str):
        return None
    if isinstance(function, BoundJob):
        return function.function.target
    target: Callable[..., Any] | None = getattr(function, "plain", None) or getattr(function, "coroutine", function)
    return target


def check_same_callable(where: str, name: str, one: Callable[..., Any], other: Callable[..., Any]) -> None:
    """Refuse two callables of one name; the same one may be there twice.

    :param where: the setting, for the message
    :raises SettingsError: they are not the same
    """
    if one is other or one == other:
        return
    first, second = _described(one), _described(other)
    if first == second:
        second = f"{second}, made a second time"
    raise SettingsError(
        f"{where}: expected one callable of the name {name!r}, got {first} and {second}; give one of them another "
        "name: @job(name=...), func(..., name=...), cron(..., name=...)"
    )


def _described(target: Callable[..., Any]) -> str:
    """Its name, and where it is defined."""
    name = f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', type(target).__qualname__)}"
    code = getattr(inspect.unwrap(target), "__code__", None)
    if code is None:
        code = getattr(getattr(target, "__func__", None), "__code__", None)
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"
