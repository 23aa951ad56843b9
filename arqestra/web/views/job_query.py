"""Which jobs are asked for."""

from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from ...protocol.recent_jobs import ENDED_STATES

__all__ = ("LIMIT", "STATES", "WITHIN_MS", "JobFilter", "JobRef", "JobsQuery")

State = Literal[
    "queued", "running", "deferred", "held", "waiting", "failed", "retried", "dead", "complete", "aborted", "expired"
]
STATES: tuple[State, ...] = get_args(State)
WITHIN_MS = {"15m": 900_000, "1h": 3_600_000, "24h": 86_400_000, "7d": 604_800_000}
LIMIT = 50
Text = Annotated[str, Meta(max_length=1000)]
Moment = Annotated[int, Meta(ge=0, le=253_370_764_800_000)]


class JobFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs. Unknown names are refused: a filter that was to choose a few would choose all that are queued.

    :ivar id: part of the id
    :ivar within: that ended (of jobs in a queue: were enqueued, of dead ones: died) in the last so much time
    :ivar since_ms, before_ms: the same from a time, and before one
    :ivar error, place: of attempts that ended: type of the error and where it was raised
    """

    state: State = "queued"
    queue: Text = ""
    function: Text = ""
    id: Text = ""
    within: Literal["", "15m", "1h", "24h", "7d"] = ""
    since_ms: Moment | None = None
    before_ms: Moment | None = None
    error: Text = ""
    place: Text = ""

    def __post_init__(self) -> None:
        if (self.error or self.place) and self.state not in ENDED_STATES:
            raise ValueError(f"error, place: they choose attempts that ended, got the state {self.state}")

    @property
    def is_of_ended(self) -> bool:
        """Whether it chooses jobs by how they ended."""
        return self.state == "dead" or self.state in ENDED_STATES

    def since(self, now_ms: int) -> int | None:
        """From when on."""
        return now_ms - WITHIN_MS[self.within] if self.within else self.since_ms

    @property
    def needs_payloads(self) -> bool:
        """Whether it can be judged only by what is in a payload."""
        return bool(self.function or self.within or self.since_ms is not None or self.before_ms is not None)

    def fits(self, function: str | None, moment_ms: int | None, since_ms: int | None) -> bool:
        """Whether a job is one of those, by its function and the time that counts in its state."""
        if self.function and function != self.function:
            return False
        if since_ms is not None and (moment_ms is None or moment_ms < since_ms):
            return False
        return self.before_ms is None or (moment_ms is not None and moment_ms < self.before_ms)


class JobsQuery(JobFilter, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Which jobs, and which page of them.

    :ivar after: `next` of the page before
    """

    after: Text = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = LIMIT


class JobRef(Struct, frozen=True, forbid_unknown_fields=True):
    """A job."""

    id: Text
    queue: Text
