"""`Worker`: the life of a worker process's event loop, with arq's keywords, attributes and methods."""

import asyncio
import contextvars
import logging
import signal
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from signal import Signals
from time import time
from typing import Any

from arq.connections import ArqRedis, log_redis_info
from arq.worker import FailedJobs
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..client.connect import create_pool
from ..protocol.clock import now_in
from ..store.presence import write_health
from ..store.queues import queue_depth
from ..store.workflows import note_workflows
from .arq_surface import remember_steps
from .attributes import arq_signature, mention_pickle
from .greeting import log_server
from .intake import Intake
from .leasing.lease_renewer import RenewalSettings
from .leasing.watchdog import Watchdog
from .main_loop import burst, serve
from .parts import WorkerParts
from .recycling import REPLACEMENT_WAIT_S
from .run.fork import guard_forks
from .run.observed import observe_functions
from .schedule_runner import client_of, enqueue_due_cron_jobs
from .session import LEAVE_WAIT_S, Session
from .settings import WorkerOptions, takes_settings
from .shutdown import LAST_STEPS_S, Shutdown

__all__ = ("Worker",)

logger = logging.getLogger("arq.worker")

HOUSEKEEPING_S = 0.5  # cron and health check; arq's least cron window


class Worker(WorkerParts):
    """Runs jobs. Takes every keyword of `arq.worker.Worker` with the same defaults, and ours.

    :param functions: job functions
    :param settings: those of `WorkerOptions`: docs/settings.md has them all
    :raises SettingsError: a setting is unknown or has a wrong value
    """

    @takes_settings
    def __init__(self, functions: Sequence[Any] = (), **settings: Any) -> None:
        options = WorkerOptions.of({"functions": functions, **settings})
        self._refuse_settings_of_class(options, {"functions", *settings} if functions else settings)
        before = dict(vars(self))
        super().__init__(options, lambda reason: self.on_recycle(reason))
        self.main_task: asyncio.Task[None] | None = None
        self.on_stop: Callable[[Signals], None] | None = None
        # For a supervisor: the process should be replaced, claims jobs, is blocked by a job and has to end.
        self.on_recycle: Callable[[str], None] = self._end_to_recycle
        self.on_ready: Callable[[], None] | None = None
        self.on_blocked: Callable[[str], None] | None = None
        self._intake = Intake(self, self.slots, self._new_attempt, self.workflows, self.reporter.publisher)
        self._stopper = Shutdown(self, self.slots, self._connect_if_possible, self._intake.release)
        self._last_health_check: float = 0
        self._last_health_check_log: str | None = None
        self._refuse_clashes(before)
        if options.handle_signals:
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._add_signal_handler(signum, self._stopper.on_signal)

    # -- arq's API ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until stopped (or, in burst mode, until the queue is empty), then close. Blocks."""
        self._has_own_loop = True
        self.main_task = self.loop.create_task(self.main())
        try:
            self.loop.run_until_complete(self.main_task)
        except asyncio.CancelledError:
            pass  # a signal
        finally:
            self.loop.run_until_complete(self.close())

    async def async_run(self) -> None:
        """Run in the current loop; `close()` is the caller's."""
        self.main_task = self.loop.create_task(self.main())
        await self.main_task

    async def run_check(self, retry_jobs: bool | None = None, max_burst_jobs: int | None = None) -> int:
        """Run, and raise if jobs failed.

        :returns: number of completed jobs
        :raises FailedJobs: jobs failed
        """
        if retry_jobs is not None:
            self.retry_jobs = retry_jobs
        if max_burst_jobs is not None:
            self.max_burst_jobs = max_burst_jobs
        await self.async_run()
        if self.jobs_failed:
            failed = [result for result in await self.pool.all_job_results() if not result.success]
            raise FailedJobs(self.jobs_failed, failed)
        return self.jobs_complete

    async def main(self) -> None:
        """The worker's main loop."""
        self._stopper.forget()
        guard_forks()
        if self._pool is None:
            self._pool = await self._new_pool()
        logger.info("Starting worker for %d functions: %s", len(self.functions), ", ".join(self.functions))
        self._tell_of_replaced_steps()
        await log_server(self.pool, log_redis_info)
        mention_pickle(self.serializer)
        self.ctx["redis"] = self.pool
        if self.on_startup:
            await self.on_startup(self.ctx)
        self.observed = observe_functions(self.effective_options, self.timezone)
        if self.on_startup or self.observed:  # what it sets in context variables holds for jobs, as under arq
            self.slots.context = contextvars.copy_context()
        session = self._connect()
        await self._start_parts(session)
        try:
            await self._work(session)
        finally:
            session.stop_claiming()
            await self.schedule_runner.stop()
            await self.reporter.stop()
            await session.leave_queues(self.queues)
            if not self.slots.leases:
                await session.stop_renewing()

    async def _work(self, session: Session) -> None:
        """What is done between start and stop."""
        await (burst if self.burst else serve)(self, session, self.heart_beat)

    async def _new_pool(self) -> ArqRedis:
        return await create_pool(
            self.redis_settings,
            job_serializer=self.serializer.dumps,
            job_deserializer=self.serializer.loads,
            serializer=self.serializer,
            default_queue_name=self.queue_name,
            expires_extra_ms=self.options.expires_extra_ms,
            middleware=self.options.middleware,
            key_prefix=self.options.key_prefix,
        )

    async def _start_parts(self, session: Session) -> None:
        """Start what works beside the main loop."""
        renewal = RenewalSettings(self.options.lease_ms, self.options.stuck_after_s, self.allow_abort_jobs)
        session.start_renewing(renewal, self._watchdog(session))
        session.start_claiming(self._intake.handle)
        self.schedule_runner.start(
            client_of(self.pool, session, self.serializer, self.schedule_runner.home),
            [each for each in self.schedules if not (each.of_cron and self.has_own_run_cron)],
            in_background=not self.burst,
        )
        self.reporter.start(burst=self.burst)
        await self.metrics.start()
        if self.on_ready is not None:
            self.on_ready()

    async def close(self) -> None:
        """Give back what runs, write all outcomes, call on_shutdown, close the connections."""
        if not self.handles_signals:
            self.handle_sig(Signals.SIGUSR1)
        await self._stopper.end_main()
        if self._pool is None:
            return
        await self._stopper.finish_jobs()
        await self.executors.close()
        session = self._connect()
        try:
            written = await session.sync.drain(self._stopper.time_left_s(LAST_STEPS_S))
            await session.stop_renewing()
            if not written:
                raise RedisTimeoutError("there are outcomes that it has not taken")
            await self.reporter.close()
            if self.on_ready is None:  # the key of a supervised worker is also its replacement's
                async with asyncio.timeout(LEAVE_WAIT_S):
                    await self.pool.delete(session.store.keys.health_check(self.health_check_key))
        except (RedisError, OSError) as error:
            logger.warning(
                "Redis does not answer at shutdown: %s; the leases of this worker run out by themselves", error
            )
        try:
            if self.on_shutdown:
                await self.on_shutdown(self.ctx)
        finally:
            await self._disconnect(session)

    def _add_signal_handler(self, signum: Signals, handler: Callable[[Signals], None]) -> None:
        try:
            self.loop.add_signal_handler(signum, partial(handler, signum))
        except (NotImplementedError, RuntimeError, ValueError):
            logger.debug("no handler for %s: not in the main thread, or on Windows", signum.name)

    def _watchdog(self, session: Session) -> Watchdog | None:
        if self.on_blocked is None:
            return None
        return Watchdog(session.run, self.slots, session.sync.unwritten, self.on_blocked)

    # -- stopping -------------------------------------------------------------------------------------------------

    def handle_sig(self, signum: Signals) -> None:
        """Stop at once: cancel the running jobs and give them back."""
        self._stopper.stop_at_once(signum)

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """Stop claiming, let the running jobs end within `job_completion_wait`, then give back what still runs.

        What runs goes on to hear of aborts; the worker leaves its queues, so that no wake-up is spent on it.
        """
        self._stopper.stop_when_completed(signum)

    async def _wait_for_tasks_to_complete(self, signum: Signals) -> None:
        await self._stopper.complete_then_stop(signum)

    def steer(self, *, draining: bool) -> None:
        """Take no more jobs, or take jobs again. What runs goes on, and the process stays."""
        self._stopper.steer(draining=draining)

    @property
    def completion_wait_s(self) -> float:
        """Seconds that running jobs have to end in when the worker stops."""
        return self._job_completion_wait

    def grant_completion_wait(self, seconds: float) -> None:
        """Let running jobs have at least that long to end: nobody waits for a worker that is only replaced."""
        self._job_completion_wait = max(self._job_completion_wait, seconds)

    def _end_to_recycle(self, reason: str) -> None:
        """Without a supervisor: stop in good order, for whatever starts this process again."""
        logger.info("this worker ends: %s", reason)
        self.grant_completion_wait(REPLACEMENT_WAIT_S)
        self.loop.call_soon(self.handle_sig_wait_for_completion, Signals.SIGTERM)

    # -- housekeeping, in the main loop -------------------------------------------------------------------------

    async def heart_beat(self) -> None:
        """arq's name for: write the health check key if it is time, enqueue the cron jobs that are due."""
        await self.record_health()
        await self.run_cron(now_in(self.timezone), max(self.poll_delay_s, HOUSEKEEPING_S))

    async def run_cron(self, n: datetime, delay: float, num_windows: int = 2) -> None:
        """Enqueue the cron jobs that are due within `num_windows` times `delay` seconds of n, and that the worker's
        scheduler does not fire: those that run at startup, and those that are not unique. All of them, as in arq, where
        a subclass or somebody else has put a method in this one's place.
        """
        queue, of_scheduler = self.schedule_runner.home, not self.has_own_run_cron
        await enqueue_due_cron_jobs(self.pool, queue, self.cron_jobs, n, delay * num_windows, of_scheduler=of_scheduler)

    async def record_health(self) -> None:
        """Write the health check key, at each `health_check_interval`."""
        if time() - self._last_health_check < self.health_check_interval:
            return
        self._last_health_check = time()
        workflows = [name for name, function in self.functions.items() if getattr(function, "is_workflow", False)]
        try:
            if workflows:
                await note_workflows(self.store, workflows)
            await self._record_health()
        except ResponseError as error:  # this user may not write that key; the jobs are to run all the same
            logger.warning("the health check key %s cannot be written: %s", self.health_check_key, error)

    async def _record_health(self) -> None:
        queued = sum([await queue_depth(self.pool, self.store.keys, queue) for queue in self.queues])
        counts = (
            f"j_complete={self.jobs_complete} j_failed={self.jobs_failed} "
            f"j_retried={self.jobs_retried} j_ongoing={len(self.slots.running)} queued={queued}"
        )
        info = f"{datetime.now():%b-%d %H:%M:%S} {counts}"
        key, ttl_ms = self.store.keys.health_check(self.health_check_key), int((self.health_check_interval + 1) * 1000)
        await write_health(self.pool, key, info, ttl_ms)
        if self._last_health_check_log not in (None, counts):
            logger.info("recording health: %s", info)
        self._last_health_check_log = counts

    # -- single steps, for tests written against arq --------------------------------------------------------------

    async def _poll_iteration(self) -> None:
        """Claim once, if something is queued."""
        session = self._connect()
        if self._intake.free_slots() and await queue_depth(self.pool, session.store.keys, self.queue_name):
            await self._claim_directly(min(self._intake.free_slots(), self.queue_read_limit))
        await self.heart_beat()

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Claim and start just these jobs, as far as they are due and free."""
        await self._claim_directly(len(job_ids), tuple(job_id.decode() for job_id in job_ids))

    async def _claim_directly(self, slots: int, only: tuple[str, ...] = ()) -> None:
        self._intake.direct = True
        try:
            session = self._connect()
            await session.sync.claim_once(session.claims.request(slots, only))
        finally:
            self._intake.direct = False

    def __repr__(self) -> str:
        return (
            f"<Worker j_complete={self.jobs_complete} j_failed={self.jobs_failed} j_retried={self.jobs_retried} "
            f"j_ongoing={self.slots.unfinished()}>"
        )


Worker.__signature__ = arq_signature()  # type: ignore[attr-defined]
remember_steps(Worker)
