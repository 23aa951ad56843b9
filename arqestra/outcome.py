"""What became of one attempt: a frozen value, decided by a pure function, acted on in `worker/execute.py` alone."""

import asyncio
import enum
from typing import Any, NamedTuple

from arq.worker import JobExecutionFailed, Retry, RetryJob

from .errors import JobCancelled, SoftTimeLimitExceeded
from .retry import Backoff, Cancel, Snooze

__all__ = ("CancelReason", "Outcome", "State", "asked_for", "classify", "retried_by")


class State(enum.Enum):
    """How an attempt ended."""

    __hash__ = object.__hash__  # by identity: `Enum` hashes the name in Python, for each attempt

    COMPLETE = "complete"
    FAILED = "failed"
    ABORTED = "aborted"
    EXPIRED = "expired"
    DEAD = "dead"
    RETRIED = "retried"
    RELEASED = "released"
    LOST = "lost"
    SNOOZED = "snoozed"
    PARKED = "parked"  # a workflow that waits: the value is how many events it has seen
    RENEWED = "renewed"  # a workflow that starts anew: the value is its new payload
    UNKNOWN = "unknown"  # this worker has no code for it: it is given back, or fails
    LIMITED = "limited"  # it goes back, with the limits that it is to wait for


class CancelReason(enum.Enum):
    """Why the worker cancelled the coroutine of a job."""

    ABORT = "abort"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease lost"


class Outcome(NamedTuple):
    """:ivar value: the result, or the exception that ended the attempt
    :ivar delay_ms: of RETRIED and SNOOZED: run again that much later; 0 is at the old place in the queue
    :ivar exhausted: it was the last attempt that its retries allowed
    """

    state: State
    value: Any = None
    delay_ms: int = 0
    exhausted: bool = False


def classify(error: BaseException, reason: CancelReason | None, *, retry_jobs: bool) -> Outcome:
    """The outcome of an attempt that raised.

    The rules are arq's, with two differences: a cancellation by a shutdown costs no attempt, and a lost lease ends the
    attempt without writing anything.

    :param error: what the coroutine raised
    :param reason: why the worker cancelled it, or None if it did not
    :param retry_jobs: the worker's setting: whether `Retry`, `RetryJob` and cancellations run the job again
    """
    if isinstance(error, SoftTimeLimitExceeded):  # a CancelledError as well
        late = TimeoutError(str(error))
        late.__cause__ = error
        return Outcome(State.FAILED, late)
    if isinstance(error, asyncio.CancelledError):
        if reason is CancelReason.LEASE_LOST:
            return Outcome(State.LOST, error)
        if reason is CancelReason.ABORT:
            return Outcome(State.ABORTED, error)
        if reason is CancelReason.TIMEOUT:
            timed_out = TimeoutError()
            timed_out.__cause__ = error  # its traceback shows where the coroutine was
            return Outcome(State.FAILED, timed_out)
        if retry_jobs:
            return Outcome(State.RELEASED if reason is CancelReason.SHUTDOWN else State.RETRIED, error)
    if retry_jobs and isinstance(error, Retry):
        return Outcome(State.RETRIED, error, max(0, error.defer_score or 0))
    if retry_jobs and isinstance(error, RetryJob):
        return Outcome(State.RETRIED, error)
    if isinstance(error, Snooze | Cancel):
        return asked_for(error)
    if isinstance(error, SystemExit | KeyboardInterrupt):
        # The job ends, not the worker; and whoever asks for the result must not be ended by it either.
        failure = JobExecutionFailed(f"the job tried to end its worker: {error!r}")
        failure.__cause__ = error
        return Outcome(State.FAILED, failure)
    return Outcome(State.FAILED, error)


def asked_for(wish: Snooze | Cancel) -> Outcome:
    """What a job asks for by returning or raising `Snooze` or `Cancel`."""
    if isinstance(wish, Snooze):
        return Outcome(State.SNOOZED, wish, round(wish.defer_s * 1000))
    return Outcome(State.ABORTED, JobCancelled(wish.reason))


def retried_by(policy: Backoff | None, outcome: Outcome, job_try: int, max_tries: int) -> Outcome:
    """The outcome under a retry policy: a failure that it is about runs again, unless that was the last attempt.

    :param job_try: number of the attempt that failed
    :param max_tries: attempts allowed
    """
    if policy is None or outcome.state is not State.FAILED or not policy.retries(outcome.value):
        return outcome
    if job_try >= max_tries:
        return outcome._replace(exhausted=True)
    return Outcome(State.RETRIED, outcome.value, round(policy.delay_s(job_try) * 1000))
