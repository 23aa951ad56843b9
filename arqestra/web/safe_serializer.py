"""The serializer of the dashboard. It decodes msgpack and JSON, and never a pickle: unpickling runs code.

Each payload may be of another serializer, which the first byte tells. arq's payloads are maps of 5 to 13 entries, so
bytes that begin in another way are no payload.
"""

from typing import Any, Literal, NoReturn

from ..protocol.serializers import SERIALIZERS, Serializer

__all__ = ("SAFE_SERIALIZER", "Format", "format_of", "serializer_for")

Format = Literal["msgpack", "json", "pickle", "unknown"]
_PICKLE_PROTOCOLS = range(2, 6)


def format_of(data: bytes) -> Format:
    """Which serializer wrote a payload or a result, judged by its first and last bytes."""
    first = data[:1]
    if first == b"\x80" and len(data) > 2 and data[1] in _PICKLE_PROTOCOLS and data[-1:] == b".":
        return "pickle"
    if b"\x81" <= first <= b"\x8f" or first in (b"\xde", b"\xdf"):
        return "msgpack"
    if first == b"{":
        return "json"
    return "pickle" if first in (b"(", b"}") and data[-1:] == b"." else "unknown"


def serializer_for(data: bytes) -> Serializer | None:
    """The serializer that wrote the data, if it is msgpack or JSON; else None."""
    found = format_of(data)
    return SERIALIZERS[found] if found in ("msgpack", "json") else None


def _refuse(value: Any) -> NoReturn:
    raise TypeError("the dashboard writes no payload of its own")


def _loads(data: bytes) -> Any:
    serializer = serializer_for(data)
    if serializer is None:
        raise ValueError(f"the dashboard reads msgpack and JSON alone, got {format_of(data)}")
    return serializer.loads(data)


# For the dashboard's pool: whatever in the library decodes with it is safe from pickles.
SAFE_SERIALIZER = Serializer("plain", _refuse, _loads, plain=True)
