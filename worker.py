"""The service's workers: `arq worker.WorkerSettings` and `arq worker.EmailWorkerSettings`.

One worker serves one queue: the first runs everything on the queue `default` and the schedules, the second sends mail
from `email-queue`, so that a slow mail server holds up nothing else. Start as many of each as there is work for.
"""

from typing import ClassVar

from arqestra import RedisSettings, worker_settings
from jobs.clients import on_shutdown, on_startup
from jobs.email import send_email
from jobs.images import process_image
from jobs.maintenance import cleanup_sessions, health_check
from jobs.queues import DEFAULT_QUEUE, EMAIL_QUEUE
from jobs.reports import generate_report
from jobs.settings import load_settings
from jobs.shards import fetch_partial_data, merge_results
from jobs.users import fetch_data, process_data, send_notification
from scheduler import CRON_JOBS

_settings = load_settings()


class CommonSettings:
    """What both workers share."""

    redis_settings = RedisSettings.from_dsn(_settings.redis_url)
    serializer = "msgpack"
    on_startup = on_startup
    on_shutdown = on_shutdown
    allow_abort_jobs = True
    lease = 15
    # Long enough for a mail or an image in hand to end; what is left is given back without counting an attempt.
    job_completion_wait = 5
    keep_result = 24 * 3600


@worker_settings
class WorkerSettings(CommonSettings):
    """Images, reports, data, maintenance and the schedules."""

    queue_name = DEFAULT_QUEUE
    functions: ClassVar = [
        process_image,
        generate_report,
        fetch_data,
        process_data,
        send_notification,
        fetch_partial_data,
        merge_results,
        cleanup_sessions,
        health_check,
    ]
    cron_jobs = CRON_JOBS
    timezone = _settings.zone
    max_jobs = 20


@worker_settings
class EmailWorkerSettings(CommonSettings):
    """Mail alone."""

    queue_name = EMAIL_QUEUE
    functions: ClassVar = [send_email]
    max_jobs = 20
