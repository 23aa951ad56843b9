"""What comes in to a worker: the messages on its channel, and the jobs that it takes.

`docs/data-model.md` lists the messages. A job comes by a claim, or in a message: both end in `Intake.start`.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..store.codec import delivered
from ..store.records import LeasedJob
from .leasing.slots import Slots
from .run.attempt import Attempt
from .run.context import StickyWorkflows
from .run.outcome import Outcome, State
from .run.updates import hand_over
from .session import Session
from .settings import WorkerOptions
from .telemetry.events import EventPublisher

__all__ = ("Intake", "Taker")


class Taker(Protocol):
    """What decides which jobs a worker takes. Most names are arq's: users read and set them."""

    loop: asyncio.AbstractEventLoop
    worker_id: str
    options: WorkerOptions
    redis_session: Session | None
    stopping: bool
    allow_pick_jobs: bool
    allow_abort_jobs: bool
    max_jobs: int
    burst: bool
    max_burst_jobs: int

    def steer(self, *, draining: bool) -> None:
        """Take no more jobs, or take jobs again."""

    def check_recycling(self) -> None:
        """Ask for the replacement of this process if it is time."""

    def _jobs_started(self) -> int: ...


class Intake:
    """Takes jobs in, and passes each message on to what it concerns.

    :param worker: the worker
    :param slots: where jobs run
    :param new_attempt: makes the attempt at a leased job
    :param workflows: are told of news
    :param publisher: is told that somebody listens
    :ivar direct: somebody waits for the outcomes of the jobs that are claimed: a test that makes single steps
    """

    def __init__(
        self,
        worker: Taker,
        slots: Slots,
        new_attempt: Callable[[LeasedJob], Attempt],
        workflows: StickyWorkflows,
        publisher: EventPublisher,
    ) -> None:
        self._worker = worker
        self._slots = slots
        self._new_attempt = new_attempt
        self._workflows = workflows
        self._publisher = publisher
        self.direct = False

    # -- jobs -----------------------------------------------------------------------------------------------------

    def free_slots(self) -> int:
        """How many jobs could start now."""
        worker = self._worker
        if not worker.allow_pick_jobs or worker.stopping:
            return 0
        max_jobs_per_child = worker.options.max_jobs_per_child
        if max_jobs_per_child is not None and worker._jobs_started() >= max_jobs_per_child:
            worker.check_recycling()
        free = worker.max_jobs - len(self._slots.running)
        if worker.burst and worker.max_burst_jobs >= 0:
            free = min(free, worker.max_burst_jobs - worker._jobs_started())
        return max(0, free)

    def start(self, leased: LeasedJob) -> None:
        """Start a leased job in a slot."""
        attempt = self._new_attempt(leased)
        if self._worker.stopping:  # the reply to a claim that was under way when the signal came
            return self.release(attempt)
        if self.direct:
            attempt.written = self._worker.loop.create_future()
        return self._slots.start(attempt, self._worker.loop)

    def release(self, attempt: Attempt) -> None:
        """Put the job of an attempt that was never begun back, uncounted."""
        hand_over(self._session.run, attempt, Outcome(State.RELEASED))

    # -- messages -------------------------------------------------------------------------------------------------

    def handle(self, data: bytes | None) -> None:
        """Handle a message; None: the subscription has become active, and messages may have been lost before."""
        sync = self._session.sync
        if data is not None and data.startswith(b"job "):
            self._take_delivery(data)
        elif data is None or data == b"wake":
            sync.claim_soon()
            if data is None:
                self._workflows.tell_all()
        elif data == b"listen":
            self._publisher.listened = True
        elif data in (b"drain", b"resume"):
            self._worker.steer(draining=data == b"drain")
        elif data.startswith(b"due "):
            sync.due_in(int(data[4:]))
        elif data.startswith(b"flow "):
            self._workflows.tell(data[5:].decode())
        elif data.startswith(b"abort! "):  # of a flow that was cancelled
            self._slots.abort(data[7:].decode())
        elif data.startswith(b"abort ") and self._worker.allow_abort_jobs:
            self._slots.abort(data[6:].decode())

    def _take_delivery(self, data: bytes) -> None:
        """Take the job that came with the wake-up."""
        sync = self._session.sync
        delivery = delivered(self._worker.worker_id, data)
        if delivery.job.id in self._slots.leases:
            # Its id was enqueued again before the reply came that its last life has ended: the next claim brings it.
            sync.claim_soon()
        else:
            sync.accept(delivery)

    @property
    def _session(self) -> Session:
        session = self._worker.redis_session
        assert session is not None
        return session
