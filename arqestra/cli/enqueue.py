"""`arqestra enqueue`: enqueues one job by the name of its function."""

import asyncio
import traceback
from typing import Annotated, Any

import typer
from arq.jobs import ResultNotFound
from redis.exceptions import RedisError

from ..definitions.redact import redacted_value
from ..errors import SettingsError
from ..handles.job import Job
from .arguments import duration_s, json_arguments, moment
from .output import compact, printable
from .shell import FAILED, TIMED_OUT, Shell, Stop, command

__all__ = ("add_enqueue",)


def add_enqueue(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "enqueue")(enqueue)


async def enqueue(
    shell: Shell,
    function: Annotated[str, typer.Argument(help="name of the job function, as workers know it")],
    args: Annotated[str | None, typer.Option(help="positional arguments, a JSON list: '[\"a.jpg\"]'")] = None,
    kwargs: Annotated[str | None, typer.Option(help="keyword arguments, a JSON object: '{\"width\": 640}'")] = None,
    job_id: Annotated[str | None, typer.Option("--id", help="id of the job, to make it unique")] = None,
    delay: Annotated[str | None, typer.Option("--in", help="start it so much later: 60 (seconds), 90s, 1h30m")] = None,
    at: Annotated[str | None, typer.Option(help="start it at that time (ISO 8601; local if it has no offset)")] = None,
    expires: Annotated[str | None, typer.Option(help="do not start it any more after that much time")] = None,
    priority: Annotated[int, typer.Option(help="from 0 to 9, the most urgent")] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="wait for its end and print its result")] = False,
    timeout: Annotated[str | None, typer.Option(help="wait at most so long: 30, 5m")] = None,
) -> None:
    """Enqueue a job and print its id; with --wait its result.

    With --wait the exit code is 1 if the job failed and 3 if it has not ended in time; it goes on then.
    """
    positional, keywords = json_arguments(args, kwargs)
    if delay is not None and at is not None:
        raise SettingsError("expected --in or --at or neither, got both")
    if timeout is not None and not wait:
        raise SettingsError("--timeout: expected --wait with it")
    limit_s = duration_s(timeout, "--timeout")
    job = await shell.pool.enqueue_job(
        function,
        *positional,
        **keywords,
        _job_id=job_id,
        _queue_name=shell.queue,
        _defer_by=duration_s(delay, "--in"),
        _defer_until=moment(at, "--at"),
        _expires=duration_s(expires, "--expires"),
        _priority=priority,
    )
    if job is None:
        raise Stop(f"a job of id {job_id!r} exists already, or its result is still kept: nothing was enqueued", FAILED)
    if not wait:
        shell.out.document({"id": job.job_id, "queue": shell.queue, "function": function})
        shell.out.line(job.job_id)
        return
    shell.out.note(f"waiting for job {job.job_id}")
    await _wait(shell, job, limit_s)


async def _wait(shell: Shell, job: Job[Any], limit_s: float | None) -> None:
    try:
        value = await job.result(limit_s)
    except TimeoutError as error:
        if await job.result_info() is None:
            shell.out.document({"id": job.job_id, "status": "timeout", "error": str(error)})
            raise Stop(str(error), TIMED_OUT) from None
        _print_failure(shell, job, error)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # Ctrl-C
        shell.out.document({"id": job.job_id, "status": "aborted"})
        raise Stop(f"job {job.job_id} was aborted", FAILED) from None
    except (RedisError, ResultNotFound):
        raise
    except Exception as error:
        _print_failure(shell, job, error)
    else:
        value = redacted_value(value)
        shell.out.document({"id": job.job_id, "status": "complete", "result": value})
        shell.out.line(value if isinstance(value, str) else compact(value))


def _print_failure(shell: Shell, job: Job[Any], error: BaseException) -> None:
    remote = "" if error.__cause__ is None else str(error.__cause__).strip().strip('"').strip()
    text = "".join(traceback.format_exception_only(error)).strip()
    shell.out.document({"id": job.job_id, "status": "failed", "error": text, "traceback": remote or None})
    if remote and not shell.out.as_json:
        typer.echo(printable(remote, lines=True), err=True)
    raise Stop(f"job {job.job_id} failed: {printable(text)}", FAILED) from None
