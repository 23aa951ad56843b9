"""`classify` as a table: what was raised, why the worker cancelled, whether jobs are retried, and the outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arqestra import Cancel, Retry, RetryJob, Snooze
from arqestra.worker.run.outcome import CancelReason, State, classify

CANCELLED = asyncio.CancelledError()
OWN = (None, CancelReason.TIMEOUT)
ERRORS = (ValueError("no"), SystemExit(1), ExceptionGroup("", [ValueError("no")]))

TABLE: list[tuple[BaseException, CancelReason | None, bool, State]] = [
    # a failure of the job itself
    *((error, reason, retry, State.FAILED) for error in ERRORS for reason in OWN for retry in (True, False)),
    # what its clean-up raises when the worker interrupts it is none
    *((error, CancelReason.SHUTDOWN, True, State.RELEASED) for error in ERRORS),
    *((error, CancelReason.ABORT, retry, State.ABORTED) for error in ERRORS for retry in (True, False)),
    *((error, CancelReason.LEASE_LOST, retry, State.LOST) for error in ERRORS for retry in (True, False)),
    # ways to run again, in groups as well
    (ExceptionGroup("", [ValueError("no"), Retry(defer=5)]), None, True, State.RETRIED),
    (ExceptionGroup("", [ExceptionGroup("", [RetryJob()])]), None, True, State.RETRIED),
    (ExceptionGroup("", [Retry()]), None, False, State.FAILED),
    (ExceptionGroup("", [Snooze(1)]), CancelReason.SHUTDOWN, True, State.SNOOZED),
    (ExceptionGroup("", [Retry(), Cancel("no")]), None, True, State.ABORTED),
    (Retry(defer=5), CancelReason.SHUTDOWN, True, State.RETRIED),
    (Retry(defer=5), CancelReason.ABORT, True, State.ABORTED),
    (Snooze(5), CancelReason.ABORT, True, State.ABORTED),
    (Retry(defer=5), CancelReason.LEASE_LOST, True, State.LOST),
    # arq's own ways to run again
    (Retry(), None, True, State.RETRIED),
    (Retry(defer=5), None, True, State.RETRIED),
    (RetryJob(), None, True, State.RETRIED),
    (Retry(), None, False, State.FAILED),
    (RetryJob(), None, False, State.FAILED),
    # cancellations
    (CANCELLED, None, True, State.RETRIED),
    (CANCELLED, None, False, State.FAILED),
    (CANCELLED, CancelReason.SHUTDOWN, True, State.RELEASED),
    (CANCELLED, CancelReason.SHUTDOWN, False, State.FAILED),
    (CANCELLED, CancelReason.ABORT, True, State.ABORTED),
    (CANCELLED, CancelReason.ABORT, False, State.ABORTED),
    (CANCELLED, CancelReason.TIMEOUT, True, State.FAILED),
    (CANCELLED, CancelReason.TIMEOUT, False, State.FAILED),
    (CANCELLED, CancelReason.LEASE_LOST, True, State.LOST),
    (CANCELLED, CancelReason.LEASE_LOST, False, State.LOST),
]


@pytest.mark.parametrize(("error", "reason", "retry_jobs", "state"), TABLE)
def test_an_error_and_its_reason_make_an_outcome(
    error: BaseException, reason: CancelReason | None, retry_jobs: bool, state: State
) -> None:
    assert classify(error, reason, retry_jobs=retry_jobs).state is state


@pytest.mark.parametrize(("defer", "delay_ms"), [(None, 0), (0, 0), (0.5, 500), (3, 3000)])
def test_the_delay_of_a_retry_is_in_ms(defer: Any, delay_ms: int) -> None:
    assert classify(Retry(defer=defer), None, retry_jobs=True).delay_ms == delay_ms


def test_a_timeout_is_a_timeout_error_caused_by_the_cancellation() -> None:
    outcome = classify(CANCELLED, CancelReason.TIMEOUT, retry_jobs=True)

    assert isinstance(outcome.value, TimeoutError)
    assert outcome.value.__cause__ is CANCELLED


def test_of_several_retries_the_longest_delay_counts() -> None:
    group = ExceptionGroup("", [Retry(defer=1), Retry(defer=5), Retry(defer=2)])

    assert classify(group, None, retry_jobs=True).delay_ms == 5000


def test_the_error_of_a_clean_up_is_the_cause_of_the_abort() -> None:
    error = ValueError("no")
    outcome = classify(error, CancelReason.ABORT, retry_jobs=True)

    assert isinstance(outcome.value, asyncio.CancelledError)
    assert outcome.value.__cause__ is error


def test_the_error_is_kept() -> None:
    error = ValueError("no")

    assert classify(error, None, retry_jobs=True).value is error
