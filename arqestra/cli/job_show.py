"""`arqestra jobs show` and `log`: all that is known of one job, and the lines that it logged."""

import asyncio
import traceback
from datetime import datetime
from typing import Annotated, Any

import typer
from arq.jobs import JobStatus

from ..definitions.redact import redacted_value
from ..protocol.progress import LOG_LINES, LogLine, Progress
from .arguments import in_line
from .job_view import JobView, locate, read_job
from .output import ago, compact, iso, progress_text, when
from .shell import Shell, Stop, command
from .stopping import run_until_stopped

__all__ = ("add_job_show",)

LINES_SHOWN = 20
POLL_EVERY_S = 0.5
LAST_LINES_S = 1.5  # workers write log lines once a second, the last ones after the end of the job

JobId = Annotated[str, typer.Argument(help="id of the job")]


def add_job_show(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "show")(show)
    command(app, "log")(log)


async def show(shell: Shell, job_id: JobId) -> None:
    """Show what is known of a job: status, arguments, options, progress, attempts, errors with tracebacks, log, result.

    Secrets in arguments and result are masked.
    """
    view = await read_job(shell.pool, job_id, shell.chosen_queue)
    if view is None:
        where = "" if shell.chosen_queue is None else f" in queue {shell.chosen_queue}"
        raise Stop(f"there is no job {job_id!r}{where}; its result may not be kept any more")
    job = shell.pool.job(job_id, queue=view.queue)
    progress, lines = await asyncio.gather(job.progress(), job.log())
    shell.out.document({**_document(view), "progress": progress, "log": lines})
    _print_view(shell, view, progress)
    _print_log(shell, lines, job_id)


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
            "headers": redacted_value(options.get("h", {})),
        },
        "enqueued": iso(view.enqueued_ms),
        "due": iso(view.due_ms),
        "attempts": view.facts.attempts if result is None else result.job_try,
        "abort_requested": iso(view.facts.abort_requested_ms),
        "lease": None if lease is None else {"worker": lease[0], "ends": iso(lease[1]), "crashes": lease[3]},
        "errors": view.errors,
        "result": None
        if result is None
        else {
            "success": result.success,
            "value": redacted_value(result.result) if result.success else None,
            "error": None if result.success else _error_text(result.result),
            "traceback": view.remote_traceback,
            "started": result.start_time,
            "finished": result.finish_time,
            "kept_ms": view.facts.result_ttl_ms,
        },
        "died": iso(view.facts.died_ms),
    }


def _error_text(error: Any) -> str:
    if isinstance(error, BaseException):
        return "".join(traceback.format_exception_only(error)).strip()
    return str(error)


def _print_view(shell: Shell, view: JobView, progress: Progress | None) -> None:
    now_ms, lease, result = view.snapshot.now_ms, view.lease, view.result
    options = view.payload.options if view.payload is not None else {}
    shell.out.fields(
        (
            ("job", view.id),
            ("status", view.status),
            ("queue", view.queue),
            ("function", view.function),
            ("arguments", in_line(view.function, view.arguments, limit=2_000)),
            ("priority", options.get("p")),
            ("headers", redacted_value(options.get("h"))),
            ("enqueued", when(view.enqueued_ms, now_ms)),
            ("due", when(view.due_ms, now_ms)),
            ("expires", when(options.get("x"), now_ms)),
            ("attempts", view.facts.attempts if result is None else result.job_try),
            ("abort", view.facts.abort_requested_ms and f"asked for {ago(view.facts.abort_requested_ms, now_ms)}"),
            ("worker", lease and f"{lease[0]}, its lease ends {ago(lease[1], now_ms)}"),
            ("crashes", lease and (lease[3] or None)),
            ("started", result and when(result.start_time.timestamp() * 1000, now_ms)),
            ("finished", result and when(result.finish_time.timestamp() * 1000, now_ms)),
            ("died", when(view.facts.died_ms, now_ms)),
            ("progress", progress and f"{_progress(progress)}, {ago(_ms(progress.at), now_ms)}"),
            ("result", compact(redacted_value(result.result), 2_000) if result is not None and result.success else ""),
            ("error", _error_text(result.result) if result is not None and not result.success else ""),
        )
    )
    for error in view.errors:
        shell.out.line(f"\nattempt {error.job_try}, worker {error.worker}, {when(_ms(error.ended), now_ms)}:", "bold")
        shell.out.line(error.traceback.rstrip() or f"{error.type}: {error.message}")
    if view.remote_traceback and not view.errors:
        shell.out.line("\n" + view.remote_traceback.rstrip())


def _progress(progress: Progress) -> str:
    return progress_text(progress.done, progress.total, progress.message)


def _print_log(shell: Shell, lines: list[LogLine], job_id: str) -> None:
    if lines:
        shell.out.line("\nlog:", "bold")
    for line in lines[-LINES_SHOWN:]:
        shell.out.line(_log_text(line))
    if len(lines) > LINES_SHOWN:
        shell.out.note(f"the last {LINES_SHOWN} of {len(lines)} lines; the others: arqestra jobs log {job_id}")


async def log(
    shell: Shell,
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the job has ended")] = False,
    limit: Annotated[int, typer.Option(min=1, max=LOG_LINES, help="of the lines that there are, the last")] = LOG_LINES,
) -> None:
    """Print the log of a job (`ctx.log`), of which the last 500 lines are kept for a day; with --follow as it grows.

    With --json one document a line. The exit code is 1 if there is no such job and no log.
    """
    queue = await locate(shell.pool, job_id, shell.chosen_queue)
    job = shell.pool.job(job_id, queue=queue)
    lines = await job.log()
    status = await job.status()
    if not lines and status == JobStatus.not_found:
        raise Stop(f"there is no job {job_id!r}, and no log of it")
    for line in lines[-limit:]:
        _print_line(shell, line)
    if follow:
        await run_until_stopped(_follow(shell, job, lines))
    elif not lines:
        shell.out.note(f"job {job_id} has logged nothing")


async def _follow(shell: Shell, job: Any, lines: list[LogLine]) -> None:
    """Print new lines until the job has ended and its worker has written the last ones."""
    loop = asyncio.get_running_loop()
    ended_s: float | None = None
    while ended_s is None or loop.time() - ended_s < LAST_LINES_S:
        await asyncio.sleep(POLL_EVERY_S)
        if ended_s is None and await job.status() in (JobStatus.complete, JobStatus.not_found):
            ended_s = loop.time()
        grown = await job.log()
        for line in _added(lines, grown):
            _print_line(shell, line)
        lines = grown


def _added(before: list[LogLine], lines: list[LogLine]) -> list[LogLine]:
    """The lines that are new. The first lines may be gone, and two lines may be the same."""
    for gone in range(len(before)):
        left = before[gone:]
        if lines[: len(left)] == left:
            return lines[len(left) :]
    return lines


def _print_line(shell: Shell, line: LogLine) -> None:
    shell.out.stream(line, _log_text(line))


def _log_text(line: LogLine) -> str:
    return f"{line.at.astimezone():%Y-%m-%d %H:%M:%S.%f}"[:-3] + f"  {line.text}"


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
