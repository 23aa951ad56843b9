"""The table of actions, for pages and API alike: all that an operator can do with the dashboard."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..store.presence import steer_worker
from .app_state import AppState
from .job_actions import abort_jobs, delete_jobs, retry_jobs, run_jobs_now
from .schedule_edit import ScheduleEdit, edit_schedule, run_schedule
from .targets import Done, JobsTarget, QueueTarget, ScheduleTarget, WorkerTarget, WorkflowTarget, count_jobs
from .views.workflows import cancel_workflow, resume_workflow, retry_workflow

__all__ = ("ACTIONS", "Action")


@dataclass(frozen=True)
class Action:
    """Something that an operator can do.

    :ivar name: "jobs/retry"
    :ivar label: of its button
    :ivar summary: one sentence for the API's description
    :ivar target: the type of what it is done to
    :ivar run: does it
    :ivar asks: the question of the page before it is done; "" if it is done at once
    :ivar danger: it cannot be undone
    """

    name: str
    label: str
    summary: str
    target: type[Any]
    run: Callable[[AppState, Any], Awaitable[Done]]
    asks: str = ""
    danger: bool = False


async def _pause(app_state: AppState, target: QueueTarget) -> Done:
    changed = await app_state.pool.queue(target.name).pause()
    return Done(int(changed), 0, f"Queue {target.name} is paused" + ("" if changed else " already"))


async def _resume(app_state: AppState, target: QueueTarget) -> Done:
    changed = await app_state.pool.queue(target.name).resume()
    return Done(int(changed), 0, f"Queue {target.name} is served" + ("" if changed else " already"))


async def _purge(app_state: AppState, target: QueueTarget) -> Done:
    count = await app_state.pool.queue(target.name).purge()
    return Done(count, 0, f"{count_jobs(count)} of queue {target.name} deleted")


async def _drain(app_state: AppState, target: WorkerTarget) -> Done:
    received = await steer_worker(app_state.store, target.id, "drain")
    return _steered(target, received, "takes no more jobs")


async def _undrain(app_state: AppState, target: WorkerTarget) -> Done:
    received = await steer_worker(app_state.store, target.id, "resume")
    return _steered(target, received, "takes jobs again")


def _steered(target: WorkerTarget, received: bool, what: str) -> Done:
    if received:
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
    return Done(count, 0, f"Flow {target.id}: {count_jobs(count)} run again")


async def _resume_workflow(app_state: AppState, target: WorkflowTarget) -> Done:
    count = await resume_workflow(app_state, target.id)
    steps = f"{count:,} step{'' if count == 1 else 's'}"
    return Done(1, 0, f"Flow {target.id} is resumed: {steps} tried anew")


_TABLE = (
    Action(
        "jobs/retry",
        "Retry",
        "Run jobs that ended without success once more",
        target=JobsTarget,
        run=retry_jobs,
        asks="Run them once more?",
    ),
    Action(
        "jobs/abort",
        "Abort",
        "Abort queued, deferred and running jobs",
        target=JobsTarget,
        run=abort_jobs,
        asks="Abort them? What they did so far stays.",
        danger=True,
    ),
    Action(
        "jobs/delete",
        "Delete",
        "Remove every trace of jobs that no worker holds",
        target=JobsTarget,
        run=delete_jobs,
        asks="Delete them with all that is known of them?",
        danger=True,
    ),
    Action(
        "jobs/run-now",
        "Run now",
        "Make deferred jobs due at once",
        target=JobsTarget,
        run=run_jobs_now,
        asks="Make them due at once?",
    ),
    Action("queues/pause", "Pause", "Let no worker take jobs of a queue", QueueTarget, _pause),
    Action("queues/resume", "Resume", "Let workers take jobs of a queue again", QueueTarget, _resume),
    Action(
        "queues/purge",
        "Purge",
        "Delete all jobs of a queue that no worker holds",
        target=QueueTarget,
        run=_purge,
        asks="Delete all jobs of the queue that no worker holds?",
        danger=True,
    ),
    Action("workers/drain", "Drain", "Let a worker take no more jobs", WorkerTarget, _drain),
    Action("workers/resume", "Resume", "Let a drained worker take jobs again", WorkerTarget, _undrain),
    Action("schedules/run", "Run now", "Enqueue the job of a schedule at once", ScheduleTarget, _run_schedule),
    Action("schedules/pause", "Pause", "Fire a schedule no more", ScheduleTarget, _pause_schedule),
    Action("schedules/resume", "Resume", "Fire a paused schedule again", ScheduleTarget, _resume_schedule),
    Action("schedules/edit", "Save", "Change when a schedule is due", ScheduleEdit, _edit_schedule),
    Action(
        "workflows/cancel",
        "Cancel",
        "Abort what runs of a flow, drop what waits",
        target=WorkflowTarget,
        run=_cancel_workflow,
        asks="Abort what runs of it, and drop what waits?",
        danger=True,
    ),
    Action(
        "workflows/retry",
        "Retry",
        "Run what did not complete of a flow once more",
        target=WorkflowTarget,
        run=_retry_workflow,
    ),
    Action(
        "workflows/resume",
        "Resume",
        "Go on with a failed workflow at its failed step",
        target=WorkflowTarget,
        run=_resume_workflow,
    ),
)
ACTIONS: Mapping[str, Action] = {action.name: action for action in _TABLE}
