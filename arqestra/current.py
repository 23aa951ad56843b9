"""The job that is running here, found without passing ctx around."""

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

__all__ = ("JobLogFilter", "RunningJob", "cancelled_by", "current_job")


@dataclass(frozen=True, slots=True)
class RunningJob:
    """What is known of a running job.

    :ivar job_id: its id
    :ivar function: name of its function
    :ivar queue: queue it came from
    :ivar job_try: number of this attempt, from 1
    :ivar enqueue_time: when it was enqueued, on the producer's clock
    :ivar headers: text that travelled with the job
    :ivar ctx: the dictionary that the function got as its first argument
    :ivar carry: what a middleware puts here are headers of the next attempt, if there is one
    """

    job_id: str
    function: str
    queue: str
    job_try: int
    enqueue_time: datetime
    ctx: dict[Any, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    carry: dict[str, str] = field(default_factory=dict)


class _Attempt(Protocol):
    @property
    def reason(self) -> Enum | None: ...
    def view(self) -> RunningJob: ...


running_attempt: ContextVar[_Attempt | None] = ContextVar("arqestra_running_attempt", default=None)


def current_job() -> RunningJob | None:
    """The job that the calling coroutine belongs to, also in tasks that the job started; None outside of jobs."""
    attempt = running_attempt.get()
    return None if attempt is None else attempt.view()


def cancelled_by() -> str | None:
    """Why the worker cancelled the job that the caller belongs to: "timeout", "abort", ...; None if it did not."""
    attempt = running_attempt.get()
    return None if attempt is None or attempt.reason is None else str(attempt.reason.value)


class JobLogFilter(logging.Filter):
    """Puts `job_id`, `job_function` and `job_try` on each log record; outside of jobs they are "-", "-" and 0.

    Add it to a handler; its format may then have `%(job_id)s` and the others.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass."""
        running = current_job()
        record.job_id = "-" if running is None else running.job_id
        record.job_function = "-" if running is None else running.function
        record.job_try = 0 if running is None else running.job_try
        return True
