"""`arqestra jobs retry`, `abort` and `delete`: one by one, or the dead set by filter."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

import typer
from arq.jobs import DeserializationError

from ..errors import ArqestraError, SettingsError
from ..queue import DeadJob
from .arguments import duration_s, since_ms
from .confirm import DryRun, Yes, may
from .job_view import locate
from .shell import FAILED, TIMED_OUT, Shell, Stop, command

__all__ = ("add_job_changes",)

Ids = Annotated[list[str] | None, typer.Argument(help="ids of jobs", show_default=False)]
AllDead = Annotated[bool, typer.Option("--all-dead", help="all jobs in the dead set of the queue")]
OfFunction = Annotated[str | None, typer.Option("--function", help="with --all-dead: of that function only")]
Since = Annotated[
    str | None, typer.Option("--since", help="with --all-dead: that died since: 2h, or a time", metavar="TIME")
]
DEAD_A_READ = 200


class Done(NamedTuple):
    """What became of one job.

    :ivar code: 0 if it was done
    """

    id: str
    outcome: str
    code: int = 0


def add_job_changes(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "retry")(retry)
    command(app, "abort")(abort)
    command(app, "delete")(delete)


async def retry(
    shell: Shell,
    ids: Ids = None,
    all_dead: AllDead = False,
    function: OfFunction = None,
    since: Since = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Run jobs once more that failed, expired, were aborted or are dead, under their ids.

    The exit code is 1 if one of them could not be.
    """
    _check(ids, all_dead, function, since)
    if all_dead:
        await _change_dead(shell, "retry", "queued", (function, since), dry_run=dry_run, yes=yes)
        return
    if dry_run:
        may(shell, f"retry {_jobs(len(ids or []))}", yes=yes, dry_run=True, document={"ids": ids})
        return
    await _each(shell, ids or [], _retry_one)


async def abort(
    shell: Shell,
    ids: Annotated[list[str], typer.Argument(help="ids of jobs")],
    timeout: Annotated[str, typer.Option(help="wait so long for their ends; 0 does not wait")] = "5",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Abort jobs: queued, deferred or running ones.

    A request is kept until a worker has carried it out; workers need allow_abort_jobs=True. The exit code is 1 if one
    was not aborted because it had ended, and 3 if one has not ended in time.
    """
    limit_s = 0.0 if timeout == "0" else duration_s(timeout, "--timeout")
    if may(shell, f"abort {_jobs(len(ids))}", yes=yes, dry_run=dry_run, document={"ids": ids}):
        await _each(shell, ids, lambda shell, job_id: _abort_one(shell, job_id, limit_s or 0.0))


async def delete(
    shell: Shell,
    ids: Ids = None,
    all_dead: AllDead = False,
    function: OfFunction = None,
    since: Since = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove every trace of jobs that no worker holds; with --all-dead, take jobs out of the dead set.

    The exit code is 1 if one of them is running or is not there.
    """
    _check(ids, all_dead, function, since)
    if all_dead:
        await _change_dead(shell, "delete", "deleted", (function, since), dry_run=dry_run, yes=yes)
    elif may(shell, f"delete {_jobs(len(ids or []))}", yes=yes, dry_run=dry_run, document={"ids": ids}):
        await _each(shell, ids or [], _delete_one)


def _check(ids: list[str] | None, all_dead: bool, function: str | None, since: str | None) -> None:
    if bool(ids) == all_dead:
        raise SettingsError(f"expected ids of jobs or --all-dead, got {'both' if ids else 'neither'}")
    if not all_dead and (function is not None or since is not None):
        raise SettingsError("--function, --since: expected --all-dead with them")


async def _each(shell: Shell, ids: list[str], change: Callable[[Shell, str], Awaitable[Done]]) -> None:
    """Change one after the other, say what became of each, and end with the worst exit code."""
    done = [await change(shell, job_id) for job_id in dict.fromkeys(ids)]
    shell.out.document({"jobs": [{"id": each.id, "outcome": each.outcome} for each in done]})
    for each in done:
        shell.out.line(f"{each.id}  {each.outcome}", style="" if each.code == 0 else "red")
    worst = max(each.code for each in done)
    if worst:
        raise typer.Exit(worst)


async def _retry_one(shell: Shell, job_id: str) -> Done:
    queue = await locate(shell.pool, job_id, shell.chosen_queue)
    try:
        await shell.pool.job(job_id, queue=queue).retry()
    except DeserializationError:
        return Done(job_id, f"not {shell.pool.serializer.name}: see --serializer", FAILED)
    except ArqestraError as error:
        return Done(job_id, str(error).removeprefix(f"job {job_id}: "), FAILED)
    return Done(job_id, "queued")


async def _abort_one(shell: Shell, job_id: str, limit_s: float) -> Done:
    queue = await locate(shell.pool, job_id, shell.chosen_queue)
    if limit_s == 0:
        state = await shell.pool.store.abort(job_id, queue)
        if state in ("ended", "missing"):
            return Done(job_id, "had ended" if state == "ended" else "there is no such job", FAILED)
        return Done(job_id, f"asked for; it is {state}")
    try:
        aborted = await shell.pool.job(job_id, queue=queue).abort(timeout=limit_s)
    except TimeoutError:
        return Done(job_id, f"asked for, not carried out within {limit_s:g} s", TIMED_OUT)
    return Done(job_id, "aborted") if aborted else Done(job_id, "had ended, or is unknown", FAILED)


async def _delete_one(shell: Shell, job_id: str) -> Done:
    queue = await locate(shell.pool, job_id, shell.chosen_queue)
    state = await shell.pool.store.delete(job_id, queue)
    if state == "deleted":
        return Done(job_id, "deleted")
    return Done(job_id, "running: abort it first" if state == "running" else "there is no such job", FAILED)


async def _change_dead(
    shell: Shell, verb: str, past: str, wanted: tuple[str | None, str | None], *, dry_run: bool, yes: bool
) -> None:
    """Retry or discard the jobs of the dead set that fit a filter."""
    function, since = wanted
    queue = shell.pool.queue(shell.queue)
    ids = await _dead_ids(shell, function, since_ms(since))
    of = "" if function is None else f" of function {function}"
    what = f"{verb} {len(ids):,} dead {'job' if len(ids) == 1 else 'jobs'}{of} of queue {shell.queue}"
    facts: dict[str, Any] = {"queue": shell.queue, "count": len(ids)}
    if not ids and not dry_run:
        shell.out.document({**facts, "outcome": past, "count": 0})
        shell.out.line(f"no such job in the dead set of queue {shell.queue}")
        return
    if not may(shell, what, yes=yes, dry_run=dry_run, document=facts):
        return
    count = await (queue.retry_dead(ids) if verb == "retry" else queue.discard_dead(ids))
    shell.out.document({**facts, "outcome": past, "count": count})
    shell.out.line(f"{count:,} {past}")
    if count < len(ids):
        raise Stop(f"{len(ids) - count:,} were not: they were changed meanwhile, or do not decode", FAILED)


async def _dead_ids(shell: Shell, function: str | None, oldest_ms: int | None) -> list[str]:
    queue = shell.pool.queue(shell.queue)
    found: list[str] = []
    offset = 0
    while jobs := await queue.dead(offset=offset, limit=DEAD_A_READ):
        offset += len(jobs)
        found += [job.job_id for job in jobs if _fits(job, function, oldest_ms)]
        await asyncio.sleep(0)  # decoding 10,000 results takes a while: let Ctrl-C in
    return found


def _fits(job: DeadJob, function: str | None, oldest_ms: int | None) -> bool:
    if function is not None and job.function != function:
        return False
    return oldest_ms is None or job.died.timestamp() * 1000 >= oldest_ms


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"
