"""`cron()`: arq's, which also takes functions made by `@job`; and the names of `arq.cron`."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from arq.cron import CronJob, Options, next_cron
from arq.cron import cron as arq_cron
from arq.typing import WEEKDAYS, OptionType, SecondsTimedelta, WeekdayOptionType, WorkerCoroutine
from arq.utils import import_string, to_seconds

from .definitions.function import JobFunction
from .definitions.options import check_options
from .scheduling.crontab import checked_cron

__all__ = (
    "WEEKDAYS",
    "CronJob",
    "OptionType",
    "Options",
    "SecondsTimedelta",
    "WeekdayOptionType",
    "WorkerCoroutine",
    "cron",
    "import_string",
    "next_cron",
    "to_seconds",
)


def _taking_job_functions(make: Callable[..., CronJob]) -> Callable[..., CronJob]:
    @wraps(make)
    def cron(coroutine: Any, *, name: str | None = None, **settings: Any) -> CronJob:
        function = import_string(coroutine) if isinstance(coroutine, str) else coroutine
        check_options("cron", {"name": name, **{key: settings.get(key) for key in _CHECKED}})
        if isinstance(function, JobFunction):
            name = name or f"cron:{function.name}"
            own = {
                "timeout": function.timeout_s,
                "max_tries": function.max_tries,
                "keep_result": function.keep_result_s,
                "keep_result_forever": function.keep_result_forever,
            }
            settings = {key: value for key, value in own.items() if value is not None} | settings
            coroutine = function.coroutine
        made = make(coroutine, name=name, **settings)
        if isinstance(function, JobFunction):  # arq's CronJob has no such fields
            made.job_options = function.job_options  # type: ignore[attr-defined]
            made.sync_function = function.sync_function  # type: ignore[attr-defined]
        return checked_cron(made)

    return cron


_CHECKED = ("timeout", "keep_result", "keep_result_forever", "max_tries", "job_id", "run_at_startup", "unique")


cron = _taking_job_functions(arq_cron)
