"""Arguments as they may be shown: what is secret is masked, by the name of its parameter or field, or by a marker.

    async def login(ctx, user: str, password: str, code: Annotated[str, Redact]): ...

The job's own arguments never change: showing makes copies, and only of what holds a secret. The names are those that
Django, Sentry and Celery mask. What is secret is found once for each function and once for each name.
"""

import inspect
import itertools
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta, tzinfo
from functools import lru_cache, partial
from typing import Any
from weakref import WeakKeyDictionary

from arq.utils import truncate

__all__ = (
    "MASK",
    "Redact",
    "Redactor",
    "call_text",
    "is_routine",
    "is_secret_name",
    "redacted",
    "redacted_value",
    "redactor_of",
    "shown_value",
)

MASK = "[redacted]"

# Words that make a name secret wherever they stand in it: db_password, X-Api-Key, accessToken.
_WORDS = frozenset(
    """
    pass pwd pw secret secrets token tokens auth authorization authentication credential credentials creds
    cookie cookies jwt bearer otp totp cvv cvc ssn apikey apikeys privatekey accesskey secretkey sessionid
    """.split()  # noqa: SIM905 (thirty quoted words are harder to read)
)
# Also inside of a word: dbpassword, PGPASSWORD.
_PARTS = re.compile(r"password|passwd|passphrase|passcode|authorization|credential", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_COUNTS = frozenset({"max", "min", "num", "count", "total", "limit", "used"})  # max_tokens is a number
_LONGEST_NAME = 200
_DEEPEST = 32
CLIPPED_PARTS = 120  # a log line shows 80 characters
_DEEPEST_SHOWN = 3
_PLAIN = frozenset({str, int, float, bool, bytes, type(None), complex})


class Redact:
    """Marks a parameter, or a field of a dataclass, that is never shown: `code: Annotated[str, Redact]`."""


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether what has this name is masked: password, db_password, apiKey, X-Auth-Token, ..."""
    name = name[-_LONGEST_NAME:]
    if _PARTS.search(name):
        return True
    words = [word.lower() for word in _WORD.findall(name)]
    if not _COUNTS.isdisjoint(words) and not {"secret", "password"} & set(words):
        return False
    return any(word in _WORDS for word in words) or any(
        first + second in _WORDS for first, second in itertools.pairwise(words)
    )


_MAX_BITS = 1024


def redacted_value(value: Any) -> Any:
    """The value with what is secret in it masked, by the keys of its mappings and the names of its fields.

    :returns: the very value if nothing in it is secret
    """
    return value if type(value) in _PLAIN else _masked(value, ())


def shown_value(value: Any) -> str:
    """The text of an impossible value, for an error message.

    A URL may have a password in it, and the `repr` of an object (a connection's settings) may tell one. Neither is
    shown. Containers are shown, without such parts.
    """
    return truncate(_plain_text(value, 0), _LONGEST_NAME)


def is_routine(value: Any) -> bool:
    """Whether it is a function or method. A partial is none, as Python 3.14 has it: it may hold secrets."""
    return inspect.isroutine(value) and not isinstance(value, partial)


def _plain_text(value: Any, depth: int) -> str:
    if isinstance(value, str | bytes):
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        return f"{type(value).__name__} {MASK}" if "@" in text or is_secret_name(text) else repr(value)
    if type(value) is int and value.bit_length() > _MAX_BITS:
        return f"<int of {value.bit_length()} bits>"  # Python writes none of more than 4,300 digits
    if type(value) in _PLAIN or isinstance(value, timedelta | tzinfo | date | type) or is_routine(value):
        return repr(value)
    if type(value) not in (dict, list, tuple, set, frozenset) or depth > _DEEPEST_SHOWN:
        return f"<{type(value).__qualname__}>"
    if isinstance(value, dict):
        items = [
            f"{_plain_text(key, depth + 1)}: {MASK if _is_secret_key(key) else _plain_text(item, depth + 1)}"
            for key, item in value.items()
        ]
    else:
        items = [_plain_text(item, depth + 1) for item in value]
    inside = ", ".join(items)
    if isinstance(value, list):
        return f"[{inside}]"
    return f"({inside}{',' * (len(items) == 1)})" if isinstance(value, tuple) else f"{{{inside}}}"


def redacted(
    args: Sequence[Any], kwargs: Mapping[str, Any], function: Callable[..., Any] | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call for showing them.

    :param function: the function that is called; without it, the names of positional arguments are not known
    """
    return (_NO_SIGNATURE if function is None else redactor_of(function)).redacted(args, kwargs)


class Redactor:
    """Masks the arguments of one function.

    :param function: its first parameter is ctx; None if it is not known
    """

    __slots__ = ("_by_name", "_by_position", "_other_names", "_rest")

    def __init__(self, function: Callable[..., Any] | None) -> None:
        self._by_position: list[bool] = []
        self._by_name: dict[str, bool] = {}
        self._rest = self._other_names = False
        hints = _hints(function)
        for parameter in [] if function is None else _parameters(function)[1:]:
            hint = hints.get(parameter.name, parameter.annotation)
            secret = _is_marked(hint) or is_secret_name(parameter.name)
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._rest = secret
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._other_names = secret
            else:
                self._by_name[parameter.name] = secret
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    self._by_position.append(secret)

    def redacted(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], skipped: int = 0
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for showing them.

        :param skipped: parameters before the first argument that is here
        """
        known, rest = self._by_position, self._rest
        shown = tuple(
            MASK if (known[place] if place < len(known) else rest) else redacted_value(value)
            for place, value in enumerate(args, skipped)
        )
        return shown, {name: MASK if self.hides(name) else redacted_value(value) for name, value in kwargs.items()}

    def hides(self, name: str) -> bool:
        """Whether the argument of a name is masked."""
        secret = self._by_name.get(name)
        return self._other_names or is_secret_name(name) if secret is None else secret

    def hides_position(self, position: int) -> bool:
        """Whether a positional argument is masked."""
        return self._by_position[position] if position < len(self._by_position) else self._rest

    def signature_text(self, signature: inspect.Signature) -> str:
        """The function's signature without the defaults of secret parameters."""
        parameters = [
            parameter.replace(default=_Shown(MASK))
            if self.hides(parameter.name) and parameter.default not in (parameter.empty, None)
            else parameter
            for parameter in signature.parameters.values()
        ]
        return str(signature.replace(parameters=parameters))


_redactors: "WeakKeyDictionary[Callable[..., Any], Redactor]" = WeakKeyDictionary()


def redactor_of(function: Callable[..., Any]) -> Redactor:
    """The redactor of a function, made once."""
    try:
        found = _redactors.get(function)
        if found is None:
            found = _redactors[function] = Redactor(function)
    except TypeError:  # it cannot be referred to weakly, or has no hash
        return Redactor(function)
    return found


def call_text(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Arguments as they are written in a call."""
    return ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])


class _Shown:
    """Stands for an object that has secret fields."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _masked(value: Any, path: tuple[int, ...]) -> Any:
    """:param path: the containers that it is in"""
    if type(value) in _PLAIN:
        return value
    if id(value) in path:
        return _Shown("...")
    if len(path) >= _DEEPEST:
        return MASK
    path = (*path, id(value))
    try:
        cls: Any = type(value)
        if cls is list or cls is tuple:
            return _masked_items(value, path)
        if cls is dict or isinstance(value, Mapping):
            return _masked_mapping(value, path)
        fields = _fields(cls)
        if fields is not None:
            return _masked_object(value, fields, path)
        if isinstance(value, list | tuple | set | frozenset):
            return _masked_items(value, path)
    except Exception:  # an object that cannot be read must not fail whoever shows it
        return _Shown(f"<{type(value).__qualname__}>")
    return value


def _masked_mapping(value: Mapping[Any, Any], path: tuple[int, ...]) -> Any:
    shown = {key: MASK if _is_secret_key(key) else _masked(item, path) for key, item in value.items()}
    if all(item is value[key] for key, item in shown.items()):
        return value
    return shown


def _is_secret_key(key: Any) -> bool:
    if isinstance(key, bytes):
        key = key.decode("utf-8", "replace")
    return isinstance(key, str) and is_secret_name(key)


def _masked_items(value: Any, path: tuple[int, ...]) -> Any:
    items = list(value)
    if len(items) == 2 and isinstance(value, list | tuple) and _is_secret_key(items[0]):
        return type(value)((items[0], MASK))  # a header, or an item of a dictionary
    shown = [_masked(item, path) for item in items]
    if all(new is old for new, old in zip(shown, items, strict=True)):
        return value
    return shown if isinstance(value, list) else tuple(shown) if isinstance(value, tuple) else _Shown(_set_text(shown))


def _set_text(items: list[Any]) -> str:
    return f"{{{', '.join(map(repr, items))}}}"


def _masked_object(value: Any, fields: Mapping[str, bool], path: tuple[int, ...]) -> Any:
    shown = {}
    changed = False
    for name, secret in fields.items():
        field = getattr(value, name, None)
        shown[name] = MASK if secret and field is not None else _masked(field, path)
        changed = changed or shown[name] is not field
    return _Shown(f"{type(value).__qualname__}({call_text((), shown)})") if changed else value


@lru_cache(maxsize=1024)
def _fields(cls: type) -> Mapping[str, bool] | None:
    """The fields of a dataclass, a named tuple, a pydantic model, a msgspec or an attrs class, and which are secret."""
    names: Any = None
    for attribute in ("__dataclass_fields__", "__struct_fields__", "model_fields", "__pydantic_fields__", "_fields"):
        names = getattr(cls, attribute, None)
        if names is not None:
            break
    else:
        attributes = getattr(cls, "__attrs_attrs__", None)
        names = None if attributes is None else [attribute.name for attribute in attributes]
    if not isinstance(names, Mapping | list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    hints = _hints(cls)
    own: Mapping[str, Any] = getattr(cls, "__annotations__", {})
    return {name: _is_marked(hints.get(name, own.get(name))) or is_secret_name(name) for name in names}


def clipped(value: Any, budget: "list[int] | None" = None) -> Any:
    """As much of a value as the first hundred characters of its text need.

    A log line shows no more, and a result of megabytes takes long to mask.

    :param budget: how many parts may still be read; each gives one character or more
    :returns: the very value if all of it is small
    """
    budget = [CLIPPED_PARTS] if budget is None else budget
    budget[0] -= 1
    cls: Any = type(value)
    if cls in _PLAIN:
        return value[:CLIPPED_PARTS] if cls in (str, bytes) else value
    fields = _fields(cls)
    if fields is not None:
        return _clipped_object(value, fields, budget)
    if isinstance(value, dict):
        items = itertools.islice(value.items(), max(1, budget[0]))
        return _same_or(value, {key: clipped(item, budget) for key, item in items})
    if isinstance(value, list | tuple | set | frozenset):
        return _same_or(value, [clipped(item, budget) for item in itertools.islice(value, max(1, budget[0]))])
    return value


def _clipped_object(value: Any, fields: Mapping[str, bool], budget: list[int]) -> Any:
    try:
        parts = {name: getattr(value, name, None) for name in fields}
    except Exception:  # a property of the user's; `redacted_value` shows what it can
        return value
    shown = {name: clipped(part, budget) for name, part in parts.items()}
    if all(shown[name] is part for name, part in parts.items()):
        return value
    masked = {name: MASK if secret else redacted_value(shown[name]) for name, secret in fields.items()}
    return _Shown(f"{type(value).__qualname__}({call_text((), masked)})")


def _same_or(value: Any, shown: Any) -> Any:
    """The value itself if nothing of it was left out, else what is shown, in a container of its kind."""
    if len(shown) == len(value):
        parts = (
            zip(shown.values(), value.values(), strict=True)
            if isinstance(shown, dict)
            else zip(shown, value, strict=True)
        )
        if all(new is old for new, old in parts):
            return value
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return kind(shown) if kind is tuple else _Shown(_set_text(shown))
    return shown


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of a builtin
        return []


def _hints(target: Any) -> dict[str, Any]:
    try:
        return {} if target is None else typing.get_type_hints(target, include_extras=True)
    except Exception:  # a name that exists for type checkers only: the annotation's text is judged then
        return {}


def _is_marked(hint: Any) -> bool:
    if isinstance(hint, str):
        return re.search(r"\bRedact\b", hint) is not None
    if hint is Redact or isinstance(hint, Redact):
        return True
    metadata = getattr(hint, "__metadata__", ())
    return any(map(_is_marked, metadata)) or any(_is_marked(part) for part in typing.get_args(hint))


_NO_SIGNATURE = Redactor(None)
