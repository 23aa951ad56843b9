"""Progress and log lines of a running job: `Job.progress()` and `Job.log()` read them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import Any

import msgspec

from ..errors import ArgumentsError
from .attempt_errors import storable

__all__ = (
    "LOG_LINES",
    "LogLine",
    "Progress",
    "checked_progress",
    "decode_line",
    "decode_progress",
    "encode_line",
    "encode_progress",
    "line_text",
)

LOG_LINES = 500  # that are kept of a job
LINE_CHARACTERS = 2_000
MESSAGE_CHARACTERS = 500
MAX_INT = 2**53  # beyond it a reader in another language has no exact number either
_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    :ivar done: units that are done
    :ivar total: units that there are; None if that is not known
    :ivar message: what the job did at that moment
    :ivar at: when it reported, on the worker's clock
    :ivar attempt: number of the attempt that reported
    """

    done: float
    total: float | None
    message: str
    at: datetime
    attempt: int

    @property
    def share(self) -> float | None:
        """From 0 to 1; None if the total is not known."""
        if self.total is None:
            return None
        return 1.0 if self.total <= 0 else min(1.0, max(0.0, self.done / self.total))


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a job's log."""

    at: datetime
    attempt: int
    text: str


def checked_progress(done: Any, total: Any, message: Any) -> tuple[float, float | None, str]:
    """The values of a call of `progress`.

    :raises ArgumentsError: they are no numbers, or no text
    """
    plain_done, plain_total = _plain_number(done), None if total is None else _plain_number(total)
    if plain_done is None or (plain_total is None and total is not None):
        raise ArgumentsError(f"progress: expected numbers of done and total, got {done!r} and {total!r}")
    if not isinstance(message, str):
        raise ArgumentsError(f"progress: message: expected a str, got {message!r}")
    return plain_done, plain_total, storable(message[:MESSAGE_CHARACTERS])


def _plain_number(value: Any) -> float | None:
    """A number (also numpy's, or of an enum) as an int or float that can be stored; None if it is no number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = int(value) if isinstance(value, Integral) else float(value)
        if abs(number) > MAX_INT:
            number = float(number)
    except OverflowError:
        return None
    return number if number == number else None


def line_text(text: Any) -> str:
    """The text of a line as it is stored."""
    return storable(str(text)[:LINE_CHARACTERS])


def encode_progress(done: float, total: float | None, message: str, at_ms: int, attempt: int) -> bytes:
    """Bytes of it."""
    return _pack((done, total, message, at_ms, attempt))


def decode_progress(data: bytes) -> Progress:
    """What was written."""
    done, total, message, at_ms, attempt = msgspec.msgpack.decode(data)
    return Progress(done, total, message, datetime.fromtimestamp(at_ms / 1000, UTC), attempt)


def encode_line(at_ms: int, attempt: int, text: str) -> bytes:
    """Bytes of it."""
    return _pack((at_ms, attempt, text))


def decode_line(data: bytes) -> LogLine:
    """What was written."""
    at_ms, attempt, text = msgspec.msgpack.decode(data)
    return LogLine(datetime.fromtimestamp(at_ms / 1000, UTC), attempt, text)
