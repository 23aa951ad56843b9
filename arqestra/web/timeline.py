"""A job's life as a picture: pieces of time, each with its state and its place on a line from 0 to 1000."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from .payload_view import PayloadView

__all__ = ("FailedAttempt", "Life", "Span", "timeline")

LENGTH = 1000
MIN_WIDTH = 4  # a piece that took no time at all is still seen


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
    """Its number, start and end."""

    number: int
    start_ms: int
    end_ms: int


class Life(NamedTuple):
    """How a job stands.

    :ivar state: as the job page has it
    :ivar due_ms: of a job in a queue
    :ivar since_ms: when the attempt that runs started, if that is known
    """

    state: str
    due_ms: int | None = None
    since_ms: int | None = None


def timeline(life: Life, payload_view: PayloadView | None, failed: Sequence[FailedAttempt], now_ms: int) -> list[Span]:
    """The pieces of a job's life, in order.

    :param failed: the attempts that failed, also those before it was retried by hand
    """
    state, due_ms = life.state, life.due_ms
    if payload_view is None or payload_view.enqueued_ms is None:
        return []
    pieces: list[tuple[str, str, int, int, bool]] = []
    at_ms = payload_view.enqueued_ms
    for number, start_ms, end_ms in failed:
        pieces.append(("queued", "waited" if number == 1 else "waited to be retried", at_ms, start_ms, False))
        pieces.append(("failed", f"attempt {number} failed", start_ms, end_ms, False))
        at_ms = end_ms
    if payload_view.started_ms is not None and payload_view.ended_ms is not None:
        known = failed and payload_view.success is False and abs(failed[-1].end_ms - payload_view.ended_ms) < 1000
        if not known:
            pieces.append(("queued", "waited", at_ms, payload_view.started_ms, False))
            pieces.append((state, f"ran: {state}", payload_view.started_ms, payload_view.ended_ms, False))
    elif state == "deferred" and due_ms is not None:
        pieces.append(("deferred", "deferred", at_ms, now_ms, True))
        pieces.append(("deferred", "until it is due", now_ms, due_ms, True))
    elif state == "running":
        if life.since_ms is not None and life.since_ms >= at_ms:
            pieces.append(("queued", "waited", at_ms, life.since_ms, False))
            pieces.append(("running", "runs", life.since_ms, now_ms, True))
        else:
            pieces.append(("running", "waited and runs", at_ms, now_ms, True))
    elif state in ("queued", "held", "waiting"):
        pieces.append((state, state, at_ms, now_ms, True))
    return _drawn([piece for piece in pieces if piece[3] >= piece[2]])


def _drawn(pieces: Sequence[tuple[str, str, int, int, bool]]) -> list[Span]:
    if not pieces:
        return []
    first_ms, last_ms = pieces[0][2], max(piece[3] for piece in pieces)
    scale = (LENGTH - MIN_WIDTH * len(pieces)) / max(1, last_ms - first_ms)
    spans, x = [], 0.0
    for kind, label, start_ms, end_ms, is_open in pieces:
        width = MIN_WIDTH + (end_ms - start_ms) * scale
        spans.append(Span(kind, label, start_ms, end_ms, round(x, 1), round(width, 1), is_open))
        x += width
    return spans
