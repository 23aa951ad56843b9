"""The errors of a job's failed attempts, as msgpack, whatever the pool's serializer is."""

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from ..errors import RemoteError

__all__ = ("AttemptError", "decode_attempt_error", "encode_attempt_error", "storable", "text_of", "type_and_message")

TRACEBACK_CHARACTERS = 4_000
MESSAGE_CHARACTERS = 2_000

_encoder = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class AttemptError:
    """Why an attempt failed.

    :ivar job_try: number of the attempt, from 1
    :ivar type: qualified name of the exception's class
    :ivar message: what `str()` of it gave
    :ivar traceback: as text; only its end, if it is long
    :ivar worker: id of the worker
    :ivar started, ended: on the worker's clock
    """

    job_try: int
    type: str
    message: str
    traceback: str
    worker: str
    started: datetime
    ended: datetime


def encode_attempt_error(
    error: BaseException, traceback: str, *, job_try: int, worker: str, started_ms: int, ended_ms: int
) -> bytes:
    """Bytes of one entry."""
    type_name, message = type_and_message(error)
    return _encoder.encode(
        {
            "try": job_try,
            "type": type_name,
            "message": message[:MESSAGE_CHARACTERS],
            "traceback": storable(traceback[-TRACEBACK_CHARACTERS:]),
            "worker": worker,
            "started": started_ms,
            "ended": ended_ms,
        }
    )


def type_and_message(error: BaseException) -> tuple[str, str]:
    """The qualified name of an error's type, and its text; for a `RemoteError`, those of the original error."""
    if isinstance(error, RemoteError):
        return error.type_name, error.message
    return f"{type(error).__module__}.{type(error).__qualname__}", text_of(error)


def text_of(error: BaseException) -> str:
    """What `str()` of an error gives, as text that can be stored."""
    try:
        return storable(str(error))
    except Exception as failure:
        return storable(f"(its str() failed: {failure!r})")


def storable(text: str) -> str:
    """The text, with escapes for what UTF-8 cannot write, such as a file name in another encoding."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def decode_attempt_error(data: bytes) -> AttemptError:
    """One entry; if it cannot be read, its type is "unreadable"."""
    try:
        entry = msgspec.msgpack.decode(data)
        started, ended = (datetime.fromtimestamp(entry[name] / 1000, tz=UTC) for name in ("started", "ended"))
        return AttemptError(
            job_try=entry["try"],
            type=entry["type"],
            message=entry["message"],
            traceback=entry["traceback"],
            worker=entry["worker"],
            started=started,
            ended=ended,
        )
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, OverflowError) as error:
        epoch = datetime.fromtimestamp(0, tz=UTC)
        return AttemptError(
            job_try=0, type="unreadable", message=str(error), traceback="", worker="", started=epoch, ended=epoch
        )
