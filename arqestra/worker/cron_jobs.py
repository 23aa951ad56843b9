"""arq's cron jobs: each worker enqueues what is due soon; the id of a unique tick keeps it from being doubled."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from arq.connections import ArqRedis
from arq.cron import CronJob
from arq.utils import to_unix_ms

__all__ = ("enqueue_due_cron_jobs",)


async def enqueue_due_cron_jobs(
    pool: ArqRedis, cron_jobs: Sequence[CronJob], queue: str, now: datetime, window_s: float
) -> None:
    """Enqueue the cron jobs whose next run is within the window, deferred to their time.

    :param now: with time zone
    :param window_s: seconds; greater than the time between two calls
    """
    due: list[CronJob] = []
    enqueues = []
    for cron_job in cron_jobs:
        if cron_job.next_run is None:
            if not cron_job.run_at_startup:
                cron_job.calculate_next(now)
                continue
            cron_job.next_run = now
        if cron_job.next_run < now + timedelta(seconds=window_s):
            job_id = cron_job.job_id
            if job_id is None and cron_job.unique:
                job_id = f"{cron_job.name}:{to_unix_ms(cron_job.next_run)}"
            later = cron_job.next_run if cron_job.next_run > datetime.now(tz=now.tzinfo) else None
            due.append(cron_job)
            enqueues.append(pool.enqueue_job(cron_job.name, _job_id=job_id, _queue_name=queue, _defer_until=later))
    results = await asyncio.gather(*enqueues, return_exceptions=True)
    for cron_job, result in zip(due, results, strict=True):
        # A tick that could not be enqueued stays due: the id of a unique one keeps it from being doubled.
        if not isinstance(result, BaseException) and cron_job.next_run is not None:
            cron_job.calculate_next(cron_job.next_run)
    for result in results:
        if isinstance(result, BaseException):
            raise result
