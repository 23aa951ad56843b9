"""One run of a workflow's function in a test: what Redis would have of it, and what is asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..definitions.signature import Signature
from ..flow.compare import Point
from ..flow.execution import Effect
from ..protocol.wire import Payload
from ..store.flows import NodeRecord, WorkflowHistory

__all__ = ("Asked", "Decisions", "SimulatedRun", "StepEnd")


class Asked(NamedTuple):
    """A step that a workflow asks for.

    :ivar due_ms: when it may start
    :ivar payload: of its job
    """

    number: int
    call: Signature[Any]
    due_ms: int
    payload: Payload


class Decisions(NamedTuple):
    """What a workflow decided since the last time."""

    asked: list[Asked]
    aborts: list[int]
    effects: list[Effect]


class StepEnd(NamedTuple):
    """How a step ended.

    :ivar state: "c" complete, "f" failed or "a" aborted
    :ivar result: encoded; None if there is none
    :ivar value: what it gave, or the error
    """

    state: str
    result: bytes | None
    value: Any = None


class SimulatedRun:
    """One run of the function, from its beginning or from `continue_as_new`, and its history.

    :ivar points: each place where it waited
    """

    def __init__(self, payload: bytes, base: int, number: int) -> None:
        self.payload = payload
        self.base = base
        self.number = number
        self.started_ms = 0
        self.nodes: dict[int, NodeRecord] = {}
        self.waits: dict[int, str] = {}
        self.timers: dict[int, int] = {}
        self.events: list[tuple[bytes, bytes | None]] = []
        self.points: list[Point] = []

    def history(self, now_ms: int, point: Point | None = None) -> WorkflowHistory:
        """All of it, or as it was when it waited at a point."""
        last = point or (self.points[-1] if self.points else None)
        events = self.events if point is None else self.events[: point.seen]
        record = {"base": str(self.base), "rounds": str(self.number)}
        if self.started_ms:
            record |= {"started": str(self.started_ms), "ran": "" if last is None else last.encode()}
        for letter, name in ((b"x", "cancelled"), (b"d", "timed_out")):
            if any(event.startswith(letter) for event, _ in events):
                record[name] = "1"

        def until(known: dict[int, Any], number: int) -> dict[int, Any]:
            return {each: value for each, value in known.items() if point is None or each <= number}

        return WorkflowHistory(
            now_ms=now_ms,
            seen=len(events),
            record=record,
            nodes=until(self.nodes, 0 if point is None else point.number),
            timers=until(self.timers, 0 if point is None else point.number),
            events=events,
            waits=until(self.waits, 0 if point is None else point.waits),
        )
