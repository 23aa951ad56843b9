"""What a replay compares: what the workflow asks for, with what it asked for in the run before.

The first difference is a `Mismatch`: the code has changed, or it depends on more than its arguments and the results of
its steps. Pure: nothing here reads or writes.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from ..definitions.signature import Signature
from ..store.flows import NodeRecord, Reference, WorkflowHistory

__all__ = ("Mismatch", "Point", "RecordedRun", "describe_node", "digest_of")


class Point(NamedTuple):
    """How far a workflow had come when it waited.

    :ivar seen: events of its log that were brought in
    :ivar number: the number of the last thing that it asked for
    :ivar waits: how many times it waited for an event by name
    """

    seen: int
    number: int
    waits: int

    def encode(self) -> str:
        return f"{self.seen} {self.number} {self.waits}"

    @classmethod
    def decode(cls, text: str) -> "Point | None":
        """None if the text is empty: the workflow never came so far that it waited."""
        return cls(*map(int, text.split(" "))) if text else None


class Mismatch(NamedTuple):
    """Where a replay differs from the run before. Both are for people.

    :ivar expected: what the run before did
    :ivar got: what the replay does
    """

    expected: str
    got: str


class RecordedRun:
    """What the run before did, as the history of the workflow has it.

    :ivar nodes: what it asked for, by number
    :ivar last: where it waited last; None if it never did
    :ivar exact: whether the history says where. One that an older version wrote does not: then all of it counts as run,
        and less is compared
    """

    def __init__(self, history: WorkflowHistory) -> None:
        self.nodes: Mapping[int, NodeRecord] = history.nodes
        self._waits = history.waits
        self._events = history.seen
        self.exact = "ran" in history.record or "started" not in history.record
        self.last = Point.decode(history.record.get("ran", "")) if self.exact else Point(history.seen, 0, 0)

    def compare_node(self, number: int, asked: NodeRecord, *, replaying: bool) -> Mismatch | None:
        """Compare what the workflow asks for under a number."""
        recorded = self.nodes.get(number)
        if recorded is None:
            if not self._is_beyond(number, "number", replaying=replaying):
                return None
            return Mismatch("nothing more before it waits", f"{describe_node(asked)} as number {number}")
        if (recorded.kind, recorded.label, recorded.digest) == (asked.kind, asked.label, asked.digest):
            return None
        hint = " with other arguments" if recorded.label == asked.label else ""
        return Mismatch(f"{describe_node(recorded)} as number {number}", f"{describe_node(asked)}{hint}")

    def compare_wait(self, number: int, name: str, *, replaying: bool) -> Mismatch | None:
        """Compare the event that the workflow waits for."""
        recorded = self._waits.get(number)
        if recorded is None and self._is_beyond(number, "waits", replaying=replaying):
            return Mismatch("nothing more before it waits", f"a wait for event {name!r}")
        if recorded is not None and recorded != name:
            return Mismatch(f"a wait for event {recorded!r}", f"one for {name!r}")
        return None

    def compare_last_point(self, point: Point) -> Mismatch | None:
        """At the last point of the run before: compare whether the replay asked for as much."""
        assert self.last is not None
        if point.number < self.last.number:
            number = point.number + 1
            missing = f"{describe_node(self.nodes.get(number))} as number {number}"
            return Mismatch(missing, "nothing more before it waits")
        if point.waits < self.last.waits:
            return Mismatch(f"a wait for event {self._waits.get(point.waits + 1)!r}", "none before it waits")
        return None

    def is_recorded_wait(self, number: int) -> bool:
        """Whether the history says for which event it waited."""
        return number in self._waits

    def covers(self, seen: int) -> bool:
        """Whether the run before came to where a replay is that has seen so many events."""
        return self.exact or (seen < self._events and bool(self.nodes))

    def _is_beyond(self, number: int, what: Literal["number", "waits"], *, replaying: bool) -> bool:
        """Whether the replay asks for more than the run before, at a point where that one did not ask."""
        return replaying and self.exact and self.last is not None and number > getattr(self.last, what)


def describe_node(record: NodeRecord | None) -> str:
    """What a workflow asked for, for people."""
    if record is None:
        return "nothing"
    return {"job": f"a call of {record.label}", "value": f"the side effect {record.label}"}.get(
        record.kind, f"the {record.kind} {record.label}" if record.kind != "timer" else "a timer"
    )


def digest_of(call: Signature[Any], gets: Reference | None = None) -> str:
    """A digest of a call's arguments, to compare them between runs. What JSON cannot carry counts by its class.

    :param gets: what its first argument is made of
    :returns: "" if there is none
    """
    compared = [call.args, sorted(call.kwargs.items()), *([] if gets is None else [gets])]
    try:
        data = msgspec.json.encode(compared, enc_hook=lambda value: f"<{type(value).__qualname__}>", order="sorted")
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return ""
    return hashlib.sha256(data).hexdigest()[:12]
