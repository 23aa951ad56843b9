"""How a worker stops: on signals, when it is worn out, when it is closed."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from signal import Signals
from typing import TYPE_CHECKING, Any

from arq.connections import ArqRedis

from .attributes import WorkerAttributes
from .leasing.slots import Slots
from .leasing.sync_loop import SyncLoop
from .processes.recycling import needs_recycling
from .run.context import JobCounts, RunContext
from .run.outcome import CancelReason, Outcome, State
from .run.updates import hand_over
from .session import LEAVE_WAIT_S, Session

if TYPE_CHECKING:
    pass

__all__ = ("CLOSE_WAIT_S", "StoppableWorker")

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py

# From the signal, or the end of `job_completion_wait`, to the end of the process, but for `on_shutdown`, whatever Redis
# and the jobs do: the documented time is 30 s.
CLOSE_WAIT_S = 28.0
UNHEEDING_WAIT_S = 14.0  # of that for jobs that do not heed their cancellation
LAST_STEPS_S = 6.0  # of that for the connections
REPLACEMENT_WAIT_S = 30.0  # that jobs have at least when a worker ends only to be replaced


class StoppableWorker(WorkerAttributes):
    """The stopping of a `Worker`, which has these attributes."""

    loop: asyncio.AbstractEventLoop
    slots: Slots
    redis_session: Session | None
    worker_id: str
    main_task: "asyncio.Task[None] | None"
    on_stop: Callable[[Signals], None] | None
    on_recycle: Callable[[str], None]
    stopping: bool
    allow_pick_jobs: bool
    run_context: RunContext
    counts: JobCounts
    _pool: ArqRedis | None
    _recycling: bool
    _signals_heard = 0
    _waiting_task: "asyncio.Task[None] | None" = None
    _close_by_s: float = 0.0  # when it has to be closed, by the loop's clock; 0.0: nobody has said that it ends

    def _connect(self) -> Session:
        raise NotImplementedError

    def _jobs_started(self) -> int:
        raise NotImplementedError

    def _add_signal_handler(self, signum: Signals, handler: Callable[[Signals], None]) -> None:
        try:
            self.loop.add_signal_handler(signum, partial(handler, signum))
        except (NotImplementedError, RuntimeError, ValueError):
            logger.debug("no handler for %s: not in the main thread, or on Windows", signum.name)

    def _check_recycling(self) -> None:
        options = self.options
        if self._recycling or (options.max_jobs_per_child is None and options.max_memory_per_child is None):
            return
        reason = needs_recycling(self._jobs_started(), options.max_jobs_per_child, options.max_memory_bytes)
        if reason is not None:
            self._recycling = True
            self.on_recycle(reason)

    def _end_to_recycle(self, reason: str) -> None:
        """Without a supervisor: stop in good order, for whatever starts this process again."""
        logger.info("this worker ends: %s", reason)
        self.grant_completion_wait(REPLACEMENT_WAIT_S)
        self.loop.call_soon(self.handle_sig_wait_for_completion, Signals.SIGTERM)

    def grant_completion_wait(self, seconds: float) -> None:
        """Let running jobs have at least that long to end: nobody waits for a worker that is only replaced."""
        self._job_completion_wait = max(self._job_completion_wait, seconds)

    @property
    def completion_wait_s(self) -> float:
        """Seconds that running jobs have to end in when the worker stops."""
        return self._job_completion_wait

    def steer(self, *, draining: bool) -> None:
        """Take no more jobs, or take jobs again. What runs goes on, and the process stays."""
        session = self.redis_session
        if session is None or self.stopping or not self.allow_pick_jobs or session.claims.quiet == draining:
            return
        logger.info("this worker %s", "takes no more jobs until it is told to" if draining else "takes jobs again")
        session.claims.quiet = draining
        if draining:
            for attempt in list(self.slots.sticky.values()):
                attempt.cancel(CancelReason.SHUTDOWN)  # workflows that wait go on elsewhere
            self._leave_soon(session)
        session.sync.look()

    def _leave_soon(self, session: Session) -> None:
        self.slots.conclude(self.loop.create_task(session.leave_queues(self.queues)))

    @property
    def draining(self) -> bool:
        """It takes no more jobs."""
        session = self.redis_session
        return self.stopping or not self.allow_pick_jobs or (session is not None and session.claims.quiet)

    def _handle_signal(self, signum: Signals) -> None:
        """The first lets running jobs end within `job_completion_wait`; the next one gives them back at once."""
        self._signals_heard += 1
        if self._signals_heard == 1 and self._job_completion_wait:
            return self.handle_sig_wait_for_completion(signum)
        if self._waiting_task is not None:
            self._waiting_task.cancel()
        self.handle_sig(signum)

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """Stop claiming, let the running jobs end within `job_completion_wait`, then give back what still runs.

        What runs goes on to hear of aborts; the worker leaves its queues, so that no wake-up is spent on it.
        """
        sig = Signals(signum)
        logger.info("Setting allow_pick_jobs to `False`")
        self.allow_pick_jobs = False
        if self.redis_session is not None:
            self.redis_session.claims.active = False
            self._leave_soon(self.redis_session)
        self._log_shutdown(sig, "shutdown on %s", "to be completed", len(self.slots.tasks))
        self._waiting_task = self.loop.create_task(self._wait_for_tasks_to_complete(sig))

    async def _wait_for_tasks_to_complete(self, signum: Signals) -> None:
        deadline = self.loop.time() + self._job_completion_wait
        for attempt in list(self.slots.sticky.values()):
            attempt.cancel(CancelReason.SHUTDOWN)  # workflows that wait go on elsewhere
        if self._pool is not None:
            await self._wait_for_tasks_until(deadline, self._connect().sync)
        self._log_shutdown(signum, "shutdown on %s, wait complete", "ongoing to cancel", self._unfinished())
        self._cancel_all(signum)

    async def _wait_for_tasks_until(self, deadline: float, sync: SyncLoop) -> None:
        while self._pool is not None and (self.slots.tasks or not sync.idle) and self.loop.time() < deadline:
            if self.slots.tasks:
                await asyncio.wait(self.slots.tasks.values(), timeout=deadline - self.loop.time())
            else:  # a claim may be under way: what it brings belongs to the jobs to complete
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(sync.became_idle.wait(), deadline - self.loop.time())

    def handle_sig(self, signum: Signals) -> None:
        """Stop at once: cancel the running jobs and give them back."""
        sig = Signals(signum)
        self._log_shutdown(sig, "shutdown on %s", "ongoing to cancel", len(self.slots.tasks))
        self._cancel_all(sig)

    def _log_shutdown(self, sig: Signals, head: str, tail: str, ongoing: int) -> None:
        logger.info(
            f"{head} ◆ %d jobs complete ◆ %d failed ◆ %d retries ◆ %d {tail}",
            sig.name,
            self.counts.complete,
            self.counts.failed,
            self.counts.retried,
            ongoing,
        )

    def _unfinished(self) -> int:
        return sum(not task.done() for task in self.slots.tasks.values())

    def _time_to_close(self, reserve_s: float = 0.0) -> float:
        """Seconds that a step of closing may take, so that so many are left for those after it."""
        if not self._close_by_s:
            self._close_by_s = self.loop.time() + CLOSE_WAIT_S
        return max(0.5, self._close_by_s - reserve_s - self.loop.time())

    def _cancel_all(self, signum: Signals) -> None:
        self.stopping = True
        self._time_to_close()
        for job_id, task in self.slots.tasks.items():
            attempt = self.slots.held_attempt(job_id)
            if attempt is not None and attempt.lets_go:
                attempt.cancel(CancelReason.SHUTDOWN)
            elif not task.done():
                task.cancel()
        if self.main_task is not None:
            self.main_task.cancel()
        if self.on_stop is not None:
            self.on_stop(signum)

    async def _end_main(self) -> None:
        """A worker that is closed while it runs (in an application's loop) claims no more."""
        if self.redis_session is not None:
            self.redis_session.stop_claiming()
        main_task = self.main_task
        if main_task is None or main_task is asyncio.current_task() or not isinstance(main_task, asyncio.Task):
            return
        if not main_task.done():
            main_task.cancel()
            await asyncio.wait([main_task], timeout=self._time_to_close(LAST_STEPS_S))

    async def _finish_tasks(self) -> None:
        """Wait for the job tasks; a job that does not heed its cancellation is left to its lease."""
        tasks = [*self.slots.tasks.values(), *self.slots.concluding]
        if tasks:
            await self._let_workflows_go(tasks)
            limit_s = min(UNHEEDING_WAIT_S, self._time_to_close(LAST_STEPS_S))
            _, unheeding = await asyncio.wait(tasks, timeout=limit_s)
            for task in unheeding:
                faults.error("a job does not heed its cancellation, its lease will run out: %r", task)
        for attempt in [*self.slots.running.values(), *self.slots.sticky.values()]:
            if attempt.task is not None and attempt.task.done():  # cancelled before its first step
                hand_over(self.run_context, attempt, Outcome(State.RELEASED))

    async def _let_workflows_go(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Wait until they have written where they are; if Redis does not answer, they are replayed from before that."""
        _, still_there = await asyncio.wait(tasks, timeout=LEAVE_WAIT_S)
        for attempt in [*self.slots.running.values(), *self.slots.sticky.values()]:
            if attempt.lets_go and attempt.task in still_there:
                attempt.task.cancel()
