"""The overview: problems first, then totals, then each queue."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from ...protocol.presence import WorkerInfo
from ...scheduling.schedules import ScheduleInfo
from ..app_state import AppState
from ..links import link
from .charts import Charts, FunctionRow, Range, buckets_of, functions_of, latest
from .queues import MAX_QUEUES, Tile, is_stuck, tiles

__all__ = ("Live", "Overview", "OverviewQuery", "Problem", "Totals", "read_live", "read_overview")

FAILING_SHARE, MIN_FAILURES = 0.05, 3
LATE_LOOP_MS = 1_000
COUNTING_WAIT_S = 0.1
MAX_FUNCTIONS = 50


class Problem(Struct, frozen=True):
    """Something that a person should look at.

    :ivar href: page where more is told, below the dashboard's root
    """

    severity: Literal["error", "warning"]
    what: str
    detail: str
    href: str


class Totals(Struct, frozen=True):
    """All queues together."""

    due: int
    running: int
    deferred: int
    dead: int
    in_per_s: float
    out_per_s: float
    workers: int
    slots: int
    busy: int


class OverviewQuery(Struct, frozen=True, rename={"range_": "range"}):
    """Which time the charts and functions are about."""

    range_: Range = "1h"


class Overview(Struct, frozen=True):
    """Everything at a glance.

    :ivar counting: the functions are not known yet; they are with the next reading
    """

    now_ms: int
    range: Range
    problems: list[Problem]
    totals: Totals
    queues: list[Tile]
    functions: list[FunctionRow]
    counting: bool


class Live(Struct, frozen=True):
    """What open pages are told once a second."""

    now_ms: int
    problems: int
    totals: Totals
    latest: Charts


async def read_overview(app_state: AppState, query: OverviewQuery) -> Overview:
    """Everything at a glance."""
    found = await _tiles(app_state)
    problems = await _problems(app_state, found)
    totals = await _totals(app_state, found)
    functions: list[FunctionRow] = []
    counting = True
    with contextlib.suppress(TimeoutError):  # right after the start, a month of counters takes longer to read
        async with asyncio.timeout(COUNTING_WAIT_S):
            functions = functions_of(await buckets_of(app_state, query.range_))[:MAX_FUNCTIONS]
            counting = False
    return Overview(
        now_ms=app_state.now_ms(),
        range=query.range_,
        problems=problems,
        totals=totals,
        queues=_urgent(found),
        functions=functions,
        counting=counting,
    )


async def read_live(app_state: AppState) -> Live:
    """The part of the overview that changes every second."""
    found = await _tiles(app_state)
    problems = await _problems(app_state, found)
    return Live(app_state.now_ms(), len(problems), await _totals(app_state, found), await latest(app_state))


async def _tiles(app_state: AppState) -> list[Tile]:
    async def read() -> list[Tile]:
        return await tiles(app_state, (await app_state.queues())[:MAX_QUEUES])

    return await app_state.cache.get("tiles", read, fresh_s=0.7)


def _urgent(found: Sequence[Tile]) -> list[Tile]:
    """Stuck queues first, then those with the oldest job."""
    return sorted(found, key=lambda tile: (not is_stuck(tile), -tile.oldest_s, -tile.depth, tile.name))


async def _totals(app_state: AppState, found: Sequence[Tile]) -> Totals:
    workers = [
        worker.presence for worker in await app_state.cache.get("workers", app_state.pool.workers) if worker.alive
    ]
    return Totals(
        due=sum(tile.due for tile in found),
        running=sum(tile.running for tile in found),
        deferred=sum(tile.deferred + tile.held for tile in found),
        dead=sum(tile.dead for tile in found),
        in_per_s=sum(tile.in_per_s for tile in found),
        out_per_s=sum(tile.out_per_s for tile in found),
        workers=len(workers),
        slots=sum(worker.slots for worker in workers),
        busy=sum(worker.running for worker in workers),
    )


async def _problems(app_state: AppState, found: Sequence[Tile]) -> list[Problem]:
    workers, schedules, functions = await asyncio.gather(
        app_state.cache.get("workers", app_state.pool.workers),
        app_state.cache.get("schedules", app_state.pool.schedules.list, fresh_s=5.0),
        _recent_functions(app_state),
    )
    problems = [
        *_of_queues(found),
        *_of_functions(functions),
        *_of_workers(workers, found),
        *_of_schedules(schedules),
    ]
    return sorted(problems, key=lambda problem: problem.severity)


async def _recent_functions(app_state: AppState) -> list[FunctionRow]:
    return functions_of(await buckets_of(app_state, "15m"))


def _of_queues(found: Sequence[Tile]) -> list[Problem]:
    problems = []
    for tile in found:
        href = link("/queue", name=tile.name)
        if tile.due and not tile.served:
            problems.append(Problem("error", f"Nobody serves {tile.name}", f"{_jobs(tile.due)} due", href))
        elif is_stuck(tile) and not tile.paused:
            detail = f"{_jobs(tile.due)} due, the oldest for {tile.oldest_s:,.0f} s, and none ends"
            problems.append(Problem("error", f"{tile.name} is stuck", detail, href))
        if tile.stuck:
            detail = f"{_jobs(tile.stuck)} whose lease ended a minute ago: nobody took them up"
            problems.append(Problem("error", f"{tile.name}: abandoned jobs", detail, href))
        if tile.blocked:
            what = f"{tile.blocked:,} workflow{'' if tile.blocked == 1 else 's'}"
            detail = f"{what}: the workers' code does not fit the history; roll the deploy back"
            problems.append(Problem("error", f"{tile.name}: blocked by code", detail, link("/workflows")))
        if tile.paused and tile.depth:
            problems.append(Problem("warning", f"{tile.name} is paused", f"{_jobs(tile.depth)} in it", href))
        if tile.dead:
            dead = link("/jobs", state="dead", queue=tile.name)
            problems.append(Problem("warning", f"{tile.name}: dead jobs", f"{tile.dead:,} failed for good", dead))
    return problems


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"


def _of_functions(rows: Sequence[FunctionRow]) -> list[Problem]:
    return [
        Problem(
            "error" if row.failure_share >= 0.5 else "warning",
            f"{row.name} fails",
            f"{row.failed:,} of {row.ended:,} in the last 15 minutes ({row.failure_share:.0%})",
            link("/errors", function=row.name),
        )
        for row in rows
        if row.failed >= MIN_FAILURES and row.failure_share >= FAILING_SHARE
    ]


def _of_workers(workers: Sequence[WorkerInfo], found: Sequence[Tile]) -> list[Problem]:
    problems = []
    for worker in workers:
        presence = worker.presence
        name = f"{presence.host}, process {presence.pid}"
        if not worker.alive:
            why = (
                "it was killed, or is cut off from Redis"
                if worker.absence == "gone"
                else "its event loop is blocked, it is frozen, or the network is cut"
            )
            detail = f"{name} was last heard of at {worker.seen:%H:%M:%S} UTC, and did not say that it stops: {why}"
            problems.append(Problem("error", f"A worker is {worker.absence}", detail, "/workers"))
        elif presence.lag_ms >= LATE_LOOP_MS:
            detail = f"{name}: its event loop was {presence.lag_ms:,} ms late; something blocks it"
            problems.append(Problem("warning", "A worker is blocked", detail, "/workers"))
    if not any(worker.alive for worker in workers) and not any(tile.served for tile in found):
        problems.append(Problem("warning", "There is no worker", "no job will be run", "/workers"))
    return problems


def _of_schedules(schedules: Sequence[ScheduleInfo]) -> list[Problem]:
    return [
        Problem("error", f"Schedule {info.name} is not fired", info.problem, link("/schedule", name=info.name))
        for info in schedules
        if info.problem
    ]
