"""`Worker`: the life of a worker process's event loop, with arq's keywords, attributes and methods."""

import asyncio
import contextlib
import contextvars
import logging
import signal
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from signal import Signals
from time import time
from typing import Any, cast

from arq.connections import ArqRedis, RedisSettings, log_redis_info
from arq.utils import to_ms
from arq.worker import FailedJobs
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..client.connect import create_pool, settings_of
from ..definitions.signature import CHUNK_FUNCTION
from ..protocol.clock import new_worker_id
from ..store.find import count_queued
from ..store.listener import Listener, Watch
from ..store.presence import write_health
from ..store.queues import queue_depth
from ..store.records import LeasedJob
from ..store.store import MARGIN_MS, Store
from ..store.workflows import note_workflows
from .arq_surface import remember_steps
from .attributes import WorkerAttributes, arq_signature, current_event_loop, mention_pickle
from .greeting import log_server
from .leasing.claim import ClaimPolicy, ClaimSettings
from .leasing.lease_renewer import RenewalSettings
from .leasing.polling import Push
from .leasing.shares import QueueShares
from .leasing.slots import Slots
from .leasing.sync_loop import SyncLoop
from .leasing.watchdog import Watchdog
from .messages import MessageHandler
from .recycling import REPLACEMENT_WAIT_S, Recycling
from .run.attempt import Attempt
from .run.chunk import chunk_function
from .run.context import Hooks, JobCounts, RunContext, StickyWorkflows
from .run.effective_options import effective_options, options_of_unknown
from .run.execute import execute
from .run.executors import Executors
from .run.fork import guard_forks
from .run.observed import observe_functions, observe_runs
from .run.outcome import CancelReason, Outcome, State
from .run.updates import hand_over
from .schedule_runner import ScheduleRunner, client_of, enqueue_due_cron_jobs, id_taken_ms
from .session import LEAVE_WAIT_S, Session
from .settings import WorkerOptions, takes_settings
from .shutdown import LAST_STEPS_S, Shutdown
from .telemetry.metrics_port import MetricsPort, MetricsSink, NoMetrics
from .telemetry.presence import WorkerState
from .telemetry.reporter import StatsReporter

__all__ = ("Worker",)

logger = logging.getLogger("arq.worker")

HOUSEKEEPING_S = 0.5  # cron and health check; arq's least cron window
HOUSEKEEPING_LIMIT_S = 10.0
OFFER_MARGIN_MS = 1000
MAX_POLL_S = 30.0  # a worker that waits to be woken has to say so now and then


class Worker(WorkerAttributes):
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
        super().__init__(options)
        self.redis_settings: RedisSettings | None = None
        self._pool: ArqRedis | None = options.redis_pool
        if self._pool is None:
            self.redis_settings = settings_of(options.redis_settings, "redis_settings")
        self.worker_id = new_worker_id()
        self.loop = current_event_loop()
        self.main_task: asyncio.Task[None] | None = None
        self.on_stop: Callable[[Signals], None] | None = None

        self.counts = JobCounts()
        self.reporter = StatsReporter(self.worker_id, lambda name: name in self.effective_options, self._worker_state)
        self.slots = Slots(options.max_crashes - 1, self.reporter.ended)
        # For a subclass that has methods of these names, as arq's users may: an attribute comes before a method.
        vars(self).update(tasks=self.slots.tasks, job_tasks=self.slots.tasks)
        self.workflows = StickyWorkflows()
        self._noted = self.reporter.progress_buffer.noted
        self.executors = Executors(options.threads, options.processes, options.max_calls_per_process)
        # What a supervisor is told of: jobs that do not end, that this process is worn out, that it claims.
        self.stuck_callback: Callable[[Attempt], None] | None = None
        self.on_recycle: Callable[[str], None] = self._end_to_recycle
        self.on_ready: Callable[[], None] | None = None
        self.on_blocked: Callable[[str], None] | None = None  # ends the process; of a supervised worker
        port, host = options.metrics_port, options.metrics_host
        self.metrics: MetricsSink = NoMetrics() if port is None else MetricsPort(self.reporter.figures, port, host)
        self._recycling = Recycling(
            options.max_jobs_per_child, options.max_memory_bytes, lambda reason: self.on_recycle(reason)
        )
        self.schedule_runner = ScheduleRunner(options, self.queues, self.zone)
        self.stopping = False
        self.allow_pick_jobs = True
        self._direct = False
        self._has_own_loop = False
        self.redis_session: Session | None = None  # while it is connected; `session` may be a name of a subclass
        self._stopper = Shutdown(self, self.slots, self._connect_if_possible, self._give_back)
        self._last_claim = 0  # number of the latest claim of the sessions before
        self._last_health_check: float = 0
        self._last_health_check_log: str | None = None
        self.effective_options = {
            name: effective_options(function, options, self.serializer) for name, function in self.functions.items()
        }
        if CHUNK_FUNCTION not in self.effective_options:
            chunk = chunk_function(self.effective_options)
            self.effective_options[CHUNK_FUNCTION] = effective_options(chunk, options, self.serializer)
        self._options_of_unknown = options_of_unknown(options)
        self.observed = False  # somebody has put wrappers around arq's functions: see observed.py
        self._refuse_clashes(before)
        if options.handle_signals:
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._add_signal_handler(signum, self._stopper.on_signal)

    # -- arq's API ------------------------------------------------------------------------------------------------

    @property
    def pool(self) -> ArqRedis:
        """The worker's redis client; None, as in arq, before it has connected and after it has closed."""
        return cast(ArqRedis, self._pool)

    @property
    def store(self) -> Store:
        """What speaks to Redis, while the worker is connected."""
        return self._connected("store").store

    @property
    def listener(self) -> Listener:
        """What hears the worker's channel, while the worker is connected."""
        return self._connected("listener").listener

    @property
    def sync(self) -> SyncLoop:
        """What sends outcomes and fetches jobs, while the worker is connected."""
        return self._connected("sync").sync

    def _connected(self, name: str) -> Session:
        if self.redis_session is None:
            raise AttributeError(f"worker.{name}: expected a connected worker; this one has not started, or is closed")
        return self.redis_session

    @property
    def tasks(self) -> dict[str, asyncio.Task[Any]]:
        """The tasks of the running jobs by job id."""
        return self.slots.tasks

    @tasks.setter
    def tasks(self, tasks: dict[str, asyncio.Task[Any]]) -> None:
        self.slots.tasks = tasks

    @property
    def jobs_complete(self) -> int:
        """Completed jobs."""
        return self.counts.complete

    @property
    def jobs_retried(self) -> int:
        """Attempts that ended and are run again."""
        return self.counts.retried

    @property
    def jobs_failed(self) -> int:
        """Failed jobs, aborted and expired ones among them."""
        return self.counts.failed

    @property
    def job_tasks(self) -> dict[str, asyncio.Task[Any]]:
        """arq's name for the tasks of the running jobs."""
        return self.tasks

    @property
    def aborting_tasks(self) -> set[str]:
        """Ids of running jobs that were told to abort."""
        return {job_id for job_id, attempt in self.slots.running.items() if attempt.reason is CancelReason.ABORT}

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
            self._pool = await create_pool(
                self.redis_settings,
                job_serializer=self.serializer.dumps,
                job_deserializer=self.serializer.loads,
                serializer=self.serializer,
                default_queue_name=self.queue_name,
                expires_extra_ms=self.options.expires_extra_ms,
                middleware=self.options.middleware,
                key_prefix=self.options.key_prefix,
            )
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
        session.start_renewing(
            RenewalSettings(self.options.lease_ms, self.options.stuck_after_s, self.allow_abort_jobs),
            self._watchdog(session),
        )
        session.start_claiming(self._message_handler(session).handle)
        self.schedule_runner.start(
            client_of(self.pool, session, self.serializer, self.schedule_runner.home),
            [each for each in self.schedules if not (each.of_cron and self.has_own_run_cron)],
            in_background=not self.burst,
        )
        self.reporter.start(burst=self.burst)
        await self.metrics.start()
        if self.on_ready is not None:
            self.on_ready()
        try:
            await (self._burst() if self.burst else self._serve())
        finally:
            session.stop_claiming()
            await self.schedule_runner.stop()
            await self.reporter.stop()
            await session.leave_queues(self.queues)
            if not self.slots.leases:
                await session.stop_renewing()

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
    def draining(self) -> bool:
        """It takes no more jobs."""
        return self._stopper.draining

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

    # -- the main loop --------------------------------------------------------------------------------------------

    def _connect(self) -> Session:
        """The session over the current pool."""
        if self.redis_session is None:
            claims = ClaimPolicy(
                self._claim_settings(),
                self._free_slots,
                lambda: self.slots.holds_suspect,
                self.slots.holds_none,
                self._last_claim,
            )
            keep_dead_ms = to_ms(self.options.keep_dead)
            session = Session(self.pool, claims, self.slots, self._start_job, keep_dead_ms)
            session.sync.found = lambda told: self.polling.found(self.loop.time(), told=told)
            self.redis_session = session
            self.reporter.store = session.store
            self.run_context = self._run_context(session)
            self.slots.execute = observe_runs(self, partial(execute, self.run_context))
        return self.redis_session

    def _connect_if_possible(self) -> Session | None:
        return None if self._pool is None else self._connect()

    def _claim_settings(self) -> ClaimSettings:
        return ClaimSettings(
            self.queue_name,
            self.worker_id,
            self.options.lease_ms,
            MARGIN_MS,
            self.queue_read_limit,
            not self.burst,
            self.allow_abort_jobs,
            self.options.max_crashes,
            self._offer_ms(),
            self._queue_shares(),
        )

    def _run_context(self, session: Session) -> RunContext:
        """What the run of a job needs of this worker, as the settings are now."""
        return RunContext(
            loop=self.loop,
            worker_id=self.worker_id,
            queue_name=self.queue_name,
            pool=self.pool,
            store=session.store,
            serializer=self.serializer,
            options=self.options,
            functions=self.effective_options,
            ctx=self.ctx,
            slots=self.slots,
            outbox=session.sync,
            reporter=self.reporter,
            executors=self.executors,
            hooks=Hooks(self.on_job_start, self.on_job_end, self.after_job_end),
            counts=self.counts,
            workflows=self.workflows,
            is_stopping=lambda: self.stopping,
            cron_id_ms=lambda cron_job: id_taken_ms(cron_job, self.cron_jobs, self.timezone),
            retry_jobs=self.retry_jobs,
            retry_delay_ms=int(self.poll_delay_s * 1000),
            unknown_limit_s=self.unknown_limit_s,
            unknown_ids=self.unknown_ids,
            observed=self.observed,
            on_stuck=self.stuck_callback,
        )

    def _worker_state(self) -> WorkerState:
        return WorkerState(
            queues=self.queues,
            max_jobs=self.max_jobs,
            running=self.slots.running,
            parked=len(self.slots.sticky),
            counts=self.counts,
            draining=self.draining,
            redis_errors=self.sync.errors,
            fires=self.options.scheduler,
            timezone=self.schedule_runner.zone_told,
        )

    def _message_handler(self, session: Session) -> MessageHandler:
        return MessageHandler(
            worker_id=self.worker_id,
            aborts=self.allow_abort_jobs,
            sync=session.sync,
            slots=self.slots,
            workflows=self.workflows,
            publisher=self.reporter.publisher,
            drain=lambda draining: self.steer(draining=draining),
        )

    def _watchdog(self, session: Session) -> Watchdog | None:
        if self.on_blocked is None:
            return None
        return Watchdog(self.run_context, self.slots, session.sync.unwritten, self.on_blocked)

    def _offer_ms(self) -> int:
        """How long an offer stands: until after the next look, which renews it.

        In an application's loop none is made: what else keeps that loop busy would keep the job waiting.
        """
        if not self._has_own_loop:
            return 0
        return int(self.polling.longest_s * 1000) * 2 + OFFER_MARGIN_MS

    def _queue_shares(self) -> QueueShares | None:
        caps = self.options.queue_slots or {}
        if len(self.queues) == 1 and self.queue_name not in caps:
            return None
        return QueueShares(self.queues, self.options.queue_weights, caps, self.slots.running_of)

    async def _disconnect(self, session: Session) -> None:
        await self.metrics.stop()
        self._pool, self._last_claim = None, session.claims.number
        try:
            await session.close()
        finally:
            self.redis_session = None

    async def _serve(self) -> None:
        """Look at the queue where there is a reason to, as the safety net beside being woken; do the housekeeping."""
        keys = self.store.keys
        watch = Watch([key for queue in self.queues for key in keys.watched(queue)])
        with self.listener.watch(watch) if self.options.chosen_poll_delay is None else contextlib.nullcontext():
            while not self.stopping:
                await self._housekeep()
                now_s = self.loop.time()
                push = Push(self.listener.hears, self.listener.can_watch, watch.since_s)
                if self.polling.is_due(now_s, push):
                    self.polling.looked(now_s)
                    self.sync.poll()
                if self.sync.is_quiet and self.options.chosen_poll_delay is None:
                    self.listener.arm(watch)
                await asyncio.sleep(min(max(self.poll_delay_s, 0.01), MAX_POLL_S))

    async def _burst(self) -> None:
        """Work until the queue is empty, or `max_burst_jobs` were run."""
        while not self.stopping:
            await self.heart_beat()
            await self.schedule_runner.fire_once()
            self.sync.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.sync.became_idle.wait(), max(self.poll_delay_s, 0.05))
            if self.slots.tasks:  # until one ends there is nothing new, but what is enqueued meanwhile
                await asyncio.wait(
                    self.slots.tasks.values(),
                    timeout=max(self.poll_delay_s, 0.05),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            if self.sync.refused_claim is not None and not self.slots.running:
                raise self.sync.refused_claim  # as its queue is, the burst would never end
            if self.slots.running or not self.sync.idle:
                continue
            if 0 <= self.max_burst_jobs <= self._jobs_started() or await self._has_none_left():
                return
            await asyncio.sleep(min(max(self.poll_delay_s, 0.005), self.sync.next_due_in_s))

    async def _has_none_left(self) -> bool:
        """A burst does not wait for jobs that it has given back because it does not know their function."""
        left = self.sync.queued
        if 0 < left <= len(self.unknown_ids):
            left -= await count_queued(self.store, self.unknown_ids, self.queues)
        return left <= 0

    async def _housekeep(self) -> None:
        """What happens now and then; an unreachable Redis is the exchange's to wait for."""
        self._recycling.check(self._jobs_started())
        try:
            async with asyncio.timeout(HOUSEKEEPING_LIMIT_S):  # a connection that is cut off answers nothing
                await self.heart_beat()
        except (RedisError, OSError) as error:
            logger.warning("housekeeping (cron, health check) is put off: %s", error)

    async def heart_beat(self) -> None:
        """arq's name for: write the health check key if it is time, enqueue the cron jobs that are due."""
        await self.record_health()
        await self.run_cron(datetime.now(tz=self.timezone), max(self.poll_delay_s, HOUSEKEEPING_S))

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

    # -- jobs -----------------------------------------------------------------------------------------------------

    def _jobs_started(self) -> int:
        return self.jobs_complete + self.jobs_retried + self.jobs_failed + len(self.slots.running)

    def _free_slots(self) -> int:
        if not self.allow_pick_jobs or self.stopping:
            return 0
        if self.options.max_jobs_per_child is not None and self._jobs_started() >= self.options.max_jobs_per_child:
            self._recycling.check(self._jobs_started())
        free = self.max_jobs - len(self.slots.running)
        if self.burst and self.max_burst_jobs >= 0:
            free = min(free, self.max_burst_jobs - self._jobs_started())
        return max(0, free)

    def _start_job(self, leased: LeasedJob) -> None:
        attempt = Attempt(leased, self._options_of_unknown, self._noted)
        if self.stopping:  # the reply to a claim that was under way when the signal came
            return self._give_back(attempt)
        if self._direct:
            attempt.written = self.loop.create_future()
        return self.slots.start(attempt, self.loop)

    def _give_back(self, attempt: Attempt) -> None:
        """Of an attempt that was not begun."""
        hand_over(self.run_context, attempt, Outcome(State.RELEASED))

    # -- single steps, for tests written against arq --------------------------------------------------------------

    async def _poll_iteration(self) -> None:
        """Claim once, if something is queued."""
        session = self._connect()
        if self._free_slots() and await queue_depth(self.pool, session.store.keys, self.queue_name):
            await self._claim_directly(min(self._free_slots(), self.queue_read_limit))
        await self.heart_beat()

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Claim and start just these jobs, as far as they are due and free."""
        await self._claim_directly(len(job_ids), tuple(job_id.decode() for job_id in job_ids))

    async def _claim_directly(self, slots: int, only: tuple[str, ...] = ()) -> None:
        self._direct = True
        try:
            session = self._connect()
            await session.sync.claim_once(session.claims.request(slots, only))
        finally:
            self._direct = False

    def __repr__(self) -> str:
        return (
            f"<Worker j_complete={self.jobs_complete} j_failed={self.jobs_failed} j_retried={self.jobs_retried} "
            f"j_ongoing={self.slots.unfinished()}>"
        )


Worker.__signature__ = arq_signature()  # type: ignore[attr-defined]
remember_steps(Worker)
