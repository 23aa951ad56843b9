"""A job that this worker has no code for: its function, or a class among its pickled arguments, is not known here.

In a rolling deploy an old worker meets jobs of the new code. It gives them back, uncounted, for a worker that knows
them: first for a second, then longer each time, and for three quarters of an hour in all, which is time to finish the
deploy or to roll it back. Then the job fails, as nobody seems to know it. A burst worker is nobody's predecessor: there
such a job fails at once, as arq has it, and so it does with `unknown_functions="fail"`.
"""

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from arq.jobs import SerializationError
from arq.utils import to_seconds
from arq.worker import JobExecutionFailed
from redis.exceptions import RedisError

from ..outcome import Outcome, State
from ..signature import CHUNK_FUNCTION
from ..store.unknown import note_unknown
from .attempt import UNKNOWN, Attempt

if TYPE_CHECKING:
    from .worker import Worker

__all__ = ("UNKNOWN_LIMIT_S", "give_back", "is_code_missing", "unknown_function", "unknown_limit_s")

logger = logging.getLogger("arq.worker")

UNKNOWN_LIMIT_S = 2700.0
FIRST_DELAY_S = 1.0
MOST_DELAY_S = 60.0
KEPT_LONGER_MS = 600_000


def unknown_limit_s(setting: str | float | timedelta | None, *, burst: bool) -> float:
    """Seconds for which a worker gives back what it does not know; 0: it fails at once.

    :param setting: `unknown_functions`
    """
    if setting is None:
        return 0.0 if burst else UNKNOWN_LIMIT_S
    if isinstance(setting, str):
        return UNKNOWN_LIMIT_S if setting == "release" else 0.0
    return to_seconds(setting)


def unknown_function(worker: "Worker", attempt: Attempt) -> Outcome | None:
    """An outcome, if the worker does not know what the job calls: its function, or that of a chunk of calls."""
    payload = attempt.payload
    name = payload.function
    if name == CHUNK_FUNCTION and payload.args and isinstance(payload.args[0], str):
        name = payload.args[0]
    if name in worker.terms:
        return None
    error = JobExecutionFailed(f"function {name!r} not found")
    if worker.unknown_limit_s:
        return Outcome(State.UNKNOWN, error)
    logger.warning("job %s, function %r not found", attempt.leased.id, name)
    return Outcome(State.FAILED, error)


def is_code_missing(error: SerializationError) -> bool:
    """Whether pickled arguments are of a class that this process does not have."""
    return isinstance(error.__cause__, ImportError | AttributeError)


async def give_back(worker: "Worker", attempt: Attempt, unknown: Outcome) -> Outcome:
    """Give the job back for a while; after too many times it fails.

    :param unknown: with the error of which it fails
    """
    leased, limit_s = attempt.leased, worker.unknown_limit_s
    enqueued_ms = 0 if attempt.payload is UNKNOWN else attempt.payload.enqueued_ms
    keep_ms = round(limit_s * 1000) + KEPT_LONGER_MS
    try:
        count, age_ms = await note_unknown(worker.store, leased.id, enqueued_ms, leased.token, keep_ms)
    except (RedisError, OSError) as error:
        logger.warning("job %s, %s; given back, and Redis does not answer: %s", leased.id, unknown.value, error)
        return Outcome(State.RELEASED, unknown.value, round(FIRST_DELAY_S * 1000))
    left_s = limit_s - age_ms / 1000
    if left_s <= 0:
        logger.error("job %s, %s; it was given back for %.0f s, now it fails", leased.id, unknown.value, age_ms / 1000)
        return Outcome(State.FAILED, _nobody_knows(unknown.value, age_ms / 1000, count))
    delay_s = min(FIRST_DELAY_S * 2 ** min(count - 1, 10), MOST_DELAY_S, max(left_s, 0.001))
    logger.warning(
        "job %s, %s; given back to other workers for %.1f s, it fails in %.0f s if none knows it",
        leased.id,
        unknown.value,
        delay_s,
        left_s,
    )
    if worker.burst:
        worker.unknown_ids.add(leased.id)
    return Outcome(State.RELEASED, unknown.value, round(delay_s * 1000))


def _nobody_knows(error: BaseException, age_s: float, count: int) -> BaseException:
    if not isinstance(error, JobExecutionFailed):
        return error
    times = f"it was given back {count - 1} times in {age_s:.0f} s, and no worker of the queue knew it"
    return JobExecutionFailed(f"{error}: {times}")
