"""`cron()`: arq's, which also takes functions made by `@job`."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from arq.cron import CronJob
from arq.cron import cron as arq_cron

from .function import JobFunction

__all__ = ("CronJob", "cron")


def _taking_job_functions(make: Callable[..., CronJob]) -> Callable[..., CronJob]:
    @wraps(make)
    def cron(coroutine: Any, *, name: str | None = None, **settings: Any) -> CronJob:
        if isinstance(coroutine, JobFunction):
            name = name or f"cron:{coroutine.name}"
            settings.setdefault("timeout", coroutine.timeout_s)
            coroutine = coroutine.coroutine
        return make(coroutine, name=name, **settings)

    return cron


cron = _taking_job_functions(arq_cron)
