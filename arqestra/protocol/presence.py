"""What a worker writes of itself while it lives: `Pool.workers()` reads it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

__all__ = (
    "ALIVE_S",
    "EVERY_S",
    "IDLE_EVERY_S",
    "JobOnWorker",
    "Presence",
    "WorkerInfo",
    "decode_presence",
    "encode_presence",
)

ALIVE_S = 10.0
EVERY_S = 1.0  # while something happens
LATE_LOOP_MS = 100
IDLE_EVERY_S = 60.0  # while nothing does


class JobOnWorker(msgspec.Struct, frozen=True):
    """A job that a worker runs.

    :ivar since_ms: when this attempt started
    :ivar done, total, message: the progress that it told; None if it told none
    """

    id: str
    function: str
    queue: str
    attempt: int
    since_ms: int
    done: float | None = None
    total: float | None = None
    message: str = ""


class Presence(msgspec.Struct, frozen=True):
    """What a worker writes every second while something happens, and every minute while nothing does.

    The figures are those of its process.

    :ivar slots: how many jobs it can run at once
    :ivar running: jobs that run
    :ivar waiting: workflows that wait in its memory and hold no slot
    :ivar jobs: the first hundred of the running jobs
    :ivar cpu_s: processor time that it has used
    :ivar lag_ms: how late its event loop was at most, since it wrote last
    :ivar draining: it takes no more jobs
    :ivar redis_errors: round trips of its sync loop that failed
    :ivar fires: it fires the schedules of its queues
    :ivar timezone: the zone in which it reads schedules that were defined at run time and name none
    :ivar every_s: seconds until it writes again, if nothing happens
    :ivar cut_off_s: how long Redis has not answered it; only its own metrics can tell
    """

    host: str
    pid: int
    version: str
    started_ms: int
    queues: list[str]
    slots: int
    running: int
    waiting: int
    jobs: list[JobOnWorker]
    complete: int
    failed: int
    retried: int
    rss_bytes: int
    cpu_s: float
    lag_ms: int
    draining: bool
    redis_errors: int = 0
    fires: bool = True
    timezone: str = ""
    every_s: float = EVERY_S
    cut_off_s: float = 0.0

    @property
    def activity(self) -> tuple[object, ...]:
        """What changes when something happens."""
        counts = (self.running, self.waiting, self.complete, self.failed, self.retried, self.redis_errors)
        return (*counts, self.draining, self.slots, self.queues, self.lag_ms >= LATE_LOOP_MS)


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as it was last heard of.

    :ivar worker_id: the tokens of its leases begin with it
    :ivar seen: when it last wrote
    :ivar alive: it wrote a moment ago; or it is idle, and still listens for wake-ups
    :ivar connected: it lives, or Redis still has its connection. In the second case it is blocked or frozen, or what it
        writes does not arrive
    """

    worker_id: str
    seen: datetime
    alive: bool
    presence: Presence
    connected: bool = True

    @property
    def absence(self) -> Literal["silent", "gone"] | None:
        """None if it lives. "silent": it is connected, but does not write. "gone": it was killed, or is cut off."""
        return None if self.alive else "silent" if self.connected else "gone"

    @property
    def started(self) -> datetime:
        """When it was started."""
        return datetime.fromtimestamp(self.presence.started_ms / 1000, UTC)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Presence)


def encode_presence(presence: Presence) -> bytes:
    """JSON of it."""
    return _encoder.encode(presence)


def decode_presence(data: bytes) -> Presence:
    """What was written.

    :raises msgspec.ValidationError: it was written by another version
    """
    return _decoder.decode(data)
