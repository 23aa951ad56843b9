"""What a worker holds: the attempts that occupy its slots, and the leases whose outcome Redis has not taken yet.

The two differ for a moment: an attempt frees its slot when its outcome is handed over, and its lease is held (and
renewed) until the outcome is written.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ...store.records import LeaseRef, Renewal
from ...store.updates import AcknowledgeEarly, Update
from ..run.attempt import Attempt, Phase
from ..run.outcome import CancelReason

__all__ = ("Slots", "not_connected")

logger = logging.getLogger("arq.worker")


async def not_connected(attempt: Attempt) -> None:
    """Stands for the life of an attempt while the worker is not connected.

    :raises RuntimeError: always
    """
    raise RuntimeError(f"job {attempt.ref}: expected a connected worker; this one has not started, or is closed")


class Slots:
    """The attempts and leases of one worker.

    :param suspect_from: crashes from which on a job is a suspect
    :param ended: told of each attempt with an outcome that Redis has taken
    :ivar execute: the life of an attempt; `not_connected` while the worker has no session
    """

    def __init__(
        self,
        suspect_from: int,
        ended: Callable[[Attempt], None] = lambda attempt: None,
    ) -> None:
        self.execute: Callable[[Attempt], Coroutine[Any, Any, None]] = not_connected
        self.context: contextvars.Context | None = None  # of jobs, where somebody has set something in it
        self._suspect_from = suspect_from
        self._ended = ended
        self.running: dict[str, Attempt] = {}
        self.sticky: dict[str, Attempt] = {}  # workflows that wait: they have a lease and a task, and hold no slot
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        self.leases: dict[str, Attempt] = {}  # by job id: their outcomes Redis has not taken
        self.concluding: set[asyncio.Task[None]] = set()
        self._awaited: dict[str, Attempt] = {}  # those whose outcome somebody waits to be written
        self._suspects = 0
        self._mean_run_ms = 1000.0

    def holds_suspect(self) -> bool:
        """A job runs here that has ended several workers."""
        return self._suspects > 0

    def holds_none(self) -> bool:
        """No job is here, not even a workflow that waits."""
        return not self.running and not self.sticky

    def mean_run_ms(self) -> float:
        """How long jobs have run lately: their mean, and more as soon as one runs longer; long before the first."""
        return self._mean_run_ms

    def running_of(self, queue: str) -> int:
        """How many jobs of a queue occupy slots."""
        return sum(attempt.leased.queue == queue for attempt in self.running.values())

    def unfinished(self) -> int:
        """How many tasks of jobs have not ended."""
        return sum(not task.done() for task in self.tasks.values())

    def start(self, attempt: Attempt, loop: asyncio.AbstractEventLoop) -> None:
        """Let an attempt run in a slot."""
        leased = attempt.leased
        job_id = leased.id
        before = self.attempt_at(job_id)
        if before is not None:  # its lease ran out while it was still running here
            before.resolved = False
            before.cancel(CancelReason.LEASE_LOST)
            self.free(before)
        self.leases[job_id] = self.running[job_id] = attempt
        if leased.crashes >= self._suspect_from:
            self._suspects += 1
        self.tasks[job_id] = attempt.task = loop.create_task(
            self.execute(attempt), context=None if self.context is None else self.context.copy()
        )

    def attempt_at(self, job_id: str) -> Attempt | None:
        """The attempt at a job, in a slot or not."""
        return self.running.get(job_id) or self.sticky.get(job_id)

    def suspend(self, attempt: Attempt) -> None:
        """A workflow waits: its slot is free for the jobs that it waits for."""
        job_id = attempt.leased.id
        if self.running.get(job_id) is attempt:
            del self.running[job_id]
            self.sticky[job_id] = attempt
            if attempt.leased.crashes >= self._suspect_from:
                self._suspects -= 1

    def free(self, attempt: Attempt) -> None:
        """The attempt no longer occupies a slot; its outcome may still be on its way."""
        job_id = attempt.leased.id
        if self.running.get(job_id) is attempt:
            del self.running[job_id]
            self._forget_task(attempt)
            if attempt.leased.crashes >= self._suspect_from:
                self._suspects -= 1
        elif self.sticky.get(job_id) is attempt:
            del self.sticky[job_id]
            self._forget_task(attempt)
        if attempt.written is not None:
            self._awaited[attempt.leased.token + job_id] = attempt

    def _forget_task(self, attempt: Attempt) -> None:
        if attempt.task is self.tasks.get(attempt.leased.id):
            del self.tasks[attempt.leased.id]

    def resolve(self, update: Update, written: bool | None) -> None:
        """Redis has answered to an update.

        :param written: False: the lease was lost. None: an earlier reply was lost, and nobody can tell
        """
        if type(update) is AcknowledgeEarly:
            return self._acknowledge(update, bool(written))
        lease = update.lease
        attempt = self.leases.get(lease.id)
        if attempt is not None and attempt.leased.token == lease.token:
            del self.leases[lease.id]
            attempt.resolved = bool(written)
            if not attempt.in_call:  # a stuck one is still to be found by its task
                # Break the reference cycle: the task's context refers to the attempt.
                attempt.task = None
            if attempt.ended_ms >= attempt.started_ms > 0:  # else it was not called, or runs on
                run_ms = attempt.ended_ms - attempt.started_ms
                self._mean_run_ms = run_ms if run_ms > self._mean_run_ms else 0.9 * self._mean_run_ms + 0.1 * run_ms
            if written and attempt.ended is not None:
                self._ended(attempt)
        if written is None:
            logger.info(
                "job %s: a reply of Redis was lost; the outcome was written then, or its lease was lost",
                lease.id,
            )
        elif not written:
            logger.warning("job %s: its lease was lost, the outcome of this attempt is discarded", lease.id)
        if self._awaited:
            awaited = self._awaited.pop(lease.token + lease.id, None)
            if awaited is not None and awaited.written is not None and not awaited.written.done():
                awaited.written.set_result(bool(written))

    def _acknowledge(self, update: Update, written: bool) -> None:
        attempt = self.running.get(update.lease.id)
        if attempt is not None and attempt.acknowledged is not None and not attempt.acknowledged.done():
            attempt.acknowledged.set_result(written)

    def conclude(self, task: "asyncio.Task[None]") -> None:
        """A task that hands an outcome over with its hooks; a shutdown waits for it."""
        self.concluding.add(task)
        task.add_done_callback(self.concluding.discard)

    def leased(self) -> list[LeaseRef]:
        """The leases to renew.

        The thread of the lease renewer calls this: `list` of a dict's values is one step of CPython.
        """
        jobs = [attempt.leased for attempt in list(self.leases.values())]
        return [LeaseRef(job.id, job.queue, job.token) for job in jobs]

    def apply(self, renewal: Renewal) -> None:
        """Cancel the jobs whose leases a renewal found lost, or that are to be aborted.

        A lease that has ended since then is left alone, and so is another lease of the same job.
        """
        for lease in renewal.lost:
            attempt = self.leases.get(lease.id)
            if attempt is not None and attempt.leased.token == lease.token:
                if attempt.phase is Phase.HANDED_OVER:
                    continue  # its outcome is on its way or written: the reply to that tells
                self.leases.pop(lease.id).resolved = False
            self._cancel(lease, CancelReason.LEASE_LOST)
        for lease in renewal.aborted:
            self._cancel(lease, CancelReason.ABORT)

    def _cancel(self, lease: LeaseRef, reason: CancelReason) -> None:
        attempt = self.attempt_at(lease.id)
        if attempt is not None and attempt.leased.token == lease.token:
            attempt.cancel(reason)

    def abort(self, job_id: str) -> None:
        """Cancel a job because somebody asked for its abort."""
        attempt = self.attempt_at(job_id)
        if attempt is not None:
            attempt.cancel(CancelReason.ABORT)
