"""Errors in results: in a form from which whoever asks for the result can make them again."""

import copyreg
import sys
from functools import lru_cache
from typing import Any

from arq.worker import JobExecutionFailed

from ..errors import RemoteError, loaded_class
from .attempt_errors import text_of
from .serializers import Serializer

__all__ = ("error_in", "portable")

_EXCEPTION = "__exception__"

_PLAIN = frozenset((str, int, float, bool, bytes, type(None)))
_TAKE_ANY_ARGUMENTS = frozenset(
    (
        *(BaseException, Exception, ArithmeticError, AssertionError, BufferError, EOFError, FloatingPointError),
        *(IndexError, KeyError, LookupError, NotImplementedError, OverflowError, RecursionError, ReferenceError),
        *(RuntimeError, TypeError, UnicodeError, ValueError, Warning, ZeroDivisionError),
    )
)
# With one of these methods a class has its own way to be pickled, or made again.
_OWN_WAY = frozenset(("__init__", "__new__", "__reduce__", "__reduce_ex__", "__getstate__", "__getattribute__"))


def portable(serializer: Serializer, error: BaseException) -> dict[str, Any]:
    """The entries of a result that hold the exception, in a form from which the reader can make it again.

    `r` holds it. If it cannot be written and read again as itself, `e` describes it, and `r` is for stock arq.
    """
    if serializer.plain:
        return {"r": {_EXCEPTION: _described(serializer, error)}}
    if serializer.name == "pickle" and _is_surely_portable(error):
        return {"r": error}
    try:
        serializer.loads(serializer.dumps(error))
    except Exception:
        stand_in = JobExecutionFailed(f"{_type_name(error)}: {text_of(error)}")
        return {"r": stand_in, "e": _described(serializer, error)}
    return {"r": error}


def _is_surely_portable(error: BaseException) -> bool:
    """Whether a pickle of this error can be read again. Nearly always it can, and a trial costs more than this look."""
    kind = type(error)
    reduced: Any = BaseException.__reduce__(error)
    _, arguments, *state = reduced
    return (
        not any(state)
        and _PLAIN.issuperset(map(type, arguments))
        and _is_made_of_any_arguments(kind)  # type: ignore[arg-type] # a class has a hash
        and getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind
    )


@lru_cache(maxsize=500)
def _is_made_of_any_arguments(kind: type[BaseException]) -> bool:
    """Whether an error of this class is pickled as its arguments, and can be made of any."""
    if type(kind) is not type or kind in copyreg.dispatch_table:
        return False
    first, *_ = (base for base in kind.__mro__ if base.__module__ == "builtins")
    own = (base for base in kind.__mro__ if base.__module__ != "builtins")
    return first in _TAKE_ANY_ARGUMENTS and all(_OWN_WAY.isdisjoint(vars(base)) for base in own)


def _described(serializer: Serializer, error: BaseException) -> dict[str, Any]:
    return {"type": _type_name(error), "args": _plain_args(serializer, error), "message": text_of(error)}


def _type_name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _plain_args(serializer: Serializer, error: BaseException) -> list[Any]:
    try:
        serializer.loads(serializer.dumps(error.args))
    except Exception:
        return [text_of(error)]
    return list(error.args)


def error_in(data: dict[str, Any]) -> Any:
    """The error of a result that is no success."""
    described = data.get("e")
    return _revived(data["r"] if described is None else {_EXCEPTION: described})


def _revived(value: Any) -> Any:
    """The exception that `_portable` wrote as plain data; anything else unchanged.

    Only a class that is loaded in this process already is used, and only if it is an exception: data from Redis
    imports nothing and calls nothing else (compare CVE-2021-23727 of Celery).
    """
    if not (isinstance(value, dict) and isinstance(value.get(_EXCEPTION), dict)):
        return value
    data = value[_EXCEPTION]
    type_name, message = data["type"], data["message"]
    found = loaded_class(type_name)
    if found is not None:
        try:
            error = found(*data["args"])
        except Exception:
            error = None
        if error is not None and text_of(error) == message:
            return error
    return RemoteError(type_name, message)
