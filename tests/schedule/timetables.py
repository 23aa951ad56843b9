"""What the command line's tests fire: targets of `arqestra scheduler`, good and bad."""

from __future__ import annotations

import os
from typing import Any

from arq.connections import RedisSettings

from arqestra import Timetable, cron, every, schedule, worker_settings

URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:1")


async def note(ctx: Any) -> None: ...


LIST = [schedule(every(0.1), "note", name="from-list")]
TIMETABLE = Timetable(
    [schedule(every(0.1), "note", name="from-timetable"), schedule("0 9 * * *", "note", name="daily")],
    redis_settings=URL,
    serializer="msgpack",
    timezone="Asia/Seoul",
    queue="timetable",
)


@worker_settings
class Settings:
    functions = [note]  # noqa: RUF012 - a settings class
    queues = ["first", "second"]  # noqa: RUF012
    schedules = [schedule(every(0.1), "note", name="from-settings", queue="first")]  # noqa: RUF012
    cron_jobs = [cron(note, name="arqs", second=set(range(60)))]  # noqa: RUF012
    redis_settings = URL
    serializer = "msgpack"


DICT = {name: value for name, value in vars(Settings).items() if not name.startswith("_")}


class BadSettings:
    functions = [note]  # noqa: RUF012
    schedules = 5


UNREACHABLE = Timetable(LIST, redis_settings=RedisSettings(port=1, conn_retries=0))
TWICE = [schedule(every(60), "note"), schedule(every(30), "note")]
NOT_SCHEDULES = [note]
ONE = LIST[0]
NUMBER = 5
