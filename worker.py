"""The service's worker: `arqestra worker worker.WorkerSettings --processes 2`, or `arq worker.WorkerSettings`.

It serves both queues, mail first: each has slots of its own, so that a slow mail server holds up no image and a pile of
images no mail. Start as many processes as there is work for: limits hold for all of them together.
"""

from typing import ClassVar

from arqestra import RedisSettings, worker_settings
from jobs.clients import on_shutdown, on_startup
from jobs.email import send_email
from jobs.images import process_batch_image, process_image
from jobs.maintenance import cleanup_sessions, health_check
from jobs.queues import DEFAULT_QUEUE, EMAIL_QUEUE
from jobs.reports import daily_report, generate_report
from jobs.settings import load_settings
from jobs.shards import fetch_partial_data, merge_results
from jobs.users import fetch_data, process_data, send_notification
from jobs.workflows import publish_album
from scheduler import SCHEDULES

_settings = load_settings()


@worker_settings
class WorkerSettings:
    """Mail, images, reports, data, maintenance and the schedules."""

    redis_settings = RedisSettings.from_dsn(_settings.redis_url)
    serializer = "msgpack"
    on_startup = on_startup
    on_shutdown = on_shutdown
    functions: ClassVar = [
        send_email,
        process_image,
        process_batch_image,
        generate_report,
        daily_report,
        fetch_data,
        process_data,
        send_notification,
        publish_album,
        fetch_partial_data,
        merge_results,
        cleanup_sessions,
        health_check,
    ]
    queues: ClassVar = [EMAIL_QUEUE, DEFAULT_QUEUE]
    queue_slots: ClassVar = {EMAIL_QUEUE: 20, DEFAULT_QUEUE: 20}
    max_jobs = 40
    schedules = SCHEDULES
    cron_queue = DEFAULT_QUEUE
    timezone = _settings.zone
    allow_abort_jobs = True
    lease = 15
    # Long enough for a mail or an image in hand to end; what is left is given back without counting an attempt.
    job_completion_wait = 5
    keep_result = 24 * 3600
