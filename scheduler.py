"""The service's schedules. Its workers fire them, and so does `arqestra scheduler scheduler.SCHEDULES`: each tick once.

The hours are those of `SERVICE_TIME_ZONE` (Asia/Seoul unless set).

| schedule | when |
|---|---|
| `cleanup_sessions` | every 6 hours, on the hour |
| `daily_report` | at 09:00 |
| `health_check` | every 60 seconds |
"""

from arqestra import Timetable, crontab, every, schedule
from jobs.maintenance import cleanup_sessions, health_check
from jobs.queues import DEFAULT_QUEUE
from jobs.reports import daily_report
from jobs.settings import load_settings

_settings = load_settings()

SCHEDULES = Timetable(
    [
        schedule(crontab(minute=0, hour="*/6"), cleanup_sessions),
        schedule("0 9 * * *", daily_report, missed="last"),
        schedule(every(60), health_check, overlap="skip"),
    ],
    redis_settings=_settings.redis_url,
    serializer="msgpack",
    timezone=_settings.zone,
    queue=DEFAULT_QUEUE,
)
