"""The worker's schedule runner: it fires schedules and cron jobs.

A worker's `Scheduler` fires `schedules`, the unique ones of arq's `cron_jobs`, and what was defined at run time: each
tick once, however many workers there are. What is each worker's own in arq stays so: cron jobs that run at startup, and
those that are not unique, which every worker enqueues for itself.

A `run_cron` that somebody has put in the place of ours decides on cron jobs as in arq: which there are, and whether one
runs. The scheduler then fires none of them.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import arq.worker
from arq.connections import ArqRedis
from arq.constants import keep_cronjob_progress
from arq.cron import CronJob, next_cron
from arq.utils import to_ms, to_unix_ms

from ..client.pool import MAX_PAYLOAD_BYTES
from ..definitions.middleware import Middleware
from ..protocol.clock import now_in
from ..protocol.serializers import Serializer
from ..scheduling.definition import Schedule
from ..scheduling.scheduler import Scheduler
from ..scheduling.timetable import timezone_of
from ..scheduling.zone import zone_name
from ..store.listener import Listener
from ..store.store import Store
from .session import Session
from .settings import WorkerOptions

__all__ = ("ScheduleRunner", "client_of", "enqueue_due_cron_jobs", "id_taken_ms")

EARLY_S = 1.5  # arq's workers enqueue a tick up to two of their windows of 0.5 s before it


@dataclass(slots=True)
class WorkersClient:
    """How a worker's scheduler writes jobs: as the worker reads them, also on a pool of arq's."""

    store: Store
    serializer: Serializer
    default_queue_name: str
    max_payload_bytes: int
    expires_extra_ms: int
    middleware: tuple[Middleware, ...]
    listener: Listener | None = None


def client_of(pool: ArqRedis, session: Session, serializer: Serializer, home: str) -> WorkersClient:
    """How the scheduler of a connected worker writes jobs.

    :param pool: the worker's, ours or arq's
    :param home: the queue of jobs that name none
    """
    return WorkersClient(
        store=session.store,
        serializer=serializer,
        default_queue_name=home,
        max_payload_bytes=getattr(pool, "max_payload_bytes", MAX_PAYLOAD_BYTES),
        expires_extra_ms=pool.expires_extra_ms,
        middleware=tuple(getattr(pool, "middleware", ())),
        listener=session.listener,
    )


class ScheduleRunner:
    """The scheduler of a worker, while it runs.

    :param options: of the worker
    :param queues: that the worker serves
    :param zone: of the worker, if it has one
    """

    def __init__(self, options: WorkerOptions, queues: Sequence[str], zone: tzinfo | None) -> None:
        self._options = options
        self._queues = tuple(queues)
        self._zone = zone
        self.home = options.cron_queue or self._queues[0]
        self.code_age_s = 0.0
        self._made_s = time.monotonic()
        self.scheduler: Scheduler | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def zone_told(self) -> str:
        """The zone of schedules that were defined at run time and name none."""
        return zone_name(timezone_of(self._options.schedules) or self._zone or UTC)

    def start(self, client: WorkersClient, schedules: Sequence[Schedule], *, in_background: bool) -> None:
        """Begin to fire.

        :param schedules: those in the worker's code
        :param in_background: False for a burst worker, which calls `fire_once`
        """
        options = self._options
        if not options.scheduler:
            return
        self.scheduler = Scheduler(
            client,
            schedules,
            home=self.home,
            queues=self._queues,
            zone=self._zone,
            run_time_zone=timezone_of(options.schedules),
            age_s=self.code_age_s + time.monotonic() - self._made_s,
        )
        if in_background:
            self._task = asyncio.get_running_loop().create_task(self.scheduler.run())

    async def fire_once(self) -> None:
        """Fire what is due."""
        if self.scheduler is not None:
            await self.scheduler.run_once()

    def look(self) -> None:
        """The time has moved: look at once what is due."""
        if self.scheduler is not None:
            for part in self.scheduler.parts:
                part.look()

    async def stop(self) -> None:
        """Fire nothing more."""
        scheduler, self.scheduler = self.scheduler, None
        task, self._task = self._task, None
        if scheduler is not None:
            scheduler.stop()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def enqueue_due_cron_jobs(
    pool: ArqRedis, queue: str, cron_jobs: Iterable[CronJob], now: datetime, window_s: float, *, of_scheduler: bool
) -> None:
    """Enqueue the cron jobs that the scheduler does not fire and whose next run is within the window, deferred to their
    time.

    :param now: with time zone
    :param window_s: seconds; greater than the time between two calls
    :param of_scheduler: the scheduler fires the unique ones
    """
    due = [cron_job for cron_job in cron_jobs if _is_due(cron_job, now, window_s, of_scheduler=of_scheduler)]
    enqueues = []
    for cron_job in due:
        assert cron_job.next_run is not None
        job_id = cron_job.job_id
        if job_id is None and cron_job.unique:
            job_id = f"{cron_job.name}:{to_unix_ms(cron_job.next_run)}"
        later = cron_job.next_run if cron_job.next_run > now_in(now.tzinfo) else None
        enqueues.append(pool.enqueue_job(cron_job.name, _job_id=job_id, _queue_name=queue, _defer_until=later))
    results = await asyncio.gather(*enqueues, return_exceptions=True)
    for cron_job, result in zip(due, results, strict=True):
        # A tick that could not be enqueued stays due: the id of a unique one keeps it from being doubled.
        if not isinstance(result, BaseException) and cron_job.next_run is not None:
            cron_job.calculate_next(cron_job.next_run)
        elif cron_job.run_at_startup and cron_job.next_run == now:
            cron_job.next_run = None  # its first run is still to come
    for result in results:
        if isinstance(result, BaseException):
            raise result


def id_taken_ms(cron_job: Any, cron_jobs: Iterable[CronJob], zone: tzinfo | None) -> int:
    """How long the id of a cron job's run stays taken after its end (ms), so that a worker that is late cannot enqueue
    the same tick again: arq's minute.

    Where all ticks have one id, that must not take it from the next tick, which workers enqueue a little early.
    """
    taken_s: float = min(keep_cronjob_progress, arq.worker.keep_cronjob_progress)  # type: ignore[attr-defined]
    if cron_job.job_id is not None:
        now = now_in(zone)
        same_id = [each for each in cron_jobs if each.job_id == cron_job.job_id]
        next_s = min(((_next_run(each, now) - now).total_seconds() for each in same_id), default=0.0)
        taken_s = min(taken_s, next_s - EARLY_S)
    return max(0, to_ms(taken_s))


def _next_run(cron_job: CronJob, after: datetime) -> datetime:
    fields = ("month", "day", "weekday", "hour", "minute", "second", "microsecond")
    return next_cron(after, **{field: getattr(cron_job, field) for field in fields})


def _is_due(cron_job: CronJob, now: datetime, window_s: float, *, of_scheduler: bool) -> bool:
    """Whether this worker has to enqueue it; says of each when it runs next.

    :param of_scheduler: the unique ones are the scheduler's
    """
    if cron_job.next_run is None:
        if cron_job.run_at_startup:
            cron_job.next_run = now
            return True
        cron_job.calculate_next(now)
        if of_scheduler:
            return False
    assert cron_job.next_run is not None
    if cron_job.unique and of_scheduler:
        if cron_job.next_run < now:
            cron_job.calculate_next(now)  # the scheduler has fired it
        return False
    return bool(cron_job.next_run < now + timedelta(seconds=window_s))
