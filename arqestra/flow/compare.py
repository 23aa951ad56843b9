"""What a replay compares: what a workflow asked for, and how far it had come when that was written down."""

import hashlib
from typing import Any, NamedTuple

import msgspec

from ..definitions.signature import Signature
from ..store.flows import NodeRecord, Reference

__all__ = ("Point", "described", "digest_of")


class Point(NamedTuple):
    """A place in a workflow's history at which it waits.

    :ivar seen: events of its log that it has taken in
    :ivar number: the highest number that it has asked for
    :ivar waits: how many times it has asked for an event
    """

    seen: int
    number: int
    waits: int

    def encode(self) -> str:
        return f"{self.seen} {self.number} {self.waits}"

    @classmethod
    def decode(cls, text: str) -> "Point | None":
        """None if the text is empty: it has never come to a place where it waits."""
        return cls(*map(int, text.split(" "))) if text else None


def described(record: NodeRecord | None) -> str:
    """For people."""
    if record is None:
        return "nothing"
    return {"job": f"a call of {record.label}", "value": f"the side effect {record.label}"}.get(
        record.kind, f"the {record.kind} {record.label}" if record.kind != "timer" else "a timer"
    )


def digest_of(call: Signature[Any], gets: Reference | None = None) -> str:
    """Of the arguments, as far as they can be compared between runs: other objects count by their class.

    :param gets: what its first argument is made of
    """
    plain = [call.args, sorted(call.kwargs.items()), *([] if gets is None else [gets])]
    try:
        data = msgspec.json.encode(plain, enc_hook=lambda value: f"<{type(value).__qualname__}>", order="sorted")
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return ""
    return hashlib.sha256(data).hexdigest()[:12]
