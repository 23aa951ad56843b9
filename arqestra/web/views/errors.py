"""Errors of failed attempts, grouped by type and place: first and last seen, how often over time."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ...protocol.recent_jobs import EndedJob
from ...store.recent import read_recent
from ..app_state import AppState
from .job_query import WITHIN_MS

__all__ = ("ErrorGroup", "ErrorList", "ErrorsQuery", "read_errors")

MAX_INSPECTED = 3_000
TREND_POINTS = 24
MAX_GROUPS = 200
EXAMPLES = 5


class ErrorsQuery(Struct, frozen=True):
    """Which errors.

    :ivar state: of attempts that were the last ("failed"), or that were retried
    """

    within: Literal["15m", "1h", "24h", "7d"] = "24h"
    state: Literal["failed", "retried"] = "failed"
    queue: Annotated[str, Meta(max_length=1000)] = ""
    function: Annotated[str, Meta(max_length=1000)] = ""


class ErrorGroup(Struct, frozen=True):
    """Attempts that failed with one type of error at one place.

    :ivar message: of the latest
    :ivar trend: how many in each of 24 equal parts of the time
    :ivar examples: ids of the latest jobs, with their queues
    """

    type: str
    place: str
    message: str
    count: int
    functions: list[str]
    first_ms: int
    last_ms: int
    trend: list[int]
    examples: list[tuple[str, str]]


class ErrorList(Struct, frozen=True):
    """Groups of errors, the most frequent first.

    :ivar looked_at: attempts that were looked at
    :ivar cut: there are more in this time than were looked at
    """

    now_ms: int
    filter: ErrorsQuery
    groups: list[ErrorGroup]
    looked_at: int
    cut: bool
    queues: list[str]


async def read_errors(app_state: AppState, query: ErrorsQuery) -> ErrorList:
    """The errors of a time, grouped."""
    now_ms = app_state.now_ms()
    since_ms = now_ms - WITHIN_MS[query.within]
    names = await app_state.queues()
    found = await read_recent(
        app_state.store,
        [query.queue] if query.queue else names,
        state=query.state,
        function=query.function or None,
        since_ms=since_ms,
        limit=MAX_INSPECTED,
    )
    groups = grouped(found, since_ms, now_ms)
    return ErrorList(
        now_ms=now_ms,
        filter=query,
        groups=groups[:MAX_GROUPS],
        looked_at=len(found),
        cut=len(found) == MAX_INSPECTED,
        queues=names,
    )


def grouped(found: Sequence[EndedJob], since_ms: int, now_ms: int) -> list[ErrorGroup]:
    """Attempts grouped by the type and place of their errors, the most frequent group first."""
    groups: dict[tuple[str, str], list[EndedJob]] = {}
    for job in found:
        if job.failure is not None:
            groups.setdefault((job.failure.type, job.failure.place), []).append(job)
    made = [_group(kind, place, jobs, since_ms, now_ms) for (kind, place), jobs in groups.items()]
    return sorted(made, key=lambda group: (-group.count, -group.last_ms))


def _group(kind: str, place: str, jobs: Sequence[EndedJob], since_ms: int, now_ms: int) -> ErrorGroup:
    trend = [0] * TREND_POINTS
    length_ms = max(1, now_ms - since_ms)
    for job in jobs:
        trend[min(TREND_POINTS - 1, max(0, (_ms(job) - since_ms) * TREND_POINTS // length_ms))] += 1
    examples = list(dict.fromkeys((job.job_id, job.queue) for job in jobs))[:EXAMPLES]
    message = jobs[0].failure.message if jobs[0].failure is not None else ""
    functions = sorted({job.function for job in jobs})
    return ErrorGroup(
        type=kind,
        place=place,
        message=message,
        count=len(jobs),
        functions=functions,
        first_ms=_ms(jobs[-1]),
        last_ms=_ms(jobs[0]),
        trend=trend,
        examples=examples,
    )


def _ms(job: EndedJob) -> int:
    return round(job.ended.timestamp() * 1000)
