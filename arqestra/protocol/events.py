"""Events of jobs and workers, published to those who listen: `Pool.events()`.

Workers publish only while somebody listens, several events in one message. Producers publish nothing. Nothing is kept:
for the past there are statistics and the lists of recent jobs.
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

    :ivar kind: one of `KINDS`. An end is published after Redis has it. "dropped": `count` events were too many
    :ivar at_ms: when, in ms since the epoch on the worker's clock
    :ivar worker_id: on which worker
    :ivar run_ms, wait_ms: of a job that ended: how long it ran, and how long it waited from due to start
    :ivar error: of a job that failed: type and first line
    :ivar done, total, message: the progress that a job reports
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
