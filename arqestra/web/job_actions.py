"""Actions on jobs: retry, abort, delete, run now. Each changes up to 10,000 jobs; one that fails does not stop it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError, ResponseError

from ..errors import ArqestraError
from ..store.find import queued_in
from .app_state import AppState
from .retrying import retry_job
from .targets import Done, JobsTarget, chosen_jobs, count_jobs
from .views.job_query import JobRef

__all__ = ("abort_jobs", "delete_jobs", "retry_jobs", "run_jobs_now")

logger = logging.getLogger("arq.dashboard")

MAX_INSPECTED = 200_000  # entries of a queue, for the jobs of a filter
AT_ONCE = 50
PROBLEMS_SHOWN = 20
MAX_OTHER_QUEUES = 200

# Changes one of the jobs of a target; raises `ArqestraError` if the job's state does not allow that.
ChangeJob = Callable[[AppState, JobRef, JobsTarget], Awaitable[None]]


def _for_jobs(past: str, change: ChangeJob) -> Callable[[AppState, JobsTarget], Awaitable[Done]]:
    """An action on many jobs, made from a function that changes one.

    :param past: "queued again"
    :param change: changes one job
    """

    async def run(app_state: AppState, target: JobsTarget) -> Done:
        jobs, more = await chosen_jobs(app_state, target, MAX_INSPECTED)
        problems: list[str] = []
        done = 0
        stopped = ""
        for first in range(0, len(jobs), AT_ONCE):
            batch = jobs[first : first + AT_ONCE]
            errors = await asyncio.gather(*(_error_of(app_state, job, target, change) for job in batch))
            done += errors.count(None)
            found = [
                f"{job.id}: {_describe(error)}" for job, error in zip(batch, errors, strict=True) if error is not None
            ]
            problems += found[: PROBLEMS_SHOWN - len(problems)]
            if any(_is_redis_away(error) for error in errors):
                stopped = "; stopped, because Redis does not answer"
                break
        failed = len(jobs) - done
        message = f"{count_jobs(done)} {past}" + (f", {failed:,} not" if failed else "")
        return Done(done, failed, message + stopped + ("; there may be more: do it again" if more else ""), problems)

    return run


async def _error_of(app_state: AppState, job: JobRef, target: JobsTarget, change: ChangeJob) -> Exception | None:
    """Change one job; returns why that failed, or None. One bad job must not stop the action on the others."""
    try:
        await change(app_state, job, target)
    except Exception as error:
        if not isinstance(error, ArqestraError):
            logger.warning("dashboard: job %s of queue %s", job.id, job.queue, exc_info=True)
        return error
    return None


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, ArqestraError) else f"{type(error).__name__}: {error}"


def _is_redis_away(error: Exception | None) -> bool:
    """Whether every other job would fail with this error too."""
    return isinstance(error, RedisError | OSError) and not isinstance(error, ResponseError)


class CannotBeDone(ArqestraError):
    """An action does not fit the state of the job."""


async def _retry(app_state: AppState, job: JobRef, target: JobsTarget) -> None:
    await retry_job(app_state.store, job.id, job.queue)


async def _abort(app_state: AppState, job: JobRef, target: JobsTarget) -> None:
    state = await app_state.store.abort(job.id, job.queue)
    if state in ("ended", "missing"):
        raise CannotBeDone("it had ended" if state == "ended" else "there is no such job in this queue")


async def _delete(app_state: AppState, job: JobRef, target: JobsTarget) -> None:
    # Name the other queue if the job is there: that helps the person who asks.
    others = [queue for queue in (await app_state.queues())[:MAX_OTHER_QUEUES] if queue != job.queue]
    home = await queued_in(app_state.store, job.id, [job.queue, *others])
    if home not in (None, job.queue):
        raise CannotBeDone(f"it is in another queue, {home}")
    state = await app_state.store.delete(job.id, job.queue, ended=target.only_ended)
    if state == "running":
        raise CannotBeDone("it is running: abort it first")
    if state == "elsewhere":
        raise CannotBeDone("it is in another queue")
    dead = await app_state.store.discard(job.queue, [job.id])
    if state == "again" and not dead:
        raise CannotBeDone("it is in its queue again")
    if state == "missing" and not dead:
        raise CannotBeDone("there is no such job in this queue")


async def _run_now(app_state: AppState, job: JobRef, target: JobsTarget) -> None:
    state = await app_state.store.run_now(job.id, job.queue)
    if state != "queued":
        reasons = {
            "running": "it is running",
            "held": "it waits for a limit or for news",
            "missing": "it is not queued",
        }
        raise CannotBeDone(reasons[state])


retry_jobs = _for_jobs("queued again", _retry)
abort_jobs = _for_jobs("being aborted", _abort)
delete_jobs = _for_jobs("deleted", _delete)
run_jobs_now = _for_jobs("made due", _run_now)
