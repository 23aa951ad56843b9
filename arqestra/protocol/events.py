"""What happens to jobs and workers, told to those who listen: `Pool.events()`.

Workers publish only while somebody listens, several events in one message. What happens on producers (an enqueue) is
not told, and nothing is kept: a listener that was not there has missed it. For history there are statistics and the
lists of recent jobs.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

__all__ = ("KINDS", "Event", "decode_events", "encode_events")

KINDS = (
    *("started", "complete", "failed", "retried", "snoozed", "released", "aborted", "expired", "dead", "progress"),
    *("worker-started", "worker-stopped", "dropped"),
)


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened.

    :ivar kind: of `KINDS`; an end is told when Redis has taken it. "dropped": `count` events were too many to be told
    :ivar at_ms: when, in ms since the epoch on the worker's clock
    :ivar worker_id: on which worker
    :ivar run_ms, wait_ms: of an end: how long it ran, and from due to start
    :ivar error: of a failure: type and first line
    :ivar done, total, message: of progress
    """

    kind: str
    at_ms: int
    worker_id: str
    job_id: str = ""
    function: str = ""
    queue: str = ""
    attempt: int = 0
    run_ms: int = 0
    wait_ms: int = 0
    error: str = ""
    done: float | None = None
    total: float | None = None
    message: str = ""
    count: int = 0

    @property
    def at(self) -> datetime:
        """When it happened."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Event])


def encode_events(events: Sequence[Event]) -> bytes:
    """One message."""
    return _encoder.encode(events)


def decode_events(data: bytes) -> list[Event]:
    """The events of a message.

    :raises msgspec.MsgspecError: it was written by another version
    """
    return _decoder.decode(data)
