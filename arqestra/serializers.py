"""How payloads and results become bytes: pickle (arq's default), msgpack or JSON.

Pickle takes any Python object, and runs code of whoever can write to the Redis. `serializer="msgpack"` or `"json"` turn
it off in both directions: they carry plain data, and dataclasses, datetimes, UUIDs, enums and pydantic models as such
data, from which the worker rebuilds the arguments by the type hints of the job function (`function.py`).
"""

import pickle
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, NamedTuple

import msgspec

from .errors import SettingsError
from .redact import shown_value

__all__ = ("SERIALIZERS", "Serializer", "serializer_of")


class Serializer(NamedTuple):
    """A pair of functions between objects and bytes.

    :ivar name: `pickle`, `msgpack`, `json` or `custom`
    :ivar dumps: object to bytes; may raise anything
    :ivar loads: bytes to object; may raise anything
    :ivar plain: only plain data comes back, so arguments are rebuilt from type hints and exceptions travel as data
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


_pickle = Serializer("pickle", lambda value: pickle.dumps(value, protocol=5), pickle.loads, plain=False)
_msgpack = Serializer(
    "msgpack",
    msgspec.msgpack.Encoder(enc_hook=_as_plain).encode,
    msgspec.msgpack.Decoder(strict=False).decode,
    plain=True,
)
_json = Serializer("json", msgspec.json.Encoder(enc_hook=_as_plain).encode, msgspec.json.Decoder().decode, plain=True)

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
