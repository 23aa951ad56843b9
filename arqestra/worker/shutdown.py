"""How a worker stops: on signals, when it drains, when it is closed."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from signal import Signals
from typing import Any, Protocol

from .leasing.slots import Slots
from .run.attempt import Attempt
from .run.context import JobCounts
from .run.outcome import CancelReason
from .session import LEAVE_WAIT_S, Session

__all__ = ("CLOSE_WAIT_S", "LAST_STEPS_S", "Shutdown", "Stoppable")

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py

# From the signal, or the end of `job_completion_wait`, to the end of the process, but for `on_shutdown`, whatever Redis
# and the jobs do: the documented time is 30 s.
CLOSE_WAIT_S = 28.0
UNHEEDING_WAIT_S = 14.0  # of that for jobs that do not heed their cancellation
LAST_STEPS_S = 6.0  # of that for the connections


class Stoppable(Protocol):
    """What a shutdown uses of its worker. The names are arq's: users read and set them, and subclasses override the
    methods.
    """

    loop: asyncio.AbstractEventLoop
    stopping: bool
    allow_pick_jobs: bool
    main_task: "asyncio.Task[None] | None"
    on_stop: Callable[[Signals], None] | None
    redis_session: Session | None
    counts: JobCounts

    @property
    def queues(self) -> Sequence[str]:
        """The queues that it serves."""

    @property
    def completion_wait_s(self) -> float:
        """Seconds that running jobs have to end in."""

    def handle_sig(self, signum: Signals) -> None:
        """Stop at once."""

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """Stop when the running jobs have ended."""

    async def _wait_for_tasks_to_complete(self, signum: Signals) -> None: ...


class Shutdown:
    """Stops one worker.

    :param worker: the worker
    :param slots: the worker's
    :param connect: makes the worker's session, if it has a pool and no session yet
    :param release: releases the job of an attempt that was never begun
    """

    def __init__(
        self,
        worker: Stoppable,
        slots: Slots,
        connect: Callable[[], Session | None],
        release: Callable[[Attempt], None],
    ) -> None:
        self._worker = worker
        self._slots = slots
        self._connect = connect
        self._release = release
        self._signals_heard = 0
        self._waiting_task: asyncio.Task[None] | None = None
        self._close_by_s = 0.0  # when it has to be closed, by the loop's clock; 0.0: nobody has said that it ends

    def forget(self) -> None:
        """The worker starts, maybe once more: arq's --watch runs a closed worker again."""
        self._worker.stopping = False
        self._signals_heard = 0
        self._close_by_s = 0.0

    # -- draining -------------------------------------------------------------------------------------------------

    def steer(self, *, draining: bool) -> None:
        """Take no more jobs, or take jobs again. What runs goes on, and the process stays."""
        worker, session = self._worker, self._worker.redis_session
        if session is None or worker.stopping or not worker.allow_pick_jobs or session.claims.quiet == draining:
            return
        logger.info("this worker %s", "takes no more jobs until it is told to" if draining else "takes jobs again")
        session.claims.quiet = draining
        if draining:
            self._interrupt_parked_workflows()
            self._leave_soon(session)
        session.sync.claim_soon()

    def _leave_soon(self, session: Session) -> None:
        worker = self._worker
        self._slots.conclude(worker.loop.create_task(session.leave_queues(worker.queues)))

    def _interrupt_parked_workflows(self) -> None:
        """Workflows that wait go on elsewhere."""
        for attempt in list(self._slots.sticky.values()):
            attempt.cancel(CancelReason.SHUTDOWN)

    # -- signals --------------------------------------------------------------------------------------------------

    def on_signal(self, signum: Signals) -> None:
        """The first lets running jobs end within `job_completion_wait`; the next one gives them back at once."""
        self._signals_heard += 1
        if self._signals_heard == 1 and self._worker.completion_wait_s:
            return self._worker.handle_sig_wait_for_completion(signum)
        if self._waiting_task is not None:
            self._waiting_task.cancel()
        self._worker.handle_sig(signum)

    def stop_when_completed(self, signum: Signals) -> None:
        """Stop claiming, let the running jobs end within `job_completion_wait`, then give back what still runs.

        What runs goes on to hear of aborts; the worker leaves its queues, so that no wake-up is spent on it.
        """
        sig = Signals(signum)
        logger.info("Setting allow_pick_jobs to `False`")
        self._worker.allow_pick_jobs = False
        session = self._worker.redis_session
        if session is not None:
            session.claims.active = False
            self._leave_soon(session)
        self._log(sig, "shutdown on %s", "to be completed", len(self._slots.tasks))
        self._waiting_task = self._worker.loop.create_task(self._worker._wait_for_tasks_to_complete(sig))

    def stop_at_once(self, signum: Signals) -> None:
        """Cancel the running jobs and give them back."""
        sig = Signals(signum)
        self._log(sig, "shutdown on %s", "ongoing to cancel", len(self._slots.tasks))
        self._cancel_all(sig)

    async def complete_then_stop(self, signum: Signals) -> None:
        """Wait for the running jobs within `job_completion_wait`, then stop."""
        deadline = self._worker.loop.time() + self._worker.completion_wait_s
        self._interrupt_parked_workflows()
        session = self._connect()
        if session is not None:
            await self._wait_for_jobs(session, deadline)
        self._log(signum, "shutdown on %s, wait complete", "ongoing to cancel", self._slots.unfinished())
        self._cancel_all(signum)

    async def _wait_for_jobs(self, session: Session, deadline: float) -> None:
        loop, sync = self._worker.loop, session.sync
        while session.is_open and (self._slots.tasks or not sync.idle) and loop.time() < deadline:
            if self._slots.tasks:
                await asyncio.wait(self._slots.tasks.values(), timeout=deadline - loop.time())
            else:  # a claim may be under way: what it brings belongs to the jobs to complete
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(sync.became_idle.wait(), deadline - loop.time())

    def _cancel_all(self, signum: Signals) -> None:
        worker = self._worker
        worker.stopping = True
        self.time_left_s()
        for job_id, task in self._slots.tasks.items():
            attempt = self._slots.attempt_at(job_id)
            if attempt is not None and attempt.lets_go:
                attempt.cancel(CancelReason.SHUTDOWN)
            elif not task.done():
                task.cancel()
        if worker.main_task is not None:
            worker.main_task.cancel()
        if worker.on_stop is not None:
            worker.on_stop(signum)

    def _log(self, sig: Signals, head: str, tail: str, ongoing: int) -> None:
        counts = self._worker.counts
        logger.info(
            f"{head} ◆ %d jobs complete ◆ %d failed ◆ %d retries ◆ %d {tail}",
            sig.name,
            counts.complete,
            counts.failed,
            counts.retried,
            ongoing,
        )

    # -- closing --------------------------------------------------------------------------------------------------

    def time_left_s(self, reserve_s: float = 0.0) -> float:
        """Seconds that a step of closing may take, so that so many are left for those after it."""
        now_s = self._worker.loop.time()
        if not self._close_by_s:
            self._close_by_s = now_s + CLOSE_WAIT_S
        return max(0.5, self._close_by_s - reserve_s - now_s)

    async def end_main(self) -> None:
        """A worker that is closed while it runs (in an application's loop) claims no more."""
        if self._worker.redis_session is not None:
            self._worker.redis_session.stop_claiming()
        main_task = self._worker.main_task
        if main_task is None or main_task is asyncio.current_task() or not isinstance(main_task, asyncio.Task):
            return
        if not main_task.done():
            main_task.cancel()
            await asyncio.wait([main_task], timeout=self.time_left_s(LAST_STEPS_S))

    async def finish_jobs(self) -> None:
        """Wait for the job tasks; a job that does not heed its cancellation is left to its lease."""
        tasks = [*self._slots.tasks.values(), *self._slots.concluding]
        if tasks:
            await self._let_workflows_go(tasks)
            limit_s = min(UNHEEDING_WAIT_S, self.time_left_s(LAST_STEPS_S))
            _, unheeding = await asyncio.wait(tasks, timeout=limit_s)
            for task in unheeding:
                faults.error("a job does not heed its cancellation, its lease will run out: %r", task)
        for attempt in [*self._slots.running.values(), *self._slots.sticky.values()]:
            if attempt.task is not None and attempt.task.done():  # cancelled before its first step
                self._release(attempt)

    async def _let_workflows_go(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Wait until they have written where they are; if Redis does not answer, they are replayed from before that."""
        _, still_there = await asyncio.wait(tasks, timeout=LEAVE_WAIT_S)
        for attempt in [*self._slots.running.values(), *self._slots.sticky.values()]:
            if attempt.lets_go and attempt.task in still_there:
                attempt.task.cancel()
