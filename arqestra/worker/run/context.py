"""`RunContext`: what the run of a job needs of its worker. It is made when the worker connects.

The protocols say what a run asks of `leasing/` and `telemetry/`, which know the run and are not known here.
"""

import asyncio
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from typing import Any, Protocol

from arq.connections import ArqRedis

from ...protocol.serializers import Serializer
from ...store.store import Store
from ...store.updates import Update
from ..settings import WorkerOptions
from .attempt import Attempt
from .effective_options import EffectiveOptions
from .executors import Executors
from .outcome import Outcome

__all__ = ("Hooks", "JobCounts", "RunContext", "StickyWorkflows")

Hook = Callable[..., Any]


class Slots(Protocol):
    """The slots of the worker."""

    def free(self, attempt: Attempt) -> None:
        """The attempt leaves its slot; its outcome may still be on its way."""

    def suspend(self, attempt: Attempt) -> None:
        """A workflow waits: its slot is free, its lease and its task stay."""

    def conclude(self, task: "asyncio.Task[None]") -> None:
        """A task that hands an outcome over: a shutdown waits for it."""

    @property
    def sticky(self) -> Sized:
        """The workflows that wait in memory."""


class Outbox(Protocol):
    """What takes outcomes to Redis: the sync loop."""

    def submit(self, update: Update) -> None:
        """Send it with the next round trip."""

    def wake(self) -> None:
        """Start a round trip, unless one is under way."""


class Publisher(Protocol):
    """What tells those who listen.

    :ivar listened: somebody listens
    """

    listened: bool

    def job_started(self, attempt: Attempt) -> None:
        """A job has begun; called only while somebody listens."""


class Counters(Protocol):
    """What counts for the statistics."""

    def recovered(self, attempt: Attempt) -> None:
        """A job has begun again whose worker was lost."""


class Reporter(Protocol):
    """What writes once a second."""

    def write_notes_soon(self) -> None:
        """A job that told its progress has ended."""


@dataclass(slots=True)
class JobCounts:
    """How many attempts ended how, since the worker was made; arq's `jobs_complete`, `jobs_retried`, `jobs_failed`."""

    complete: int = 0
    retried: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Hooks:
    """arq's hooks around a job.

    :ivar around_end: there is one around its end
    """

    on_job_start: Hook | None = None
    on_job_end: Hook | None = None
    after_job_end: Hook | None = None
    around_end: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "around_end", self.on_job_end is not None or self.after_job_end is not None)


class StickyWorkflows:
    """The workflows that wait here in memory, and how each is told of news.

    :ivar park_at_once: none waits in memory
    """

    def __init__(self) -> None:
        self.park_at_once = False
        self._told: dict[str, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._told)

    def add(self, flow_id: str, tell: Callable[[], None]) -> None:
        """A workflow waits for news."""
        self._told[flow_id] = tell

    def remove(self, flow_id: str) -> None:
        """It does not wait any more."""
        self._told.pop(flow_id, None)

    def tell(self, flow_id: str) -> None:
        """There is news for a workflow."""
        tell = self._told.get(flow_id)
        if tell is not None:
            tell()

    def tell_all(self) -> None:
        """Messages may have been lost: each reads its history."""
        for tell in list(self._told.values()):
            tell()


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the run of a job needs of its worker.

    :ivar loop: the event loop of the worker
    :ivar worker_id: of the worker, for the history of failed attempts
    :ivar queue_name: the worker's own queue
    :ivar pool: the worker's redis client, an arqestra `Pool` or another one of arq's
    :ivar store: the transitions in Redis
    :ivar serializer: of payloads and results
    :ivar options: the settings
    :ivar functions: the options of each job function by its name
    :ivar ctx: the worker's ctx, which each job gets a copy of
    :ivar slots: where attempts run
    :ivar outbox: what takes outcomes to Redis
    :ivar publisher: tells those who listen
    :ivar counters: of the statistics
    :ivar reporter: what writes once a second
    :ivar executors: threads and processes
    :ivar hooks: arq's hooks
    :ivar counts: how many attempts ended how
    :ivar workflows: those that wait in memory
    :ivar is_stopping: whether the worker stops; a cancellation that nobody explains is its then
    :ivar retry_jobs: the setting, which `run_check` may change
    :ivar retry_delay_ms: least delay of a retry, where `after_job_end` may ask what became of the job
    :ivar unknown_limit_s: how long jobs of unknown functions are given back
    :ivar unknown_ids: jobs that this burst gave back
    :ivar observed: tools have put wrappers around arq's functions: see `observed.py`
    :ivar cron_id_ms: how long the id of a cron job stays taken after its end
    :ivar on_stuck: called with an attempt that does not end after its time limit
    :ivar on_outcome: called with each outcome, for tests
    """

    loop: asyncio.AbstractEventLoop
    worker_id: str
    queue_name: str
    pool: ArqRedis
    store: Store
    serializer: Serializer
    options: WorkerOptions
    functions: dict[str, EffectiveOptions]
    ctx: dict[Any, Any]
    slots: Slots
    outbox: Outbox
    publisher: Publisher
    counters: Counters
    reporter: Reporter
    executors: Executors
    hooks: Hooks
    counts: JobCounts
    workflows: StickyWorkflows
    is_stopping: Callable[[], bool]
    cron_id_ms: Callable[[Any], int]
    retry_jobs: bool = True
    retry_delay_ms: int = 0
    unknown_limit_s: float = 0.0
    unknown_ids: set[str] = field(default_factory=set)
    observed: bool = False
    on_stuck: Callable[[Attempt], None] | None = None
    on_outcome: Callable[[Attempt, Outcome], None] | None = None
