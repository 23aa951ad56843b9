"""Attempts that have ended, as the lists of recent jobs keep them: `Pool.recent()` reads them.

An entry has a hundred bytes or two. It has no arguments and no result: the job has them, as long as its result is kept.
Of a failure it has what errors are grouped by: the type, and where it was raised.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import PurePath
from typing import NamedTuple

import msgspec

from .attempt_errors import storable, type_and_message

__all__ = ("ENDED_STATES", "EndedJob", "Failure", "decode_recent_job", "encode_recent_job", "failure_of")

# States of the lists, and how many attempts the list of each holds for one function of one queue.
ENDED_STATES = {"complete": 1_000, "failed": 2_000, "aborted": 500, "expired": 500, "retried": 500}
MESSAGE_CHARACTERS = 300


class Failure(NamedTuple):
    """What an attempt failed with.

    :ivar type: qualified name of the exception's class
    :ivar message: its first line
    :ivar place: where it was raised: `file.py:12 in function`, "" if that is not known
    """

    type: str
    message: str
    place: str


@dataclass(frozen=True, slots=True)
class EndedJob:
    """An attempt that has ended.

    :ivar state: "complete", "failed" (dead jobs too), "aborted", "expired", or "retried": it runs or ran again
    :ivar attempt: its number, from 1
    :ivar started: None if it ended without having been started
    :ivar failure: of a failed attempt, and of one that was retried because it failed
    :ivar worker_id: on which worker
    """

    job_id: str
    queue: str
    function: str
    state: str
    attempt: int
    enqueued: datetime
    started: datetime | None
    ended: datetime
    worker_id: str
    failure: Failure | None

    @property
    def run_s(self) -> float:
        """Seconds that it ran."""
        return 0.0 if self.started is None else max(0.0, (self.ended - self.started).total_seconds())


def failure_of(error: BaseException) -> Failure:
    """What an entry keeps of an error."""
    name, text = type_and_message(error)
    name, message = name.removeprefix("builtins."), text.strip().split("\n", 1)[0]
    return Failure(storable(name), message[:MESSAGE_CHARACTERS], storable(_place_of(error)))


def _place_of(error: BaseException) -> str:
    """The innermost frame; of the cause, if the error only wraps one (as a time limit does)."""
    trace = error.__traceback__
    if trace is None and error.__cause__ is not None:
        trace = error.__cause__.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{_shortened(code.co_filename)}:{trace.tb_lineno} in {code.co_name}"


@lru_cache(maxsize=1_000)
def _shortened(path: str) -> str:
    """The file and its folder."""
    return "/".join(PurePath(path).parts[-2:])


_encoder = msgspec.msgpack.Encoder()


def encode_recent_job(
    job_id: str,
    attempt: int,
    *,
    enqueued_ms: int,
    started_ms: int,
    worker_id: str,
    function: str,
    failure: Failure | None,
) -> bytes:
    """Bytes of one entry. Its score in the list is when it ended; the list's name has queue and state."""
    return _encoder.encode((job_id, attempt, enqueued_ms, started_ms, worker_id, function, failure))


def decode_recent_job(queue: str, state: str, ended_ms: float, data: bytes) -> EndedJob:
    """The ended job of one entry.

    :raises msgspec.MsgspecError, ValueError, TypeError: it was written by another version
    """
    job_id, attempt, enqueued_ms, started_ms, worker_id, function, failure = msgspec.msgpack.decode(data)
    return EndedJob(
        job_id,
        queue,
        function,
        state=state,
        attempt=attempt,
        enqueued=_moment(enqueued_ms),
        started=_moment(started_ms) if started_ms else None,
        ended=_moment(ended_ms),
        worker_id=worker_id,
        failure=None if failure is None else Failure(*failure),
    )


def _moment(time_ms: float) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
