"""What can be done by the dashboard: one table, for pages and API alike. Every action is an operator's."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta, Struct
from redis.exceptions import RedisError, ResponseError

from ..errors import ArqestraError
from ..store.find import queued_in
from ..store.presence import steer_worker
from .app_state import AppState
from .retrying import retry_job
from .schedule_edit import ScheduleEdit, edit_schedule, run_schedule
from .views.job_query import JobFilter, JobRef
from .views.jobs import matching_jobs
from .views.workflows import cancel_workflow, resume_workflow, retry_workflow

__all__ = ("ACTIONS", "MAX_JOBS", "Action", "Done", "JobsTarget", "chosen_jobs")

logger = logging.getLogger("arq.dashboard")

MAX_JOBS = 10_000
MAX_INSPECTED = 200_000  # entries of a queue, for the jobs of a filter
AT_ONCE = 50
PROBLEMS_SHOWN = 20
MAX_OTHER_QUEUES = 200
Name = Annotated[str, Meta(min_length=1, max_length=1000)]


class JobsTarget(Struct, frozen=True, forbid_unknown_fields=True):
    """Jobs by hand, or all that match a filter (10,000 at most).

    :ivar ended: they were chosen as jobs that have ended: one that is in its queue again is not deleted. A filter of a
        state in which jobs have ended says so by itself
    """

    jobs: Annotated[list[JobRef], Meta(max_length=MAX_JOBS)] = []
    filter: JobFilter | None = None
    ended: bool = False

    def __post_init__(self) -> None:
        if self.jobs and self.filter is not None:
            raise ValueError("expected jobs or a filter, got both")

    @property
    def only_ended(self) -> bool:
        """Whether jobs are to be left alone that run once more."""
        return self.ended or (self.filter is not None and self.filter.is_of_ended)


class QueueTarget(Struct, frozen=True, forbid_unknown_fields=True):
    """A queue."""

    name: Name


class WorkerTarget(Struct, frozen=True, forbid_unknown_fields=True):
    """A worker."""

    id: Name


class ScheduleTarget(Struct, frozen=True, forbid_unknown_fields=True):
    """A schedule."""

    name: Name


class WorkflowTarget(Struct, frozen=True, forbid_unknown_fields=True):
    """A flow or workflow."""

    id: Name


class Done(Struct, frozen=True):
    """What came of an action.

    :ivar done, failed: how many it was done to, and could not be done to
    :ivar message: in words
    :ivar problems: the first twenty reasons why it could not be done
    """

    done: int
    failed: int
    message: str
    problems: list[str] = []


@dataclass(frozen=True)
class Action:
    """Something to be done.

    :ivar name: "jobs/retry"
    :ivar label: of its button
    :ivar asks: what is asked before it is done, of one and of several; "" if it is done at once
    :ivar danger: what it does cannot be undone
    """

    name: str
    label: str
    summary: str
    target: type[Any]
    run: Callable[[AppState, Any], Awaitable[Done]]
    targets: Callable[[Any], list[str]]
    asks: str = ""
    danger: bool = False


# Changes one of the jobs of a target; raises `ArqestraError` if it cannot be done.
ChangeJob = Callable[[AppState, JobRef, JobsTarget], Awaitable[None]]


async def chosen_jobs(app_state: AppState, target: JobsTarget, look_at: int = MAX_JOBS) -> tuple[list[JobRef], bool]:
    """The jobs of a target, and whether there may be more.

    :param look_at: entries of a queue that are looked at for a filter; so many for a count
    """
    if target.filter is None:
        return list(dict.fromkeys(target.jobs)), False
    return await matching_jobs(app_state, target.filter, MAX_JOBS, look_at)


def _for_jobs(past: str, change: ChangeJob) -> Callable[[AppState, Any], Awaitable[Done]]:
    """Makes what changes one job an action on many.

    :param past: "queued again"
    :param change: is done to each of them
    """

    async def run(app_state: AppState, target: JobsTarget) -> Done:
        jobs, more = await chosen_jobs(app_state, target, MAX_INSPECTED)
        problems: list[str] = []
        done = 0
        stopped = ""
        for first in range(0, len(jobs), AT_ONCE):
            batch = jobs[first : first + AT_ONCE]
            errors = await asyncio.gather(*(_tried(app_state, job, target, change) for job in batch))
            done += errors.count(None)
            found = [
                f"{job.id}: {_words(error)}" for job, error in zip(batch, errors, strict=True) if error is not None
            ]
            problems += found[: PROBLEMS_SHOWN - len(problems)]
            if any(_is_redis_away(error) for error in errors):
                stopped = "; stopped, because Redis does not answer"
                break
        failed = len(jobs) - done
        message = f"{_jobs(done)} {past}" + (f", {failed:,} not" if failed else "")
        return Done(done, failed, message + stopped + ("; there may be more: do it again" if more else ""), problems)

    return run


async def _tried(app_state: AppState, job: JobRef, target: JobsTarget, change: ChangeJob) -> Exception | None:
    """Why it could not be done. Whatever one job is like, the others have their turn, and what was done is counted."""
    try:
        await change(app_state, job, target)
    except Exception as error:
        if not isinstance(error, ArqestraError):
            logger.warning("dashboard: job %s of queue %s", job.id, job.queue, exc_info=True)
        return error
    return None


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, ArqestraError) else f"{type(error).__name__}: {error}"


def _is_redis_away(error: Exception | None) -> bool:
    """Whether it would be the same with every other job."""
    return isinstance(error, RedisError | OSError) and not isinstance(error, ResponseError)


class CannotBeDone(ArqestraError):
    """An action does not fit the state of what it was to be done to."""


async def _retry(app_state: AppState, job: JobRef, target: JobsTarget) -> None:
    await retry_job(app_state.store, job.id, job.queue)


async def _abort(app_state: AppState, job: JobRef, target: JobsTarget) -> None:
    state = await app_state.store.abort(job.id, job.queue)
    if state in ("ended", "missing"):
        raise CannotBeDone("it had ended" if state == "ended" else "there is no such job in this queue")


async def _delete(app_state: AppState, job: JobRef, target: JobsTarget) -> None:
    # A running job of another queue has to be told from one of none: its name helps whoever asks.
    others = [queue for queue in (await app_state.queues())[:MAX_OTHER_QUEUES] if queue != job.queue]
    home = await queued_in(app_state.store, job.id, [job.queue, *others])
    if home not in (None, job.queue):
        raise CannotBeDone(f"it is in another queue, {home}")
    state = await app_state.store.delete(job.id, job.queue, ended=target.only_ended)
    if state == "running":
        raise CannotBeDone("it is running: abort it first")
    if state == "elsewhere":
        raise CannotBeDone("it is in another queue")
    dead = await app_state.store.discard(job.queue, [job.id])
    if state == "again" and not dead:
        raise CannotBeDone("it is in its queue again")
    if state == "missing" and not dead:
        raise CannotBeDone("there is no such job in this queue")


async def _run_now(app_state: AppState, job: JobRef, target: JobsTarget) -> None:
    state = await app_state.store.run_now(job.id, job.queue)
    if state != "queued":
        reasons = {
            "running": "it is running",
            "held": "it waits for a limit or for news",
            "missing": "it is not queued",
        }
        raise CannotBeDone(reasons[state])


async def _pause(app_state: AppState, target: QueueTarget) -> Done:
    changed = await app_state.pool.queue(target.name).pause()
    return Done(int(changed), 0, f"Queue {target.name} is paused" + ("" if changed else " already"))


async def _resume(app_state: AppState, target: QueueTarget) -> Done:
    changed = await app_state.pool.queue(target.name).resume()
    return Done(int(changed), 0, f"Queue {target.name} is served" + ("" if changed else " already"))


async def _purge(app_state: AppState, target: QueueTarget) -> Done:
    count = await app_state.pool.queue(target.name).purge()
    return Done(count, 0, f"{_jobs(count)} of queue {target.name} deleted")


async def _drain(app_state: AppState, target: WorkerTarget) -> Done:
    heard = await steer_worker(app_state.store, target.id, "drain")
    return _steered(target, heard, "takes no more jobs")


async def _undrain(app_state: AppState, target: WorkerTarget) -> Done:
    heard = await steer_worker(app_state.store, target.id, "resume")
    return _steered(target, heard, "takes jobs again")


def _steered(target: WorkerTarget, heard: bool, what: str) -> Done:
    if heard:
        return Done(1, 0, f"Worker {target.id} {what}")
    return Done(0, 1, f"Worker {target.id} did not hear", ["it is gone, or was not started by arqestra"])


async def _pause_schedule(app_state: AppState, target: ScheduleTarget) -> Done:
    changed = await app_state.pool.schedules.pause(target.name)
    return Done(int(changed), 0, f"Schedule {target.name} is paused" + ("" if changed else " already"))


async def _resume_schedule(app_state: AppState, target: ScheduleTarget) -> Done:
    changed = await app_state.pool.schedules.resume(target.name)
    return Done(int(changed), 0, f"Schedule {target.name} is fired" + ("" if changed else " already"))


async def _run_schedule(app_state: AppState, target: ScheduleTarget) -> Done:
    job_id = await run_schedule(app_state.pool, target.name)
    return Done(1, 0, f"Schedule {target.name}: job {job_id} is queued")


async def _edit_schedule(app_state: AppState, target: ScheduleEdit) -> Done:
    before, after = await edit_schedule(app_state.pool, target)
    return Done(1, 0, f"Schedule {target.name} is due {after}; before, it was due {before}")


async def _cancel_workflow(app_state: AppState, target: WorkflowTarget) -> Done:
    if await cancel_workflow(app_state, target.id):
        return Done(1, 0, f"Flow {target.id} is being cancelled")
    return Done(0, 1, f"Flow {target.id} had ended", ["it had ended, or is not there"])


async def _retry_workflow(app_state: AppState, target: WorkflowTarget) -> Done:
    count = await retry_workflow(app_state, target.id)
    return Done(count, 0, f"Flow {target.id}: {_jobs(count)} run again")


async def _resume_workflow(app_state: AppState, target: WorkflowTarget) -> Done:
    count = await resume_workflow(app_state, target.id)
    steps = f"{count:,} step{'' if count == 1 else 's'}"
    return Done(1, 0, f"Flow {target.id} is resumed: {steps} tried anew")


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"


def _names(target: Any) -> list[str]:
    if isinstance(target, JobsTarget):
        return [job.id for job in target.jobs]
    return [getattr(target, "name", None) or target.id]


def _table(actions: Iterable[Action]) -> Mapping[str, Action]:
    return {action.name: action for action in actions}


def _action(
    name: str, label: str, summary: str, target: type[Any], run: Any, asks: str = "", danger: bool = False
) -> Action:
    return Action(name, label, summary, target, run, _names, asks, danger)


ACTIONS = _table(
    (
        _action(
            *("jobs/retry", "Retry", "Run jobs that ended without success once more", JobsTarget),
            *(_for_jobs("queued again", _retry), "Run them once more?"),
        ),
        _action(
            *("jobs/abort", "Abort", "Abort queued, deferred and running jobs", JobsTarget),
            *(_for_jobs("being aborted", _abort), "Abort them? What they did so far stays.", True),
        ),
        _action(
            *("jobs/delete", "Delete", "Remove every trace of jobs that no worker holds", JobsTarget),
            *(_for_jobs("deleted", _delete), "Delete them with all that is known of them?", True),
        ),
        _action(
            *("jobs/run-now", "Run now", "Make deferred jobs due at once", JobsTarget),
            *(_for_jobs("made due", _run_now), "Make them due at once?"),
        ),
        _action("queues/pause", "Pause", "Let no worker take jobs of a queue", QueueTarget, _pause),
        _action("queues/resume", "Resume", "Let workers take jobs of a queue again", QueueTarget, _resume),
        _action(
            *("queues/purge", "Purge", "Delete all jobs of a queue that no worker holds", QueueTarget, _purge),
            *("Delete all jobs of the queue that no worker holds?", True),
        ),
        _action("workers/drain", "Drain", "Let a worker take no more jobs", WorkerTarget, _drain),
        _action("workers/resume", "Resume", "Let a drained worker take jobs again", WorkerTarget, _undrain),
        _action("schedules/run", "Run now", "Enqueue the job of a schedule at once", ScheduleTarget, _run_schedule),
        _action("schedules/pause", "Pause", "Fire a schedule no more", ScheduleTarget, _pause_schedule),
        _action("schedules/resume", "Resume", "Fire a paused schedule again", ScheduleTarget, _resume_schedule),
        _action("schedules/edit", "Save", "Change when a schedule is due", ScheduleEdit, _edit_schedule),
        _action(
            *("workflows/cancel", "Cancel", "Abort what runs of a flow, drop what waits", WorkflowTarget),
            *(_cancel_workflow, "Abort what runs of it, and drop what waits?", True),
        ),
        _action(
            *("workflows/retry", "Retry", "Run what did not complete of a flow once more", WorkflowTarget),
            _retry_workflow,
        ),
        _action(
            *("workflows/resume", "Resume", "Go on with a failed workflow at its failed step", WorkflowTarget),
            _resume_workflow,
        ),
    )
)
