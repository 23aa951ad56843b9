"""`arqestra jobs`: look at jobs. What changes them is in `job_changes.py`."""

import traceback
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import typer

from ..clock import timestamp_ms
from ..queue import DeadJob
from ..store.look import browse
from .arguments import in_line, since_ms
from .job_changes import add_job_changes
from .job_view import JobView, Row, view_of
from .output import ago, compact, iso, when
from .shell import Shell, Stop, command

__all__ = ("jobs_app",)

jobs_app = typer.Typer(no_args_is_help=True, help="Look at jobs, and change them.")
State = Literal["queued", "deferred", "running", "held", "waiting", "dead"]
MOST_LOOKED_AT = 10_000
DEAD_A_READ = 200


async def list_jobs(
    shell: Shell,
    state: Annotated[State | None, typer.Option(help="default all but dead")] = None,
    function: Annotated[str | None, typer.Option(help="name of the function")] = None,
    since: Annotated[
        str | None, typer.Option(help="enqueued (dead: died) since: 2h ago, or a time in ISO 8601", metavar="TIME")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="jobs to list at most")] = 50,
) -> None:
    """List jobs of a queue: those that have not ended, or the dead ones.

    States: queued (due), deferred, running, held by a limit, waiting (a workflow that waits for news), dead (failed for
    good). At most 10,000 entries of the queue are looked at, the first due first; if that cut it, it says so.
    """
    oldest_ms = since_ms(since)
    search = _Search(shell, function, oldest_ms)
    found: list[Row] = []
    more = False
    rows = search.dead() if state == "dead" else search.queued(state or "", limit)
    async for row in rows:
        if len(found) == limit:
            more = True
            break
        found.append(row)
    now_ms = timestamp_ms() + shell.pool.clock_offset_ms
    shell.out.document(
        {
            "queue": shell.queue,
            "jobs": [row.document() for row in found],
            "more": more,
            "looked_at": search.looked_at,
            "entries": search.entries,
            "cut": search.cut,
        }
    )
    _print_rows(shell, found, now_ms)
    if more:
        shell.out.note(f"there are more; these are the first {limit} (--limit)")
    if search.cut:
        shell.out.note(f"looked at {search.looked_at:,} of {search.entries:,} entries of the queue")


class _Search:
    """Jobs of a queue that fit a filter, found by a bounded look.

    :ivar looked_at: entries that were looked at
    :ivar entries: that there are
    :ivar cut: not all were looked at
    """

    def __init__(self, shell: Shell, function: str | None, oldest_ms: int | None) -> None:
        self._pool, self._queue = shell.pool, shell.queue
        self._function, self._oldest_ms = function, oldest_ms
        self.looked_at = self.entries = 0
        self.cut = False

    async def queued(self, state: str, limit: int) -> AsyncIterator[Row]:
        """Of the queue itself."""
        seen: set[str] = set()
        payloads = limit + 1 if self._function is None and self._oldest_ms is None else MOST_LOOKED_AT
        # Running jobs of ours are the first that are not due, since leases are short; those of stock workers are the
        # first in the queue. -1 is where a state begins.
        for start in (-1, 0) if state == "running" else (-1 if state else 0,):
            place, budget = start, MOST_LOOKED_AT
            while budget > 0:
                page = await browse(self._pool.store, self._queue, state=state, place=place, payloads=payloads)
                self.entries = page.total
                self.looked_at = max(self.looked_at, page.next_place if page.next_place >= 0 else page.total)
                for entry in page.entries:
                    if entry.id not in seen:
                        seen.add(entry.id)
                        row = Row.of_entry(self._pool, self._queue, entry)
                        if self._fits(row.function, row.enqueued_ms):
                            yield row
                place, budget = page.next_place, budget - 500
                if place < 0:
                    break
            else:
                self.cut = True

    async def dead(self) -> AsyncIterator[Row]:
        """Of its dead set, the latest first."""
        queue = self._pool.queue(self._queue)
        self.entries = await queue.dead_count()
        while jobs := await queue.dead(offset=self.looked_at, limit=DEAD_A_READ):
            for job in jobs:
                self.looked_at += 1
                if self._oldest_ms is not None and job.died.timestamp() * 1000 < self._oldest_ms:
                    return
                if self._fits_dead(job):
                    yield Row.of_dead(self._pool, job)

    def _fits(self, function: str | None, enqueued_ms: int | None) -> bool:
        if self._function is not None and function != self._function:
            return False
        return self._oldest_ms is None or (enqueued_ms is not None and enqueued_ms >= self._oldest_ms)

    def _fits_dead(self, job: DeadJob) -> bool:
        return self._function is None or job.function == self._function


def _print_rows(shell: Shell, rows: list[Row], now_ms: int) -> None:
    if not rows:
        shell.out.line(f"no such job in queue {shell.queue}")
        return
    dead = any(row.state == "dead" for row in rows)
    shell.out.table(
        ("id", "state", "function", "arguments", "died" if dead else "due", "error" if dead else "note"),
        (
            (
                row.id,
                row.state,
                row.function or "?",
                in_line(row.function or "", row.arguments),
                ago(row.moment_ms, now_ms),
                row.note,
            )
            for row in rows
        ),
    )


async def show(shell: Shell, job_id: Annotated[str, typer.Argument(help="id of the job")]) -> None:
    """Show what is known of a job: status, arguments, options, attempts, errors with tracebacks, result."""
    view = await view_of(shell.pool, job_id, shell.chosen_queue)
    if view is None:
        where = "" if shell.chosen_queue is None else f" in queue {shell.chosen_queue}"
        raise Stop(f"there is no job {job_id!r}{where}; its result may not be kept any more")
    shell.out.document(_document(view))
    _print_view(shell, view)


def _document(view: JobView) -> dict[str, Any]:
    lease, result = view.lease, view.result
    options = view.payload.options if view.payload is not None else {}
    return {
        "id": view.id,
        "queue": view.queue,
        "status": view.status,
        "function": view.function,
        "args": view.arguments.args,
        "kwargs": view.arguments.kwargs,
        "options": {
            "deadline": iso(options.get("x")),
            "priority": options.get("p", 0),
            "headers": options.get("h", {}),
        },
        "enqueued": iso(view.enqueued_ms),
        "due": iso(view.due_ms),
        "attempts": view.trace.attempts if result is None else result.job_try,
        "abort_requested": iso(view.trace.abort_requested_ms),
        "lease": None if lease is None else {"worker": lease[0], "ends": iso(lease[1]), "crashes": lease[3]},
        "errors": view.errors,
        "result": None
        if result is None
        else {
            "success": result.success,
            "value": result.result if result.success else None,
            "error": None if result.success else _error_text(result.result),
            "traceback": view.remote_traceback,
            "started": result.start_time,
            "finished": result.finish_time,
            "kept_ms": view.trace.result_ttl_ms,
        },
        "died": iso(view.trace.died_ms),
    }


def _error_text(error: Any) -> str:
    if isinstance(error, BaseException):
        return "".join(traceback.format_exception_only(error)).strip()
    return str(error)


def _print_view(shell: Shell, view: JobView) -> None:
    now_ms, lease, result = view.sighting.now_ms, view.lease, view.result
    options = view.payload.options if view.payload is not None else {}
    shell.out.fields(
        (
            ("job", view.id),
            ("status", view.status),
            ("queue", view.queue),
            ("function", view.function),
            ("arguments", in_line(view.function, view.arguments, limit=2_000)),
            ("priority", options.get("p")),
            ("headers", options.get("h")),
            ("enqueued", when(view.enqueued_ms, now_ms)),
            ("due", when(view.due_ms, now_ms)),
            ("expires", when(options.get("x"), now_ms)),
            ("attempts", view.trace.attempts if result is None else result.job_try),
            ("abort", view.trace.abort_requested_ms and f"asked for {ago(view.trace.abort_requested_ms, now_ms)}"),
            ("worker", lease and f"{lease[0]}, its lease ends {ago(lease[1], now_ms)}"),
            ("crashes", lease and lease[3]),
            ("started", result and when(result.start_time.timestamp() * 1000, now_ms)),
            ("finished", result and when(result.finish_time.timestamp() * 1000, now_ms)),
            ("died", when(view.trace.died_ms, now_ms)),
            ("result", compact(result.result, 2_000) if result is not None and result.success else ""),
            ("error", _error_text(result.result) if result is not None and not result.success else ""),
        )
    )
    for error in view.errors:
        shell.out.line(f"\nattempt {error.job_try}, worker {error.worker}, {when(_ms(error.ended), now_ms)}:", "bold")
        shell.out.line(error.traceback.rstrip() or f"{error.type}: {error.message}")
    if view.remote_traceback and not view.errors:
        shell.out.line("\n" + view.remote_traceback.rstrip())


def _ms(moment: Any) -> int:
    return int(moment.timestamp() * 1000)


command(jobs_app, "list")(list_jobs)
command(jobs_app, "show")(show)
add_job_changes(jobs_app)
