"""`current_job()`: the job that runs here, without passing ctx around; and `ctx` itself."""

import asyncio
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

__all__ = ("JobContext", "JobLogFilter", "RunningJob", "cancelled_by", "current_job")


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
    :ivar carry: a middleware may put headers of the next attempt here
    """

    job_id: str
    function: str
    queue: str
    job_try: int
    enqueue_time: datetime
    ctx: dict[Any, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    carry: dict[str, str] = field(default_factory=dict)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the job is: see `JobContext.progress`."""
        _telling().tell_progress(done, total, message)

    def log(self, text: object) -> None:
        """Add a line to the job's log: see `JobContext.log`."""
        _telling().tell_line(text)


class JobContext(dict[Any, Any]):
    """ctx, the first argument of a job function: arq's dictionary, with two methods that report on the job.

    Both cost next to nothing and may be called from threads of the job. The worker writes the latest once a second. A
    function that runs in another process (`executor="process"`) cannot use them.
    """

    __slots__ = ()

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report how far the job is. `Job.progress()`, the command line and the dashboard show it.

        :param done: units that are done
        :param total: units that there are; None if that is not known
        :param message: what the job does at the moment
        :raises ArgumentsError: these are no numbers, or no text
        :raises RuntimeError: it is called outside of the job
        """
        _telling().tell_progress(done, total, message)

    def log(self, text: object) -> None:
        """Add a line to the job's log. The log keeps the last 500 lines, of 2,000 characters each, for a day.

        :param text: the line
        :raises RuntimeError: it is called outside of the job
        """
        _telling().tell_line(text)


class _Attempt(Protocol):
    unheard: asyncio.CancelledError | None
    task: "asyncio.Task[None] | None"

    @property
    def reason(self) -> Enum | None: ...
    def view(self) -> RunningJob: ...
    def tell_progress(self, done: float, total: float | None, message: str) -> None: ...
    def tell_line(self, text: object) -> None: ...


running_attempt: ContextVar[_Attempt | None] = ContextVar("arqestra_running_attempt", default=None)


def current_job() -> RunningJob | None:
    """The job that the calling code belongs to, also in tasks that the job started; None outside of jobs."""
    attempt = running_attempt.get()
    return None if attempt is None else attempt.view()


def _telling() -> _Attempt:
    attempt = running_attempt.get()
    if attempt is None:
        raise RuntimeError(
            "progress and log: expected a call within a running job, in the worker's event loop or its threads; "
            "outside of jobs and in executor='process' there is none"
        )
    return attempt


def cancelled_by() -> str | None:
    """Why the worker cancelled the job that runs here: "timeout", "abort", ...; None if it did not."""
    attempt = running_attempt.get()
    return None if attempt is None or attempt.reason is None else str(attempt.reason.value)


def fail_in_task_group(error: asyncio.CancelledError) -> None:
    """Let a job fail if one of its tasks awaits another job that was aborted.

    A task of an `asyncio.TaskGroup` may raise that `CancelledError`. The group takes it for a cancelled task, and goes
    on as if nothing had happened. So the error is noted at the attempt.
    """
    attempt, current = running_attempt.get(), asyncio.current_task()
    if attempt is None or current is None:
        return

    def ended(task: "asyncio.Task[Any]") -> None:
        if task.cancelled() and not task.cancelling():  # nobody cancelled it
            attempt.unheard = error

    # Also other tasks than the current one: `asyncio.wait_for` or `shield` may have made this one for a group's task.
    tasks = {task for task in asyncio.all_tasks() if _is_in_group_of(task, attempt.task)}
    if _parent_of(current) is not None:
        tasks.add(current)
    for task in tasks:
        task.add_done_callback(ended)


def _is_in_group_of(task: "asyncio.Task[Any]", job_task: "asyncio.Task[Any] | None") -> bool:
    parent = _parent_of(task)
    while parent is not None and parent is not job_task:
        parent = _parent_of(parent)
    return parent is not None


def _parent_of(task: "asyncio.Task[Any]") -> "asyncio.Task[Any] | None":
    """The task that owns the `TaskGroup` of a task; None if it is in none. asyncio has no public way to ask."""
    for entry in getattr(task, "_callbacks", None) or ():
        group = getattr(entry[0], "__self__", None)
        if isinstance(group, asyncio.TaskGroup):
            parent: asyncio.Task[Any] | None = getattr(group, "_parent_task", None)
            return parent
    return None


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
