"""What actions are done to: chosen jobs, a queue, a worker, a schedule or a workflow; and what an action returns."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from .app_state import AppState
from .views.job_query import JobFilter, JobRef
from .views.jobs import matching_jobs

__all__ = (
    "MAX_JOBS",
    "Done",
    "JobsTarget",
    "QueueTarget",
    "ScheduleTarget",
    "WorkerTarget",
    "WorkflowTarget",
    "chosen_jobs",
    "count_jobs",
    "names_of",
)

MAX_JOBS = 10_000
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


async def chosen_jobs(
    app_state: AppState, target: JobsTarget, max_inspected: int = MAX_JOBS
) -> tuple[list[JobRef], bool]:
    """The jobs of a target, and whether there may be more.

    :param max_inspected: entries of a queue to read for a filter
    """
    if target.filter is None:
        return list(dict.fromkeys(target.jobs)), False
    return await matching_jobs(app_state, target.filter, MAX_JOBS, max_inspected)


def names_of(target: Any) -> list[str]:
    """The ids or the name that a target gives, for the audit log."""
    if isinstance(target, JobsTarget):
        return [job.id for job in target.jobs]
    return [getattr(target, "name", None) or target.id]


def count_jobs(count: int) -> str:
    """1 job, 2 jobs"""
    return f"{count:,} job{'' if count == 1 else 's'}"
