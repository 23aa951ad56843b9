"""What goes into the methods of `ScheduleStore` and comes out of them."""

from typing import Literal, NamedTuple

__all__ = (
    "DuePage",
    "DueSchedule",
    "FiringKind",
    "Kept",
    "NewFiring",
    "NotedRun",
    "ScheduleRecord",
    "StoredSchedule",
)

FiringKind = Literal["fired", "done", "changed", "early", "overlap", "refused", "not storable"]


class ScheduleRecord(NamedTuple):
    """A definition to be stored.

    :ivar digest: of the definition
    :ivar timing: when it is due, as text: where that changes, ticks before the change do not count as missed
    :ivar first_mark: of a single time: the mark before it; None for the present
    :ivar serializer: name of the payload's
    :ivar spec: JSON
    :ivar payload: of its jobs, as a template
    :ivar extra: priority, limits and lock as `enqueue.lua` reads them
    """

    name: str
    digest: str
    timing: str
    first_mark: int | None
    serializer: str
    spec: bytes
    payload: bytes
    extra: bytes


class StoredSchedule(NamedTuple):
    """What is stored of a schedule.

    :ivar due_ms: when its next tick is fired; 0: a scheduler has to find that out; None: it is paused or over
    :ivar home: the queue that it belongs to
    :ivar mark: the tick up to which all is dealt with
    :ivar zone: in which those who fire it read it, if it names none; "" if it does, or nobody has read it yet
    """

    name: str
    due_ms: int | None
    home: str
    rev: str
    source: str
    serializer: str
    spec: bytes
    payload: bytes
    extra: bytes
    mark: int
    paused: bool
    problem: str
    zone: str = ""


class DueSchedule(NamedTuple):
    """A schedule that is due: name, when, revision of its definition, and the mark up to which all is dealt with."""

    name: str
    due_ms: int
    rev: str
    mark: int


class DuePage(NamedTuple):
    """What is due.

    :ivar next_in_ms: until the next one after these; None if there is none
    :ivar went_back: Redis' clock was put back by so much that it must have been wrong before
    """

    now_ms: int
    next_in_ms: int | None
    due: list[DueSchedule]
    went_back: bool = False


class NewFiring(NamedTuple):
    """One tick to be fired; `lua/schedule_fire.lua` explains the fields.

    :ivar due_ms: None: a run by hand
    """

    name: str
    due_ms: int | None
    rev: str
    mark: int
    to_mark: int
    next_ms: int | None
    note: str
    overlap: str
    tick: int
    queue: str = ""
    job_id: str = ""
    when: str = ""
    attempts: int = 0
    payload: bytes = b""
    extra: bytes = b""


class NotedRun(NamedTuple):
    """A run as it was noted.

    :ivar how: 't' on time, 'l' late, 'n' by hand, 'd' of ticks that were dropped
    :ivar outcome: '' if its end was not noted; see `lua/_schedule.lua`
    :ivar state: of a run whose end was not noted: "queued", "running", "ended" or "gone"
    """

    fired_ms: int
    due_ms: int
    tick: int
    how: str
    outcome: str
    ended_ms: int | None
    job_id: str
    state: str = ""


class Kept(NamedTuple):
    """What came of saying which schedules a process defines.

    :ivar started_ms: when the process started
    :ivar rev: grows with each change of a definition
    :ivar verdicts: name -> "=" it is defined so, "?" its definition is wanted, "-" others define it differently, "a"
        what was changed at run time stays
    """

    started_ms: int
    rev: str
    verdicts: dict[str, str]

    @property
    def wanted(self) -> list[str]:
        """Names of those whose definition is wanted."""
        return [name for name, verdict in self.verdicts.items() if verdict == "?"]
