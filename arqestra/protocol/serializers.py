"""How payloads and results become bytes: pickle (arq's default), msgpack or JSON.

Pickle takes any Python object, and runs code of whoever can write to the Redis. `serializer="msgpack"` or `"json"` turn
it off in both directions: they carry plain data, and dataclasses, datetimes, UUIDs, enums and pydantic models as such
data, from which the worker coerces the arguments to the type hints of the job function (`coerce.py`). What no hint
can bring back is refused when it is written: integers beyond 64 bits in msgpack; in JSON nan, infinity, and a
dictionary with two keys of one text.
"""

import pickle
import re
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from functools import partial
from math import isfinite
from pathlib import PurePath
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ..definitions.redact import shown_value
from ..errors import SettingsError

__all__ = ("SERIALIZERS", "Serializer", "serializer_of")


class Serializer(NamedTuple):
    """A pair of functions between objects and bytes.

    :ivar name: `pickle`, `msgpack`, `json` or `custom`
    :ivar dumps: object to bytes; may raise anything
    :ivar loads: bytes to object; may raise anything
    :ivar plain: only plain data comes back: arguments are coerced to type hints, and exceptions travel as data
    """

    name: str
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]
    plain: bool


def _as_plain(value: Any) -> Any:
    """msgspec's hook for a type that it does not know."""
    dump = getattr(value, "model_dump", None)  # a pydantic model
    if dump is not None:
        return dump(mode="json")
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(
        f"{type(value).__module__}.{type(value).__qualname__} is not serializable here: expected plain data, a "
        f'dataclass, datetime, UUID, enum or pydantic model; use serializer="pickle" for other objects'
    )


_WITHOUT_FLOATS = frozenset((str, int, bool, type(None), bytes))
_ONLY_STR = frozenset((str,))
_BUILTIN = (date, time, timedelta, UUID)  # kept as they are
_LEAVES = (str, int, bytes, bytearray, memoryview, date, time, timedelta, UUID, Decimal, msgspec.Raw)
_NUMBER_AS_KEY = re.compile(rb'"-?(?:\d|nan|inf)[^"\\]*":')
_encode_json = msgspec.json.Encoder(enc_hook=_as_plain).encode


def _dump_json(value: Any) -> bytes:
    """Bytes of it.

    :raises ValueError: JSON would silently change it: nan and infinity become null, and of two keys with the same text
        the second wins
    """
    data = _encode_json(value)
    # As a rule the nulls are the Nones of our own dictionary, and no key is a number: then nothing can be wrong.
    nones = list(value.values()).count(None) if type(value) is dict else int(value is None)
    if data.count(b"null") != nones or _NUMBER_AS_KEY.search(data):
        _check_for_json(value)
    return data


def _check_for_json(value: Any) -> None:
    pending = [value]
    while pending:
        each = pending.pop()
        kind = type(each)
        if kind in _WITHOUT_FLOATS:
            continue
        if kind is dict:
            if not _ONLY_STR.issuperset(map(type, each)):
                _check_keys(each)
            pending += each.values()
        elif kind is list or kind is tuple:
            pending += each
        elif kind is float:
            if not isfinite(each):
                raise ValueError(_no_number(each))
        elif not isinstance(each, _LEAVES):  # a set, a dataclass, an enum, a model: what is written of it
            pending.append(msgspec.to_builtins(each, enc_hook=_as_plain, builtin_types=_BUILTIN))


def _check_keys(value: dict[Any, Any]) -> None:
    """Refuse keys that are the same once they are text, and keys that are nan or infinity."""
    for key in value:
        if isinstance(key, float) and not isfinite(key):
            raise ValueError(_no_number(key))
    texts = msgspec.json.decode(_encode_json(dict.fromkeys(value)))
    if len(texts) < len(value):
        raise ValueError(
            'JSON has only text as keys: expected keys that differ as text, got some that do not, as 1 and "1" would; '
            'use serializer="msgpack" or "pickle"'
        )


def _no_number(value: float) -> str:
    return f'JSON has no {value!r}: expected a finite number; use None, or serializer="msgpack" or "pickle"'


_pickle = Serializer("pickle", partial(pickle.dumps, protocol=5), pickle.loads, plain=False)
_msgpack = Serializer(
    "msgpack",
    msgspec.msgpack.Encoder(enc_hook=_as_plain).encode,
    msgspec.msgpack.Decoder(strict=False).decode,
    plain=True,
)
_json = Serializer("json", _dump_json, msgspec.json.Decoder().decode, plain=True)

SERIALIZERS = {"pickle": _pickle, "msgpack": _msgpack, "json": _json}


def serializer_of(
    chosen: "str | Serializer | None",
    job_serializer: Callable[[dict[str, Any]], bytes] | None = None,
    job_deserializer: Callable[[bytes], dict[str, Any]] | None = None,
) -> Serializer:
    """The serializer that the arguments of a pool or worker ask for.

    :param chosen: `"pickle"`, `"msgpack"`, `"json"`, a `Serializer`, or None for arq's arguments below
    :param job_serializer: arq's argument; None is pickle
    :param job_deserializer: arq's argument; None is pickle
    :raises SettingsError: for an unknown name
    """
    if isinstance(chosen, Serializer):
        return chosen
    if chosen is not None:
        if chosen not in SERIALIZERS:
            raise SettingsError(f"serializer: expected one of {', '.join(SERIALIZERS)}, got {shown_value(chosen)}")
        return SERIALIZERS[chosen]
    if job_serializer is None and job_deserializer is None:
        return _pickle
    return Serializer("custom", job_serializer or _pickle.dumps, job_deserializer or _pickle.loads, plain=False)
