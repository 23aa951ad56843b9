"""What a worker is made of: its slots, its reporter, what runs its jobs, and its session with Redis."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from arq.connections import ArqRedis, RedisSettings
from arq.utils import to_ms

from ..client.connect import settings_of
from ..definitions.signature import CHUNK_FUNCTION
from ..protocol.clock import new_worker_id
from ..store.listener import Listener
from ..store.store import MARGIN_MS, Store
from .attributes import WorkerAttributes, current_event_loop
from .intake import Intake
from .leasing.claim import ClaimPolicy, ClaimSettings
from .leasing.shares import QueueShares
from .leasing.slots import Slots, not_connected
from .leasing.sync_loop import SyncLoop
from .recycling import Recycling
from .run.attempt import Attempt
from .run.chunk import chunk_function
from .run.context import Hooks, JobCounts, RunContext, StickyWorkflows
from .run.effective_options import effective_options, options_of_unknown
from .run.execute import execute
from .run.executors import Executors
from .run.observed import observe_runs
from .run.outcome import CancelReason, Outcome
from .schedule_runner import ScheduleRunner, id_taken_ms
from .session import Session
from .settings import WorkerOptions
from .telemetry.metrics_port import MetricsPort, MetricsSink, NoMetrics
from .telemetry.presence import WorkerState
from .telemetry.reporter import StatsReporter

__all__ = ("WorkerParts",)

OFFER_MARGIN_MS = 1000


class WorkerParts(WorkerAttributes):
    """The parts of a worker, and how they are put together when it connects.

    :param options: the settings
    :param recycle: called with a reason when the process should be replaced
    """

    def __init__(self, options: WorkerOptions, recycle: Callable[[str], None]) -> None:
        super().__init__(options)
        self.redis_settings: RedisSettings | None = None
        self._pool: ArqRedis | None = options.redis_pool
        if self._pool is None:
            self.redis_settings = settings_of(options.redis_settings, "redis_settings")
        self.worker_id = new_worker_id()
        self.loop = current_event_loop()
        self.counts = JobCounts()
        self.reporter = StatsReporter(self.worker_id, lambda name: name in self.effective_options, self._worker_state)
        self.slots = Slots(options.max_crashes - 1, self.reporter.counters.ended)
        # For a subclass that has methods of these names, as arq's users may: an attribute comes before a method.
        vars(self).update(tasks=self.slots.tasks, job_tasks=self.slots.tasks)
        self.workflows = StickyWorkflows()
        self.executors = Executors(options.threads, options.processes, options.max_calls_per_process)
        self.stuck_callback: Callable[[Attempt], None] | None = None  # for a supervisor: this job does not end
        port, host = options.metrics_port, options.metrics_host
        self.outcome_callback: Callable[[Attempt, Outcome], None] | None = None
        self.metrics: MetricsSink = NoMetrics() if port is None else MetricsPort(self.reporter.figures, port, host)
        self._recycling = Recycling(options.max_jobs_per_child, options.max_memory_bytes, recycle)
        self.schedule_runner = ScheduleRunner(options, self.queues, self.zone)
        self.stopping = False
        self.allow_pick_jobs = True
        self._has_own_loop = False
        self.redis_session: Session | None = None  # while it is connected; `session` may be a name of a subclass
        self._last_claim = 0  # number of the latest claim of the sessions before
        self.effective_options = {
            name: effective_options(function, options, self.serializer) for name, function in self.functions.items()
        }
        if CHUNK_FUNCTION not in self.effective_options:
            chunk = chunk_function(self.effective_options)
            self.effective_options[CHUNK_FUNCTION] = effective_options(chunk, options, self.serializer)
        self._new_attempt = partial(
            Attempt, options=options_of_unknown(options), noted=self.reporter.progress_buffer.noted
        )
        self._intake: Intake  # set by `Worker`, which it needs whole
        self.observed = False  # somebody has put wrappers around arq's functions: see observed.py

    # -- what can be read of it -----------------------------------------------------------------------------------

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

    @property
    def draining(self) -> bool:
        """It takes no more jobs."""
        session = self.redis_session
        return self.stopping or not self.allow_pick_jobs or (session is not None and session.claims.quiet)

    # -- its session ----------------------------------------------------------------------------------------------

    def _connect(self) -> Session:
        """The session over the current pool."""
        if self.redis_session is None:
            slots, intake = self.slots, self._intake
            settings = self._claim_settings()
            claims = ClaimPolicy(
                settings,
                intake.free_slots,
                slots.holds_suspect,
                slots.holds_none,
                after=self._last_claim,
                run_ms=slots.mean_run_ms,
            )
            keep_dead_ms = to_ms(self.options.keep_dead)
            session = Session(self.pool, claims, slots, intake.start, keep_dead_ms)
            self.redis_session = session
            self.reporter.store = session.store
            session.run = self._run_context(session)
            self.slots.execute = observe_runs(self, partial(execute, session.run))
        return self.redis_session

    def _connect_if_possible(self) -> Session | None:
        return None if self._pool is None else self._connect()

    def _claim_settings(self) -> ClaimSettings:
        return ClaimSettings(
            queue=self.queue_name,
            worker_id=self.worker_id,
            lease_ms=self.options.lease_ms,
            margin_ms=MARGIN_MS,
            read_limit=self.queue_read_limit,
            wait=not self.burst,
            aborts=self.allow_abort_jobs,
            max_crashes=self.options.max_crashes,
            offer_ms=self._offer_ms(),
            queue_shares=self._queue_shares(),
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
            publisher=self.reporter.publisher,
            counters=self.reporter.counters,
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
            on_outcome=self.outcome_callback,
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

    def _offer_ms(self) -> int:
        """How long an offer stands: until after the next poll, which renews it.

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
            self.slots.execute = not_connected  # nothing here holds the session any more: it is gone at once

    # -- its jobs -------------------------------------------------------------------------------------------------

    def _jobs_started(self) -> int:
        """Attempts that this process has started; arq's name."""
        return self.jobs_complete + self.jobs_retried + self.jobs_failed + len(self.slots.running)

    def check_recycling(self) -> None:
        """Ask for the replacement of this process if it is time."""
        self._recycling.check(self._jobs_started())
