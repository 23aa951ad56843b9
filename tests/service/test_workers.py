"""The service's worker settings and schedules, and its jobs on a real worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from arqestra import Pool, Worker
from jobs.clients import clients_of, on_shutdown, on_startup
from jobs.development_servers import MailSink
from jobs.email import send_email
from jobs.errors import MailRejected, MailUndeliverable, UnsafePath
from jobs.images import process_image
from jobs.maintenance import health_check
from jobs.queues import DEFAULT_QUEUE, EMAIL_QUEUE
from jobs.reports import generate_report
from jobs.settings import ServiceSettings
from jobs.users import send_notification
from scheduler import SCHEDULES
from tests.support.replies import accepted
from worker import WorkerSettings

SEOUL = ZoneInfo("Asia/Seoul")


@asynccontextmanager
async def worker_of(queue: str, function: Any, pool: Pool, settings: ServiceSettings) -> AsyncIterator[Worker]:
    """A worker in this process, with the clients of the test's settings."""

    async def start(ctx: dict[str, Any]) -> None:
        await on_startup(ctx)
        await clients_of(ctx).store.create_bucket()

    worker = Worker(
        functions=[function],
        queue_name=queue,
        redis_settings=settings.redis_url,
        serializer="msgpack",
        on_startup=start,
        on_shutdown=on_shutdown,
        ctx={"settings": settings},
        burst=True,
        poll_delay=0.05,
        handle_signals=False,
    )
    yield worker
    await worker.close()


async def test_a_mail_is_tried_again_until_the_server_takes_it(
    pool: Pool, settings: ServiceSettings, sink: MailSink
) -> None:
    sink.answers = ["451 later", "RCPT 450 busy", "421 closing"]
    job = accepted(await pool.enqueue(send_email, "a@example.org", "x", "x"))
    async with worker_of(EMAIL_QUEUE, send_email, pool, settings) as worker:
        await worker.async_run()
    result = await job.result(timeout=10)
    assert result["status"] == "sent"
    assert [mail.message["Message-ID"] for mail in sink.mails] == [result["message_id"]]
    told = await job.result_info()
    assert told is not None
    assert told.job_try == 4


async def test_a_mail_fails_after_three_retries(pool: Pool, settings: ServiceSettings, sink: MailSink) -> None:
    sink.answers = ["451 later"] * 5
    job = accepted(await pool.enqueue(send_email, "a@example.org", "x", "x"))
    async with worker_of(EMAIL_QUEUE, send_email, pool, settings) as worker:
        await worker.async_run()
    with pytest.raises(MailUndeliverable, match="in 4 attempts"):
        await job.result(timeout=10)
    assert len(sink.answers) == 1


async def test_a_refused_mail_is_tried_once(pool: Pool, settings: ServiceSettings, sink: MailSink) -> None:
    sink.answers = ["554 spam"] * 2
    job = accepted(await pool.enqueue(send_email, "a@example.org", "x", "x"))
    async with worker_of(EMAIL_QUEUE, send_email, pool, settings) as worker:
        await worker.async_run()
    with pytest.raises(MailRejected, match="554 spam"):
        await job.result(timeout=10)
    assert len(sink.answers) == 1


async def test_the_errors_of_a_job_reach_its_caller(pool: Pool, settings: ServiceSettings) -> None:
    job = accepted(await pool.enqueue(process_image, "../secret.jpg", ["resize"]))
    async with worker_of(DEFAULT_QUEUE, process_image, pool, settings) as worker:
        await worker.async_run()
    with pytest.raises(UnsafePath, match=r"'\.\./secret\.jpg' lies outside"):
        await job.result(timeout=10)


async def test_a_notification_becomes_a_mail_of_another_worker(
    pool: Pool, settings: ServiceSettings, sink: MailSink
) -> None:
    job = accepted(await pool.enqueue(send_notification, None, "a@example.org"))
    for queue, function in ((DEFAULT_QUEUE, send_notification), (EMAIL_QUEUE, send_email)):
        if queue == EMAIL_QUEUE:
            settings = settings.model_copy(update={"s3_bucket": settings.s3_bucket + "-2"})
        async with worker_of(queue, function, pool, settings) as worker:
            await worker.async_run()
    queued = await job.result(timeout=10)
    sent = await pool.job(queued["mail_job_id"], queue=EMAIL_QUEUE).result(timeout=10)
    assert (sent["status"], sink.mails[0].message["Subject"]) == ("sent", "Your data has been processed")


def test_the_worker_has_every_function_and_serves_its_queue() -> None:
    functions: list[Any] = WorkerSettings.functions
    assert {function.queue for function in functions} == set(WorkerSettings.queues)
    assert (WorkerSettings.serializer, WorkerSettings.allow_abort_jobs) == ("msgpack", True)
    assert {function.name for function in functions} == {
        *("send_email", "process_image", "process_batch_image", "generate_report", "fetch_data", "process_data"),
        *("send_notification", "publish_album", "daily_report"),
        *("fetch_partial_data", "merge_results", "cleanup_sessions", "health_check"),
    }


def test_the_jobs_run_under_the_limits_of_the_guide() -> None:
    assert (generate_report.job_options.soft_timeout_s, generate_report.timeout_s) == (240, 300)
    assert process_image.job_options.rate_limit is not None
    assert ServiceSettings.model_fields["image_rate"].default == "10/m"
    assert health_check.job_options.concurrency is not None
    assert health_check.job_options.concurrency.jobs == 1
    assert WorkerSettings.queue_slots.keys() == {EMAIL_QUEUE, DEFAULT_QUEUE}


@pytest.mark.parametrize(
    ("name", "firings"),
    [
        ("cleanup_sessions", ["11-22 12:00", "11-22 18:00", "11-23 00:00", "11-23 06:00"]),
        ("daily_report", ["11-22 09:00", "11-23 09:00", "11-24 09:00"]),
        ("health_check", ["11-22 08:31", "11-22 08:32", "11-22 08:33"]),
    ],
)
def test_schedules_fire_when_they_should(name: str, firings: list[str]) -> None:
    (schedule,) = [schedule.in_zone(SCHEDULES.timezone) for schedule in SCHEDULES if schedule.name == name]
    tick = round(datetime(2026, 11, 22, 8, 30, 30, tzinfo=SEOUL).timestamp() * 1000)
    seen = []
    for _ in firings:
        tick = schedule.next_after(tick)
        at = datetime.fromtimestamp(tick / 1000, SEOUL)
        seen.append(at.strftime("%m-%d %H:%M"))
        assert (at.second, at.microsecond) == (0, 0)
    assert seen == firings


def test_workers_and_the_scheduler_process_fire_the_same_schedules_in_the_same_way() -> None:
    assert WorkerSettings.schedules is SCHEDULES
    assert SCHEDULES.timezone == WorkerSettings.timezone == SEOUL
    assert (SCHEDULES.queue, SCHEDULES.serializer) == (WorkerSettings.cron_queue, WorkerSettings.serializer)
    functions: list[Any] = WorkerSettings.functions
    assert {schedule.function for schedule in SCHEDULES} <= {function.name for function in functions}
    assert [schedule.in_zone(SEOUL).words for schedule in SCHEDULES] == [
        "every 6 hours, on the hour, Asia/Seoul",
        "at 09:00 every day, Asia/Seoul",
        "every minute",
    ]
