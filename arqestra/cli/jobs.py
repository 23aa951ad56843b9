"""`arqestra jobs`: lists jobs. `job_show.py` shows one job, `job_changes.py` changes jobs."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from ..protocol.recent_jobs import EndedJob
from .arguments import in_line, since_ms
from .job_changes import add_job_changes
from .job_show import add_job_show
from .output import ago, first_line, span
from .search import ENDED, MAX_ENDED, JobRow, Search, State, find_ended
from .shell import Shell, command

__all__ = ("add_jobs",)

jobs_app = typer.Typer(no_args_is_help=True, help="Look at jobs, and change them.")


def add_jobs(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(jobs_app, name="jobs")


async def list_jobs(
    shell: Shell,
    state: Annotated[State | None, typer.Option(help="default all that have not ended")] = None,
    function: Annotated[str | None, typer.Option(help="name of the function")] = None,
    since: Annotated[
        str | None, typer.Option(help="enqueued (or died, or ended) since: 2h ago, or a time", metavar="TIME")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_ENDED, help="jobs to list at most")] = 50,
) -> None:
    """List jobs: those that have not ended, dead ones, or the latest attempts that ended in a state.

    Not ended: queued (due), deferred, running, held by a limit, waiting (a workflow that waits for news). At most
    10,000 entries of the queue are looked at, the first due first; if that cut it, it says so. dead: failed for good.

    Ended: complete, failed, aborted, expired, retried (it runs or ran again). Of each function the newest 500 to 2,000
    are listed for 30 days, of all queues unless --queue is given.
    """
    if state in ENDED:
        await _list_ended(shell, state, function, since_ms(since), limit)
        return
    search = Search(shell.pool, shell.queue, function, since_ms(since))
    found: list[JobRow] = []
    more = False
    rows = search.dead() if state == "dead" else search.queued(state or "", limit)
    async for row in rows:
        if len(found) == limit:
            more = True
            break
        found.append(row)
    shell.out.document(
        {
            "queue": shell.queue,
            "jobs": [row.document() for row in found],
            "more": more,
            "looked_at": search.inspected,
            "entries": search.entries,
            "cut": search.cut,
        }
    )
    _print_rows(shell, found)
    if more:
        _note_more(shell, limit)
    if search.cut:
        shell.out.note(f"looked at {search.inspected:,} of {search.entries:,} entries of the queue")


def _print_rows(shell: Shell, rows: list[JobRow]) -> None:
    if not rows:
        shell.out.line(f"no such job in queue {shell.queue}")
        return
    now_ms = shell.now_ms()
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
                first_line(row.note),
            )
            for row in rows
        ),
    )


async def _list_ended(shell: Shell, state: str, function: str | None, oldest_ms: int | None, limit: int) -> None:
    found, more = await find_ended(
        shell.pool, state, queue=shell.chosen_queue, function=function, oldest_ms=oldest_ms, limit=limit
    )
    shell.out.document(
        {
            "queue": shell.chosen_queue,
            "jobs": [_ended_document(job, kept=kept) for job, kept in found],
            "more": more,
        }
    )
    if not found:
        of = "" if function is None else f" of function {function}"
        shell.out.line(f"no job{of} is listed as {state}" + (f" in queue {shell.queue}" if shell.chosen_queue else ""))
        return
    _print_ended(shell, state, found)
    if more:
        _note_more(shell, limit)


def _print_ended(shell: Shell, state: str, found: list[tuple[EndedJob, bool]]) -> None:
    now_ms = shell.now_ms()
    columns: dict[str, Callable[[EndedJob, bool], Any]] = {
        "id": lambda job, _: job.job_id,
        "queue": lambda job, _: job.queue,
        "function": lambda job, _: job.function,
        "ended": lambda job, _: ago(job.ended.timestamp() * 1000, now_ms),
        "ran": lambda job, _: "" if job.started is None else span(job.run_s * 1000),
        "attempt": lambda job, _: job.attempt,
        "error": lambda job, _: "" if job.failure is None else f"{job.failure.type}: {job.failure.message}",
        "result": lambda _, kept: "" if kept else "not kept",
    }
    if len({job.queue for job, _ in found}) == 1:
        del columns["queue"]
    if state not in ("failed", "retried"):
        del columns["error"]
    if state == "retried" or all(kept for _, kept in found):
        del columns["result"]
    shell.out.table(
        tuple(columns),
        ([cell(job, kept) for cell in columns.values()] for job, kept in found),
        right=("ran", "attempt"),
    )


def _ended_document(job: EndedJob, *, kept: bool) -> dict[str, Any]:
    return {
        "id": job.job_id,
        "queue": job.queue,
        "state": job.state,
        "function": job.function,
        "attempt": job.attempt,
        "enqueued": job.enqueued,
        "started": job.started,
        "ended": job.ended,
        "ran_s": job.run_s,
        "worker": job.worker_id,
        "error": None if job.failure is None else job.failure._asdict(),
        "result_kept": None if job.state == "retried" else kept,
    }


def _note_more(shell: Shell, limit: int) -> None:
    shell.out.note(f"there are more; these are the first {limit} (--limit)")


command(jobs_app, "list")(list_jobs)
add_job_show(jobs_app)
add_job_changes(jobs_app)
