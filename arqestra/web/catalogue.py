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


def _view(name: str, title: str, summary: str, section: str, *parts: Any, path: str = "", template: str = "") -> View:
    query, answer, read = parts
    return View(name, path or f"/{name}", title, summary, section, template or f"{name}.html", query, answer, read)


VIEWS = (
    _view(
        *("overview", "Overview", "Everything at a glance: problems, queues, functions", "overview"),
        *(overview.OverviewQuery, overview.Overview, overview.read_overview),
        path="/",
    ),
    _view(
        *("charts", "Charts", "Series of throughput, failures and durations", "overview"),
        *(charts.ChartsQuery, charts.Charts, charts.read_charts),
    )._replace(template=""),
    _view(
        *("jobs", "Jobs", "Jobs of a state, with filters, in pages", "jobs"),
        *(job_query.JobsQuery, jobs.JobList, jobs.read_jobs),
    ),
    _view("job", "Job", "All that is known of a job", "jobs", job.JobQuery, job.JobPage, job.read_job),
    _view(
        *("errors", "Errors", "Errors of failed attempts, grouped by type and place", "errors"),
        *(errors.ErrorsQuery, errors.ErrorList, errors.read_errors),
    ),
    _view(
        *("queues", "Queues", "How queues stand", "queues"),
        *(queues.QueuesQuery, queues.QueueList, queues.read_queues),
    ),
    _view(
        *("queue", "Queue", "One queue, with the limits that its jobs wait for", "queues"),
        *(queues.QueueQuery, queues.QueuePage, queues.read_queue),
    ),
    _view(
        *("workers", "Workers", "The workers that were heard of in the last ten minutes", "workers"),
        *(workers.WorkersQuery, workers.WorkerList, workers.read_workers),
    ),
    _view(
        *("schedules", "Schedules", "Schedules in words, the next due first", "schedules"),
        *(schedules.SchedulesQuery, schedules.ScheduleList, schedules.read_schedules),
    ),
    _view(
        *("schedule", "Schedule", "One schedule, with its next and last runs", "schedules"),
        *(schedules.ScheduleQuery, schedules.SchedulePage, schedules.read_schedule),
    ),
    _view(
        *("workflows", "Workflows", "Flows and durable workflows, the latest first", "workflows"),
        *(workflows.WorkflowsQuery, workflows.FlowList, workflows.read_workflows),
    ),
    _view(
        *("workflow", "Workflow", "One flow: its graph with the states, and its history", "workflows"),
        *(workflows.WorkflowQuery, workflows.FlowPage, workflows.read_workflow),
    ),
    _view(
        *("search", "Search", "What is called like what was pasted", ""),
        *(search.SearchQuery, search.SearchResult, search.read_search),
    ),
    _view(
        *("audit", "Audit log", "What people did by the dashboard", "audit"),
        *(audit.AuditQuery, audit.AuditList, audit.read_entries),
    ),
)
