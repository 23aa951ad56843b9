"""What became of one attempt: a frozen value, decided by a pure function. `updates.py` turns it into an update."""

import asyncio
import enum
from typing import Any, NamedTuple

from arq.worker import JobExecutionFailed, Retry, RetryJob

from ...definitions.durations import LONGEST_S
from ...definitions.retry import Backoff, Cancel, Snooze, leaves_of
from ...errors import JobCancelled, SettingsError, SoftTimeLimitExceeded
from ...protocol.attempt_errors import text_of

__all__ = (
    "ABORTED",
    "COMPLETE",
    "DEAD",
    "EXPIRED",
    "FAILED",
    "LOST",
    "PARKED",
    "RELEASED",
    "RETRIED",
    "SHUTDOWN",
    "SNOOZED",
    "WISHES",
    "CancelReason",
    "Outcome",
    "State",
    "asked_for",
    "classify",
    "exhausted_by_cancellation",
    "failure_in",
    "retried_by",
    "wish_of",
)

# What a job raises to ask for something: it is no error.
RETRIES = (Retry, RetryJob)
WISHES = (*RETRIES, Snooze, Cancel)


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
    CONTINUED_AS_NEW = "continued as new"  # a workflow that starts anew: the value is its new payload
    UNKNOWN = "unknown"  # this worker has no code for it: it is given back, or fails
    LIMITED = "limited"  # it goes back, with the limits that it is to wait for


# By their own names where each job needs them, or each one that fails: before Python 3.12 `State.FAILED` is slow.
COMPLETE, FAILED, ABORTED, EXPIRED, DEAD, RETRIED, RELEASED, LOST, SNOOZED, PARKED, *_ = State
FAILURES = (FAILED, DEAD, RETRIED)


class CancelReason(enum.Enum):
    """Why the worker cancelled the coroutine of a job."""

    ABORT = "abort"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease lost"


ABORT, TIMEOUT, SHUTDOWN, LEASE_LOST = CancelReason
ENDS_OF_PROCESS = (SystemExit, KeyboardInterrupt)


class Outcome(NamedTuple):
    """:ivar value: the result, or the exception that ended the attempt
    :ivar delay_ms: of RETRIED and SNOOZED: run again that much later; 0 is at the old place in the queue
    :ivar exhausted: it was the last attempt that its retries allowed
    """

    state: State
    value: Any = None
    delay_ms: int = 0
    exhausted: bool = False


def classify(
    error: BaseException, reason: CancelReason | None, *, retry_jobs: bool, timeout_s: float | None = None
) -> Outcome:
    """The outcome of an attempt that raised.

    The rules are arq's, with three differences: a cancellation by a shutdown costs no attempt, a lost lease ends the
    attempt without writing anything, and whatever the job's clean-up raises, an interruption by the worker is not taken
    for a failure of the job. What the job asks for (`Retry`, `Snooze`, ...) is found inside exception groups, too.

    :param error: what the coroutine raised
    :param reason: why the worker cancelled it, or None if it did not
    :param retry_jobs: the worker's setting: whether `Retry`, `RetryJob` and cancellations run the job again
    :param timeout_s: the limit of the attempt, for the text of its error
    """
    if reason is LEASE_LOST:
        return Outcome(LOST, error)
    wish = wish_of(error)
    if wish is None and reason is None:  # nearly always
        return _failure(error, reason, retry_jobs, timeout_s)
    if isinstance(wish, Cancel) or (isinstance(wish, Snooze) and reason is not ABORT):
        return asked_for(wish)
    if reason is ABORT:
        return Outcome(ABORTED, _as_cancelled(error))
    if retry_jobs and isinstance(wish, Retry):
        return _put_off(wish)
    if retry_jobs and isinstance(wish, RetryJob):
        return Outcome(RETRIED, wish)
    if retry_jobs and reason is SHUTDOWN:
        return Outcome(RELEASED, error)
    return _failure(error, reason, retry_jobs, timeout_s)


def _failure(error: BaseException, reason: CancelReason | None, retry_jobs: bool, timeout_s: float | None) -> Outcome:
    if isinstance(error, SoftTimeLimitExceeded):  # a CancelledError as well
        late = TimeoutError(str(error))
        late.__cause__ = error
        return Outcome(FAILED, late)
    if reason is TIMEOUT:
        limit = "its time limit" if timeout_s is None else f"its time limit of {timeout_s:g} s"
        if isinstance(error, asyncio.CancelledError):
            late = TimeoutError(f"the job ran over {limit}")
            late.__cause__ = error  # its traceback shows where the coroutine was
            return Outcome(FAILED, late)
        error.add_note(f"raised when the job was cancelled because it ran over {limit}")
    elif isinstance(error, asyncio.CancelledError) and retry_jobs:
        return Outcome(RETRIED, error)
    if isinstance(error, ENDS_OF_PROCESS):
        # The job ends, not the worker; and whoever asks for the result must not be ended by it either.
        failure = JobExecutionFailed(f"the job tried to end its worker: {error!r}")
        failure.__cause__ = error
        return Outcome(FAILED, failure)
    return Outcome(FAILED, error)


def _put_off(wish: Retry) -> Outcome:
    """arq's `Retry` takes any delay: what is due in more than a century would never be."""
    delay_ms = wish.defer_score or 0
    if delay_ms <= LONGEST_S * 1000:
        return Outcome(RETRIED, wish, max(0, delay_ms))
    beyond = SettingsError(f"Retry: defer: expected a century at most, got {delay_ms} ms")
    beyond.__cause__ = wish
    return Outcome(FAILED, beyond)


def wish_of(error: BaseException) -> BaseException | None:
    """What the job asked for by raising it, also inside of exception groups; None if it asked for nothing.

    Of several wishes `Cancel` goes before the others, and of those the one with the longest delay.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error if isinstance(error, WISHES) else None
    wishes = [leaf for leaf in leaves_of(error) if isinstance(leaf, WISHES)]
    return max(wishes, key=_weight, default=None)


def failure_in(outcome: Outcome) -> BaseException | None:
    """The error that an attempt failed with; None if it did not fail, even if it runs again."""
    error = outcome.value
    if outcome.state not in FAILURES or not isinstance(error, BaseException):
        return None
    if outcome.state is RETRIED and isinstance(error, RETRIES):
        return error.__cause__ or error.__context__
    return error


def _weight(wish: BaseException) -> tuple[bool, float]:
    if isinstance(wish, Snooze):
        return False, wish.defer_s * 1000
    return isinstance(wish, Cancel), getattr(wish, "defer_score", None) or 0


def _as_cancelled(error: BaseException) -> asyncio.CancelledError:
    """What `result()` of an aborted job raises; the error of its clean-up is the cause."""
    if isinstance(error, asyncio.CancelledError) and not isinstance(error, SoftTimeLimitExceeded):
        return error
    cancelled = asyncio.CancelledError()
    cancelled.__cause__ = error
    return cancelled


def asked_for(wish: BaseException) -> Outcome:
    """What a job asks for by returning or raising `Snooze` or `Cancel`."""
    if isinstance(wish, Snooze):
        return Outcome(SNOOZED, wish, max(1, round(wish.defer_s * 1000)))  # 0 would be its old place in the queue
    return Outcome(ABORTED, JobCancelled(wish.reason if isinstance(wish, Cancel) else ""))


def exhausted_by_cancellation(outcome: Outcome, job_try: int, max_tries: int) -> Outcome:
    """The outcome of a job that raised `CancelledError` although nobody had cancelled it. At its last attempt it fails
    and says why, where the next attempt would only say that there are none left.

    :param job_try: number of the attempt
    :param max_tries: attempts allowed
    """
    error = outcome.value
    if outcome.state is not RETRIED or not isinstance(error, asyncio.CancelledError) or job_try < max_tries:
        return outcome
    raised = f"{type(error).__name__}: {text_of(error)}".rstrip(": ")
    failure = JobExecutionFailed(f"max {max_tries} retries exceeded: nobody cancelled the job, and it raised {raised}")
    failure.__cause__ = error
    return Outcome(FAILED, failure, exhausted=True)


def retried_by(policy: Backoff | None, outcome: Outcome, job_try: int, max_tries: int) -> Outcome:
    """The outcome under a retry policy: a failure that it is about runs again, unless that was the last attempt.

    :param job_try: number of the attempt that failed
    :param max_tries: attempts allowed
    """
    if policy is None or outcome.state is not FAILED or not policy.retries(outcome.value):
        return outcome
    if job_try >= max_tries:
        return outcome._replace(exhausted=True)
    return Outcome(RETRIED, outcome.value, round(policy.delay_s(job_try) * 1000))
