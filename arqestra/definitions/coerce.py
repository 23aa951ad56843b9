"""Arguments and results coerced to type hints, where a serializer gives back plain data."""

import enum
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ..errors import ArgumentsError
from .redact import redactor_of

__all__ = ("ArgumentCoercer", "coerce_value", "type_hints")

_BUILTIN = (int, float, str, bool, list, dict, type(None), object)


def type_hints(coroutine: Any) -> dict[str, Any]:
    """The type hints of a function; empty if they cannot be resolved."""
    try:
        return typing.get_type_hints(coroutine)
    except Exception:
        return {}


def _needs_coercion(hint: Any) -> bool:
    """Whether plain data is not yet what the hint says: a class, a datetime, a UUID, an enum, a tuple."""
    if hint is Any or hint in _BUILTIN or isinstance(hint, TypeVar):
        return False
    parts = typing.get_args(hint)
    if parts:
        origin = typing.get_origin(hint)
        if origin is types.UnionType:
            return any(_needs_coercion(part) for part in parts)
        if origin is dict and parts[0] not in (str, Any):
            return True
        return (isinstance(origin, type) and origin not in _BUILTIN) or any(_needs_coercion(part) for part in parts)
    return isinstance(hint, type)


def _coerce_unknown(hint: type, value: Any) -> Any:
    """msgspec's hook for a type that it does not know."""
    validate = getattr(hint, "model_validate", None)  # a pydantic model
    if validate is not None:
        return validate(value)
    return value if not isinstance(hint, type) or _is_instance(value, hint) else hint(value)


def _is_instance(value: Any, hint: Any) -> bool:
    """Whether the value is what the hint says already; False for hints that cannot tell (TypedDict, Protocol)."""
    try:
        return isinstance(hint, type) and isinstance(value, hint)
    except TypeError:
        return False


def coerce_value(hint: Any, value: Any) -> Any:
    """Coerce plain data to a type hint.

    :raises msgspec.ValidationError: the data does not fit the hint
    """
    if not _needs_coercion(hint) or _is_instance(value, hint):
        return value
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    try:
        return msgspec.convert(value, hint, strict=False, dec_hook=_coerce_unknown)
    except msgspec.ValidationError:
        raise
    except TypeError:
        return value  # msgspec cannot express the hint (a union of two classes): leave the plain data as it is


class ArgumentCoercer:
    """Coerces the arguments of one job function to its type hints.

    :param coroutine: the function whose hints count
    """

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine
        self._by_position: list[Any] = []
        self._by_name: dict[str, Any] = {}
        self._rest: Any = Any
        self._other_names: Any = Any
        hints = type_hints(coroutine)
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
        self.needed = any(_needs_coercion(hint) for hint in every)

    def coerce(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function expects them.

        :raises ArgumentsError: a value does not fit its hint
        """
        known = self._by_position
        place: int | str = 0
        coerced: list[Any] = []
        named: dict[str, Any] = {}
        try:
            for place, value in enumerate(args):
                coerced.append(coerce_value(known[place] if place < len(known) else self._rest, value))
            for place, value in kwargs.items():
                named[place] = coerce_value(self._by_name.get(place, self._other_names), value)
        except (msgspec.ValidationError, ValueError) as error:
            refusal, cause = self._refusal(place, error)
            raise refusal from cause
        return tuple(coerced), named

    def _refusal(self, place: int | str, error: Exception) -> tuple[ArgumentsError, Exception | None]:
        """The error for one argument, without its value if that is secret; and the cause, if it may be shown."""
        redactor = redactor_of(self._coroutine)
        hidden = redactor.hides(place) if isinstance(place, str) else redactor.hides_position(place)
        why = f"the value of {self._name_of(place)} (not shown)" if hidden else _told_without_input(error)
        refusal = ArgumentsError(f"arguments do not fit the type hints of the job function: {why}")
        return refusal, error if why == str(error) else None

    def _name_of(self, place: int | str) -> str:
        return place if isinstance(place, str) else f"argument {place + 1}"


def _told_without_input(error: Exception) -> str:
    """The message of a validation error, without the input, which pydantic shows: it may hold secrets."""
    of_model = getattr(error.__cause__ or error, "errors", None)
    if not callable(of_model):
        return str(error)
    try:
        told = of_model(include_url=False, include_input=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in told)
    except Exception:  # another class's `errors`
        return str(error)
