"""`arqestra jobs retry`, `abort` and `delete`: jobs of some ids, or those that a filter chooses."""

import asyncio
from typing import Annotated, Literal

import typer
from arq.jobs import DeserializationError, JobResult

from ..client.pool import Pool
from ..errors import ArqestraError
from ..protocol.wire import decode_result
from ..store.job_facts import read_dead_result
from .arguments import duration_s
from .bulk import Change, JobOutcome, Target, change_jobs, chosen_filter
from .confirm import DryRun, Yes
from .job_view import locate
from .search import MAX_ENDED, Queued
from .shell import FAILED, TIMED_OUT, Shell, command

__all__ = ("add_job_changes",)

Ids = Annotated[list[str] | None, typer.Argument(help="ids of jobs", show_default=False)]
OfFunction = Annotated[str | None, typer.Option("--function", help="with --state: of that function only")]
Since = Annotated[
    str | None,
    typer.Option("--since", help="with --state: ended (or died, or enqueued) since: 2h ago, or a time", metavar="TIME"),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, max=MAX_ENDED, help="with --state: so many at most")]
AllDead = Annotated[bool, typer.Option("--all-dead", help="the same as --state dead")]
NOT_KEPT = "its result is not kept any more"


def add_job_changes(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "retry")(retry)
    command(app, "abort")(abort)
    command(app, "delete")(delete)


async def retry(
    shell: Shell,
    ids: Ids = None,
    state: Annotated[
        Literal["failed", "expired", "aborted", "dead"] | None, typer.Option(help="instead of ids: all that ended so")
    ] = None,
    function: OfFunction = None,
    since: Since = None,
    limit: Limit = None,
    all_dead: AllDead = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Run jobs once more that failed, expired, were aborted or are dead, under their ids, with a first attempt.

    With --state those that `jobs list --state` lists, as far as their results are kept; of all queues unless --queue is
    given (dead: of one queue). One that was run again meanwhile is left alone. The exit code is 1 if one of them could
    not be.
    """
    wanted = chosen_filter(ids, state=state, function=function, since=since, limit=limit, all_dead=all_dead)
    change = Change("retry", "queued", _retry_one, asks=False)
    await change_jobs(shell, change, ids, wanted, dry_run=dry_run, yes=yes)


async def abort(
    shell: Shell,
    ids: Ids = None,
    state: Annotated[Queued | None, typer.Option(help="instead of ids: all of the queue that are in it")] = None,
    function: OfFunction = None,
    since: Since = None,
    limit: Limit = None,
    timeout: Annotated[str, typer.Option(help="wait so long for their ends; 0 does not wait")] = "5",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Abort jobs: queued, deferred or running ones.

    A request is kept until a worker has carried it out; workers need allow_abort_jobs=True. The exit code is 1 if one
    was not aborted because it had ended, and 3 if one has not ended in time.
    """
    limit_s = 0.0 if timeout == "0" else duration_s(timeout, "--timeout") or 0.0
    wanted = chosen_filter(ids, state=state, function=function, since=since, limit=limit)
    # Each job of the ids has this long. The jobs of a filter have it together, from the first abort on.
    shared = None if wanted is None else _Deadline(limit_s)

    async def abort_one(shell: Shell, target: Target) -> JobOutcome:
        return await _abort_one(shell, target, limit_s, limit_s if shared is None else shared.left_s())

    await change_jobs(shell, Change("abort", "aborted", abort_one), ids, wanted, dry_run=dry_run, yes=yes)


async def delete(
    shell: Shell,
    ids: Ids = None,
    state: Annotated[
        Literal["queued", "deferred", "held", "waiting", "dead", "complete", "failed", "aborted", "expired"] | None,
        typer.Option(help="instead of ids: all that are in it or ended so"),
    ] = None,
    function: OfFunction = None,
    since: Since = None,
    limit: Limit = None,
    all_dead: AllDead = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove every trace of jobs that no worker holds; with --state dead, take jobs out of the dead set.

    With --state those that `jobs list --state` lists, as far as there is something of them. The exit code is 1 if one
    of them is running or is not there.
    """
    wanted = chosen_filter(ids, state=state, function=function, since=since, limit=limit, all_dead=all_dead)
    change_one = _discard_one if wanted is not None and wanted.state == "dead" else _delete_one
    await change_jobs(shell, Change("delete", "deleted", change_one), ids, wanted, dry_run=dry_run, yes=yes)


async def _retry_one(shell: Shell, target: Target) -> JobOutcome:
    try:
        if target.ended is not None and (changed := await _changed(shell.pool, target)):
            return JobOutcome(target.id, changed, FAILED)
        queue = target.queue or await locate(shell.pool, target.id, None)
        await shell.pool.job(target.id, queue=queue).retry()
    except DeserializationError:
        return JobOutcome(target.id, f"not {shell.pool.serializer.name}: see --serializer", FAILED)
    except ArqestraError as error:
        return JobOutcome(target.id, str(error).removeprefix(f"job {target.id}: "), FAILED)
    return JobOutcome(target.id, "queued")


async def _delete_one(shell: Shell, target: Target) -> JobOutcome:
    queue = target.queue or await locate(shell.pool, target.id, None)
    try:
        if target.ended is not None and (changed := await _changed(shell.pool, target)):
            return JobOutcome(target.id, changed, FAILED)
    except DeserializationError:
        pass  # the job has a result, so it has ended
    state = await shell.pool.store.delete(target.id, queue, ended=target.ended is not None)
    if state == "deleted":
        return JobOutcome(target.id, "deleted")
    if state == "missing":
        return JobOutcome(target.id, "there is no such job", FAILED)
    if state == "elsewhere":
        return JobOutcome(target.id, "it is in another queue: see --queue", FAILED)
    return JobOutcome(target.id, "running: abort it first" if state == "running" else "it was run again since", FAILED)


async def _discard_one(shell: Shell, target: Target) -> JobOutcome:
    if await shell.pool.store.discard(target.queue or shell.queue, [target.id]):
        return JobOutcome(target.id, "deleted")
    return JobOutcome(target.id, "it is not dead any more", FAILED)


async def _changed(pool: Pool, target: Target) -> str:
    """Why a job is no longer the run that the filter chose; "" if it is. Each run has its own enqueue time.

    The scripts check once more in Redis that nobody has changed the job since.

    :raises DeserializationError: another serializer wrote the result
    """
    assert target.ended is not None
    kept = await _kept_result(pool, target)
    if kept is None:
        return NOT_KEPT
    same = int(kept.enqueue_time.timestamp() * 1000) == int(target.ended.enqueued.timestamp() * 1000)
    return "" if same and kept.function == target.ended.function else "it was run again since"


async def _kept_result(pool: Pool, target: Target) -> JobResult | None:
    queue = target.queue or pool.default_queue_name
    snapshot = await pool.store.peek(target.id, queue)
    data = snapshot.result or await read_dead_result(pool.store.redis, pool.store.keys, queue, target.id)
    if not data:
        return None
    result, _ = decode_result(pool.serializer, data)
    return result


class _Deadline:
    """A deadline for several jobs together. It starts when the first of them asks for the time left.

    :param limit_s: seconds
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._end_s: float | None = None

    def left_s(self) -> float:
        now_s = asyncio.get_running_loop().time()
        if self._end_s is None:
            self._end_s = now_s + self._limit_s
        return max(0.0, self._end_s - now_s)


async def _abort_one(shell: Shell, target: Target, limit_s: float, left_s: float) -> JobOutcome:
    """Abort one job.

    :param limit_s: how long the user wants to wait
    :param left_s: how much of that is left for this job
    """
    queue = target.queue or await locate(shell.pool, target.id, None)
    late = JobOutcome(target.id, f"asked for, not carried out within {limit_s:g} s", TIMED_OUT)
    if left_s == 0:
        state = await shell.pool.store.abort(target.id, queue)
        if state in ("ended", "missing"):
            return JobOutcome(target.id, "had ended" if state == "ended" else "there is no such job", FAILED)
        if state == "aborted":
            return JobOutcome(target.id, "aborted")
        return late if limit_s else JobOutcome(target.id, f"asked for; it is {state}")
    job = shell.pool.job(target.id, queue=queue)
    try:
        aborted = await job.abort(timeout=left_s)
    except DeserializationError:
        aborted = False  # there is a result: the job has ended
    except Exception as error:  # the job's own error, if it has ended
        if await job.result_info() is not None:
            return JobOutcome(target.id, "had ended", FAILED)
        if isinstance(error, TimeoutError):
            return late
        raise
    return JobOutcome(target.id, "aborted") if aborted else JobOutcome(target.id, "had ended, or is unknown", FAILED)
