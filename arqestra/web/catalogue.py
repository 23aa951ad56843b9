"""The table of all views: each is shown as an HTML page at its path, and as JSON below `/api`."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from . import audit
from .app_state import AppState
from .views import charts, errors, job, job_query, jobs, overview, queues, schedules, search, workers, workflows

__all__ = ("VIEWS", "View")


class View(NamedTuple):
    """A view: what is read, and how it is shown.

    :ivar section: of the navigation
    :ivar template: "" if there is no HTML of it
    :ivar read: answers a query; None if there is no such thing
    """

    name: str
    path: str
    title: str
    summary: str
    section: str
    template: str
    query: type[Any]
    answer: type[Any]
    read: Callable[[AppState, Any], Awaitable[Any]]


def _view(
    name: str,
    title: str,
    summary: str,
    *,
    section: str,
    query: type[Any],
    answer: type[Any],
    read: Callable[[AppState, Any], Awaitable[Any]],
    path: str = "",
) -> View:
    """A view with a path and a template of its own name.

    :param path: another path
    """
    return View(
        name=name,
        path=path or f"/{name}",
        title=title,
        summary=summary,
        section=section,
        template=f"{name}.html",
        query=query,
        answer=answer,
        read=read,
    )


VIEWS = (
    _view(
        "overview",
        "Overview",
        "Everything at a glance: problems, queues, functions",
        section="overview",
        query=overview.OverviewQuery,
        answer=overview.Overview,
        read=overview.read_overview,
        path="/",
    ),
    _view(
        "charts",
        "Charts",
        "Series of throughput, failures and durations",
        section="overview",
        query=charts.ChartsQuery,
        answer=charts.Charts,
        read=charts.read_charts,
    )._replace(template=""),
    _view(
        "jobs",
        "Jobs",
        "Jobs of a state, with filters, in pages",
        section="jobs",
        query=job_query.JobsQuery,
        answer=jobs.JobList,
        read=jobs.read_jobs,
    ),
    _view(
        "job",
        "Job",
        "All that is known of a job",
        section="jobs",
        query=job.JobQuery,
        answer=job.JobPage,
        read=job.read_job,
    ),
    _view(
        "errors",
        "Errors",
        "Errors of failed attempts, grouped by type and place",
        section="errors",
        query=errors.ErrorsQuery,
        answer=errors.ErrorList,
        read=errors.read_errors,
    ),
    _view(
        "queues",
        "Queues",
        "How queues stand",
        section="queues",
        query=queues.QueuesQuery,
        answer=queues.QueueList,
        read=queues.read_queues,
    ),
    _view(
        "queue",
        "Queue",
        "One queue, with the limits that its jobs wait for",
        section="queues",
        query=queues.QueueQuery,
        answer=queues.QueuePage,
        read=queues.read_queue,
    ),
    _view(
        "workers",
        "Workers",
        "The workers that were heard of in the last ten minutes",
        section="workers",
        query=workers.WorkersQuery,
        answer=workers.WorkerList,
        read=workers.read_workers,
    ),
    _view(
        "schedules",
        "Schedules",
        "Schedules in words, the next due first",
        section="schedules",
        query=schedules.SchedulesQuery,
        answer=schedules.ScheduleList,
        read=schedules.read_schedules,
    ),
    _view(
        "schedule",
        "Schedule",
        "One schedule, with its next and last runs",
        section="schedules",
        query=schedules.ScheduleQuery,
        answer=schedules.SchedulePage,
        read=schedules.read_schedule,
    ),
    _view(
        "workflows",
        "Workflows",
        "Flows and durable workflows, the latest first",
        section="workflows",
        query=workflows.WorkflowsQuery,
        answer=workflows.FlowList,
        read=workflows.read_workflows,
    ),
    _view(
        "workflow",
        "Workflow",
        "One flow: its graph with the states, and its history",
        section="workflows",
        query=workflows.WorkflowQuery,
        answer=workflows.FlowPage,
        read=workflows.read_workflow,
    ),
    _view(
        "search",
        "Search",
        "What is called like what was pasted",
        section="",
        query=search.SearchQuery,
        answer=search.SearchResult,
        read=search.read_search,
    ),
    _view(
        "audit",
        "Audit log",
        "What people did by the dashboard",
        section="audit",
        query=audit.AuditQuery,
        answer=audit.AuditList,
        read=audit.read_entries,
    ),
)
