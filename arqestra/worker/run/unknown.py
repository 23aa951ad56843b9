"""A job that this worker has no code for: its function, or a class among its pickled arguments, is not known here.

In a rolling deploy an old worker meets jobs of the new code. It gives them back, uncounted, for a worker that knows
them: first for a second, then longer each time, and for three quarters of an hour in all, which is time to finish the
deploy or to roll it back. Then the job fails, as nobody seems to know it. A burst worker is nobody's predecessor: there
such a job fails at once, as arq has it, and so it does with `unknown_functions="fail"`. But for a workflow that has
begun, and its steps: their end would be the workflow's, so a burst gives them back too. Such a workflow is blocked by
code (`blocked.py`), and is told as that.
"""

import logging
from datetime import timedelta

from arq.jobs import SerializationError
from arq.utils import to_seconds
from arq.worker import JobExecutionFailed
from redis.exceptions import RedisError

from ...definitions.signature import CHUNK_FUNCTION
from ...protocol.clock import new_job_id
from ...store.flows import Advance, FlowStore
from ...store.read_flows import read_flow
from ...store.workflows import Blocked, note_blocked
from .attempt import UNKNOWN, Attempt
from .context import RunContext
from .outcome import Outcome, State

__all__ = (
    "UNKNOWN_LIMIT_S",
    "is_code_missing",
    "may_put_back",
    "put_back_unknown",
    "unknown_function",
    "unknown_limit_s",
)

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py

UNKNOWN_LIMIT_S = 2700.0
FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0
KEPT_LONGER_MS = 600_000
ABORT_DELAY_MS = 1_000  # for the next worker to take it


def unknown_limit_s(setting: str | float | timedelta | None, *, burst: bool) -> float:
    """Seconds for which a worker gives back what it does not know; 0: it fails at once.

    :param setting: `unknown_functions`
    """
    if setting is None:
        return 0.0 if burst else UNKNOWN_LIMIT_S
    if isinstance(setting, str):
        return UNKNOWN_LIMIT_S if setting == "release" else 0.0
    return to_seconds(setting)


def may_put_back(run: RunContext) -> bool:
    """Whether the worker gives back at least some of the jobs that it does not know."""
    return run.unknown_limit_s > 0 or run.options.unknown_functions is None


def unknown_function(run: RunContext, attempt: Attempt) -> Outcome | None:
    """An outcome, if the worker does not know what the job calls: its function, or that of a chunk of calls."""
    payload = attempt.payload
    name = payload.function
    if name == CHUNK_FUNCTION and payload.args and isinstance(payload.args[0], str):
        name = payload.args[0]
    if name in run.functions:
        return None
    error = JobExecutionFailed(f"function {name!r} not found")
    if may_put_back(run):
        return Outcome(State.UNKNOWN, error)
    logger.warning("job %s, function %r not found", attempt.leased.id, name)
    return Outcome(State.FAILED, error)


def is_code_missing(error: SerializationError) -> bool:
    """Whether pickled arguments are of a class that this process does not have."""
    return isinstance(error.__cause__, ImportError | AttributeError)


async def put_back_unknown(run: RunContext, attempt: Attempt, unknown: Outcome) -> Outcome:
    """Put the job back for a while; after too many times it fails.

    :param unknown: with the error of which it fails
    """
    leased, limit_s = attempt.leased, run.unknown_limit_s
    enqueued_ms = 0 if attempt.payload is UNKNOWN else attempt.payload.enqueued_ms
    try:
        under_way = await _is_under_way(run, attempt, unknown)
        if leased.flag == "abort":
            return await _aborted(run, attempt, unknown)
        if not limit_s and not under_way:
            logger.warning("job %s, %s", leased.id, unknown.value)
            return unknown._replace(state=State.FAILED)
        limit_s = limit_s or UNKNOWN_LIMIT_S
        keep_ms = round(limit_s * 1000) + KEPT_LONGER_MS
        count, age_ms = await run.store.note_unknown(
            leased.id, enqueued_ms=enqueued_ms, token=leased.token, keep_ms=keep_ms
        )
    except (RedisError, OSError) as error:
        logger.warning("job %s, %s; given back, and Redis does not answer: %s", leased.id, unknown.value, error)
        return Outcome(State.RELEASED, unknown.value, round(FIRST_DELAY_S * 1000))
    left_s = limit_s - age_ms / 1000
    if left_s <= 0:
        faults.error("job %s, %s; it was given back for %.0f s, now it fails", leased.id, unknown.value, age_ms / 1000)
        return Outcome(State.FAILED, _nobody_knows(unknown.value, age_ms / 1000, count))
    delay_s = min(FIRST_DELAY_S * 2 ** min(count - 1, 10), MAX_DELAY_S, max(left_s, 0.001))
    logger.warning(
        "job %s, %s; given back to other workers for %.1f s, it fails in %.0f s if none knows it",
        leased.id,
        unknown.value,
        delay_s,
        left_s,
    )
    if run.options.burst:
        run.unknown_ids.add(leased.id)
    return Outcome(State.RELEASED, unknown.value, round(delay_s * 1000))


async def _is_under_way(run: RunContext, attempt: Attempt, unknown: Outcome) -> bool:
    """Whether it is a workflow that has begun, which is told to be blocked, or a step of one."""
    leased = attempt.leased
    noted = await note_blocked(
        run.store,
        *(leased.id, leased.queue, leased.token, str(unknown.value)),
        pause_ms=round(FIRST_DELAY_S * 1000),
        most_ms=round(MAX_DELAY_S * 1000),
    )
    if isinstance(noted, Blocked):
        return True
    record = None if attempt.node is None else await read_flow(run.store, attempt.node[0])
    return record is not None and (record.kind, record.state) == ("w", "running")


async def _aborted(run: RunContext, attempt: Attempt, unknown: Outcome) -> Outcome:
    """The abort of a job that this worker does not know. A workflow that has begun is to hear of it elsewhere."""
    leased, flows = attempt.leased, FlowStore(run.store)
    record = await read_flow(run.store, leased.id)
    if record is None or (record.kind, record.state) != ("w", "running") or "started" not in record.fields:
        return unknown._replace(state=State.ABORTED)
    remembered = await flows.advance(
        *(leased.id, leased.queue, leased.token, Advance(events=[(0, "x", new_job_id().encode())])),
        keep_ms=int(record.fields["keep"]),
        name=record.name,
        started_ms=0,
    )
    logger.warning("workflow %s is to be aborted, and %r is not known here: given back", leased.id, record.name)
    return Outcome(State.LOST) if remembered is None else Outcome(State.RELEASED, unknown.value, ABORT_DELAY_MS)


def _nobody_knows(error: BaseException, age_s: float, count: int) -> BaseException:
    if not isinstance(error, JobExecutionFailed):
        return error
    times = f"it was given back {count - 1} times in {age_s:.0f} s, and no worker of the queue knew it"
    return JobExecutionFailed(f"{error}: {times}")
