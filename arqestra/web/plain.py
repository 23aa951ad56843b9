"""What the dashboard decodes: msgpack and JSON, by plain decoders. Pickle runs code, so nothing here ever unpickles.

The dashboard does not know which serializer wrote a payload, and several may have: each is known by its first byte.
arq's dictionaries are maps of 5 to 13 entries, so what begins otherwise is none of them.
"""

from typing import Any, Literal, NoReturn

from ..protocol.serializers import SERIALIZERS, Serializer

__all__ = ("PLAIN", "Format", "format_of", "serializer_for")

Format = Literal["msgpack", "json", "pickle", "unknown"]
_PICKLE_PROTOCOLS = range(2, 6)


def format_of(data: bytes) -> Format:
    """Which serializer wrote a payload or a result, as far as that can be told without reading it."""
    first = data[:1]
    if first == b"\x80" and len(data) > 2 and data[1] in _PICKLE_PROTOCOLS and data[-1:] == b".":
        return "pickle"
    if b"\x81" <= first <= b"\x8f" or first in (b"\xde", b"\xdf"):
        return "msgpack"
    if first == b"{":
        return "json"
    return "pickle" if first in (b"(", b"}") and data[-1:] == b"." else "unknown"


def serializer_for(data: bytes) -> Serializer | None:
    """The plain serializer that wrote it; None if none did."""
    found = format_of(data)
    return SERIALIZERS[found] if found in ("msgpack", "json") else None


def _refuse(value: Any) -> NoReturn:
    raise TypeError("the dashboard writes no payload of its own")


def _loads(data: bytes) -> Any:
    serializer = serializer_for(data)
    if serializer is None:
        raise ValueError(f"the dashboard reads msgpack and JSON alone, got {format_of(data)}")
    return serializer.loads(data)


# The serializer of the dashboard's pool: whatever of the library decodes with it can come upon a pickle without harm.
PLAIN = Serializer("plain", _refuse, _loads, plain=True)
