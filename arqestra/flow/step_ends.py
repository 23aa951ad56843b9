"""How the steps of a workflow ended: what the function gets, and which step led to the error that ended it."""

import asyncio
from typing import Any, NamedTuple

import msgspec
from arq.jobs import SerializationError

from ..definitions.coerce import coerce_value
from ..definitions.signature import Signature
from ..errors import JobCancelled, RemoteTraceback, UpstreamFailed
from ..protocol.serializers import Serializer
from ..protocol.wire import decode_result
from .compare import Point

__all__ = ("Faults", "coerced", "read_end")

MAX_LINKS = 20  # from an error to the one that it was raised from, and so on


class Fault(NamedTuple):
    """An error that the function got.

    :ivar error: kept alive, so that no other object gets its id
    :ivar before: where the workflow stood before it got the error
    """

    error: BaseException
    before: Point


class Faults:
    """The errors that the function got from its steps, and where it was cancelled: from there it can be resumed."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self.cancelled_at: Point | None = None

    def add(self, error: BaseException, before: Point) -> None:
        """The function gets an error."""
        self._faults[id(error)] = Fault(error, before)

    def of_end(self, task: asyncio.Task[Any]) -> Point | None:
        """Where the workflow stood before the error that ended it; None if its own code failed."""
        if task.cancelled():
            return self.cancelled_at
        error = task.exception()
        return None if error is None else self.resume_point(error)

    def resume_point(self, error: BaseException, links: int = MAX_LINKS) -> Point | None:
        """Where it stood before the step or cancellation that led to an error; None if its own code failed."""
        known = self._faults.get(id(error))
        if known is not None:
            return known.before
        if isinstance(error, asyncio.CancelledError) and self.cancelled_at is not None:
            return self.cancelled_at
        found = [self.resume_point(each, links - 1) for each in _linked(error)] if links else []
        return min((point for point in found if point is not None), default=None)


def _linked(error: BaseException) -> tuple[BaseException, ...]:
    """What an error was raised from, or while handling; the errors of a group."""
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions
    if isinstance(error, UpstreamFailed) and error.error is not None:
        return (error.error,)
    before = error.__cause__ if error.__cause__ is not None or error.__suppress_context__ else error.__context__
    return () if before is None else (before,)


def read_end(serializer: Serializer, step: str, result: bytes) -> tuple[bool, Any]:
    """Whether a step completed, and its value or the error that the function gets.

    :param step: which one, for people
    :raises DeserializationError: this process cannot read it
    """
    info, remote_traceback = decode_result(serializer, result)
    if info.success:
        return True, info.result
    error = info.result
    if not isinstance(error, BaseException):
        error = SerializationError(f"{step}: {error}")
    if not isinstance(error, Exception):  # a CancelledError would pass for the workflow's own
        error = JobCancelled(f"{step} was aborted")
    if isinstance(error, StopIteration):
        error = RuntimeError(f"{step} raised {error!r}")
    if remote_traceback and error.__cause__ is None:
        error.__cause__ = RemoteTraceback(remote_traceback)
    return False, error


def coerced(serializer: Serializer, call: Signature[Any] | None, value: Any) -> Any:
    """A result as its function's annotation says, under a serializer of plain data."""
    if call is None or not serializer.plain:
        return value
    try:
        return coerce_value(getattr(call.function, "result_type", Any), value)
    except msgspec.ValidationError:
        return value
