"""What Redis is told about a leased job: one type for each way on, or out.

`lua/_finish.lua` carries them out, if the lease is still held. `codec.py` alone knows how the script reads them.
"""

from typing import Protocol

from msgspec import Struct

__all__ = (
    "Abort",
    "AcknowledgeEarly",
    "Bury",
    "Complete",
    "ContinueAsNew",
    "Ended",
    "Expire",
    "Fail",
    "Interrupt",
    "Lease",
    "Park",
    "PutBack",
    "Release",
    "Retry",
    "Throttle",
    "Update",
)


class Lease(Protocol):
    """A job and the token by which this worker holds it: a `LeasedJob`, or a `HeldLease`."""

    @property
    def id(self) -> str: ...

    @property
    def queue(self) -> str: ...

    @property
    def token(self) -> str: ...


class Update(Struct, frozen=True):
    """What Redis is told about a leased job.

    :ivar lease: the job, and the token that must still be its lease's
    """

    lease: Lease


class Ended(Update, frozen=True):
    """The job has ended.

    :ivar result: encoded; b"" if none is to be kept
    :ivar result_ttl_ms: how long the result is kept; 0 for ever, -1 for no result
    :ivar keep_id_ms: how long the id stays taken
    :ivar error: what this attempt failed with, encoded for the job's history; b"" if it did not fail
    :ivar had_errors: earlier attempts may have left a history
    :ivar unstarted: the job was admitted under its limits and was not called: that counts as no start
    """

    result: bytes = b""
    result_ttl_ms: int = -1
    keep_id_ms: int = 0
    error: bytes = b""
    had_errors: bool = False
    unstarted: bool = False


class Complete(Ended, frozen=True):
    """Its function has returned."""


class Fail(Ended, frozen=True):
    """It failed for good, and no dead set keeps it."""


class Bury(Ended, frozen=True):
    """It failed for good, and goes to the dead set."""


class Abort(Ended, frozen=True):
    """Somebody asked for its abort, or it cancelled itself."""


class Expire(Ended, frozen=True):
    """Its deadline passed before it started."""


class PutBack(Update, frozen=True):
    """The job goes back to its queue.

    :ivar delay_ms: it is due that much later; 0: at its old place in the queue
    :ivar attempts: attempts that count as started, if that is another number than Redis has counted
    :ivar payload: with which it is run again, if that is another one; else b""
    :ivar error, had_errors, unstarted: as of `Ended`
    """

    delay_ms: int = 0
    attempts: int | None = None
    payload: bytes = b""
    error: bytes = b""
    had_errors: bool = False
    unstarted: bool = False


class Retry(PutBack, frozen=True):
    """The attempt counts."""


class Release(PutBack, frozen=True):
    """The attempt does not count."""


class Interrupt(PutBack, frozen=True):
    """As `Release`, of a job that had begun to run: only so many of them are free."""


class Throttle(Update, frozen=True):
    """The job was not admitted under its limits: it waits for them.

    :ivar limits: the limits, encoded
    """

    limits: bytes


class AcknowledgeEarly(Update, frozen=True):
    """The job is about to start, and must never start again."""


class Park(Update, frozen=True):
    """A workflow waits without a worker.

    :ivar seen: events of its history that it has taken in
    :ivar delay_ms: until it is due; -1: only news makes it due
    :ivar payload: as of `PutBack`
    """

    seen: int
    delay_ms: int = -1
    payload: bytes = b""


class ContinueAsNew(Update, frozen=True):
    """A workflow starts anew.

    :ivar payload: with what
    """

    payload: bytes
