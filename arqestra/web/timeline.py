"""The picture of a job's life: phases, each with a state, drawn as spans of a line from 0 to 1000."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from .payload_view import PayloadView

__all__ = ("FailedAttempt", "Life", "Span", "timeline")

LENGTH = 1000
MIN_WIDTH = 4  # a phase that took no time is still visible


class Span(Struct, frozen=True):
    """A piece of the line.

    :ivar kind: "deferred", "queued", "running", "failed", "complete", "aborted", "expired"
    :ivar x, width: of a line of 1,000
    :ivar open: it has not ended
    """

    kind: str
    label: str
    start_ms: int
    end_ms: int
    x: float
    width: float
    open: bool = False


class FailedAttempt(NamedTuple):
    """The number of an attempt that failed, its start and its end."""

    number: int
    start_ms: int
    end_ms: int


class _Phase(NamedTuple):
    """A part of a job's life, before it is drawn."""

    kind: str
    label: str
    start_ms: int
    end_ms: int
    open: bool = False


class Life(NamedTuple):
    """What a job is doing.

    :ivar state: as the job page has it
    :ivar due_ms: of a job in a queue
    :ivar since_ms: when the attempt that runs started, if that is known
    """

    state: str
    due_ms: int | None = None
    since_ms: int | None = None


def timeline(life: Life, payload_view: PayloadView | None, failed: Sequence[FailedAttempt], now_ms: int) -> list[Span]:
    """The spans of a job's life, in order.

    :param failed: the attempts that failed, also those before it was retried by hand
    """
    if payload_view is None or payload_view.enqueued_ms is None:
        return []
    phases: list[_Phase] = []
    at_ms = payload_view.enqueued_ms
    for number, start_ms, end_ms in failed:
        phases.append(_Phase("queued", "waited" if number == 1 else "waited to be retried", at_ms, start_ms))
        phases.append(_Phase("failed", f"attempt {number} failed", start_ms, end_ms))
        at_ms = end_ms
    if payload_view.started_ms is not None and payload_view.ended_ms is not None:
        phases += _last_attempt(life.state, payload_view, failed, at_ms)
    else:
        phases += _current_phases(life, at_ms, now_ms)
    return _drawn([phase for phase in phases if phase.end_ms >= phase.start_ms])


def _last_attempt(state: str, payload_view: PayloadView, failed: Sequence[FailedAttempt], at_ms: int) -> list[_Phase]:
    """The phases of the attempt that ended the job, unless it is one of the failed attempts."""
    started_ms, ended_ms = payload_view.started_ms, payload_view.ended_ms
    assert started_ms is not None
    assert ended_ms is not None
    if failed and payload_view.success is False and abs(failed[-1].end_ms - ended_ms) < 1000:
        return []
    return [_Phase("queued", "waited", at_ms, started_ms), _Phase(state, f"ran: {state}", started_ms, ended_ms)]


def _current_phases(life: Life, at_ms: int, now_ms: int) -> list[_Phase]:
    """The phases since the last attempt of a job that has not ended."""
    state = life.state
    if state == "deferred" and life.due_ms is not None:
        return [
            _Phase("deferred", "deferred", at_ms, now_ms, open=True),
            _Phase("deferred", "until it is due", now_ms, life.due_ms, open=True),
        ]
    if state == "running":
        if life.since_ms is None or life.since_ms < at_ms:
            return [_Phase("running", "waited and runs", at_ms, now_ms, open=True)]
        return [
            _Phase("queued", "waited", at_ms, life.since_ms),
            _Phase("running", "runs", life.since_ms, now_ms, open=True),
        ]
    if state in ("queued", "held", "waiting"):
        return [_Phase(state, state, at_ms, now_ms, open=True)]
    return []


def _drawn(phases: Sequence[_Phase]) -> list[Span]:
    if not phases:
        return []
    first_ms, last_ms = phases[0].start_ms, max(phase.end_ms for phase in phases)
    scale = (LENGTH - MIN_WIDTH * len(phases)) / max(1, last_ms - first_ms)
    spans, x = [], 0.0
    for phase in phases:
        width = MIN_WIDTH + (phase.end_ms - phase.start_ms) * scale
        spans.append(Span(**phase._asdict(), x=round(x, 1), width=round(width, 1)))
        x += width
    return spans
