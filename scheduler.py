"""The service's schedules, in arq's `cron()`; `worker.WorkerSettings` runs them.

The hours are those of the worker's `timezone`, `SERVICE_TIME_ZONE` (Asia/Seoul unless set). Every worker of the queue
has these schedules, and each firing is enqueued once, whichever worker comes first.

| schedule | when |
|---|---|
| `cleanup_sessions` | every 6 hours, at 00:00, 06:00, 12:00 and 18:00 |
| `daily_report` | at 09:00 |
| `health_check` | every 60 seconds, on the minute |
"""

from datetime import datetime
from typing import Any

from arqestra import cron
from jobs.clients import clients_of
from jobs.maintenance import cleanup_sessions, health_check
from jobs.reports import generate_report


async def daily_report(ctx: dict[str, Any]) -> dict[str, Any]:
    """Make the report of the day.

    Returns:
        What `generate_report` returns; the id is `daily-` and the date in the configured zone.

    Running it twice is harmless: the same day gives the same id, and the later report replaces the earlier.
    """
    today = datetime.now(clients_of(ctx).settings.zone).date()
    return await generate_report(ctx, f"daily-{today.isoformat()}")


CRON_JOBS = [
    cron(
        cleanup_sessions.coroutine, name="cron:cleanup_sessions", hour={0, 6, 12, 18}, minute=0, second=0, timeout=300
    ),
    cron(daily_report, name="cron:daily_report", hour=9, minute=0, second=0, timeout=300),
    cron(health_check.coroutine, name="cron:health_check", second=0, timeout=60),
]
