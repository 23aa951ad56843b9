"""An update as `_finish.lua` reads it: tests of the scripts and their model speak of updates by the script's names."""

from __future__ import annotations

from typing import Literal, NamedTuple

from arqestra.store.records import LeaseRef
from arqestra.store.updates import (
    Abort,
    AcknowledgeEarly,
    Bury,
    Complete,
    ContinueAsNew,
    Ended,
    Expire,
    Fail,
    Interrupt,
    Park,
    PutBack,
    Release,
    Retry,
    Throttle,
    Update,
)

Kind = Literal[
    "end", "fail", "abort", "expire", "dead", "retry", "release", "interrupt", "limit", "early", "park", "again"
]
ENDS: dict[str, type[Ended]] = {"end": Complete, "fail": Fail, "abort": Abort, "expire": Expire, "dead": Bury}
PUT_BACK: dict[str, type[PutBack]] = {"retry": Retry, "release": Release, "interrupt": Interrupt}


class RawUpdate(NamedTuple):
    """What `_finish.lua` is told, field by field.

    :ivar number: of an end: ms to keep the id; else ms until the job is due again
    :ivar result: of a retry or release the number of attempts, of `park` the events seen; b"" for none
    :ivar error: b"+" where there may be a history to which this attempt adds nothing
    """

    id: str
    queue: str
    token: str
    kind: Kind
    number: int = 0
    ttl_ms: int = -1
    result: bytes = b""
    error: bytes = b""
    unstarted: bool = False

    def update(self) -> Update:
        """The same as the library writes it."""
        lease = LeaseRef(self.id, self.queue, self.token)
        error, had_errors = (b"", True) if self.error == b"+" else (self.error, False)
        data, _, payload = self.result.partition(b"\n")
        if self.kind in ENDS:
            return ENDS[self.kind](
                lease,
                result=self.result,
                result_ttl_ms=self.ttl_ms,
                keep_id_ms=self.number,
                error=error,
                had_errors=had_errors,
                unstarted=self.unstarted,
            )
        if self.kind in PUT_BACK:
            return PUT_BACK[self.kind](
                lease,
                delay_ms=self.number,
                attempts=int(data) if data else None,
                payload=payload,
                error=error,
                had_errors=had_errors,
                unstarted=self.unstarted,
            )
        if self.kind == "park":
            return Park(lease, int(data or b"0"), self.number, payload)
        if self.kind == "limit":
            return Throttle(lease, self.result)
        return AcknowledgeEarly(lease) if self.kind == "early" else ContinueAsNew(lease, self.result)
