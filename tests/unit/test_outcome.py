"""`classify` as a table: what was raised, why the worker cancelled, whether jobs are retried, and the outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arqestra import Retry, RetryJob
from arqestra.outcome import CancelReason, State, classify

CANCELLED = asyncio.CancelledError()
REASONS = (None, *CancelReason)

TABLE: list[tuple[BaseException, CancelReason | None, bool, State]] = [
    # a failure of the job itself, whatever the worker wanted at the time
    *((ValueError("no"), reason, retry, State.FAILED) for reason in REASONS for retry in (True, False)),
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


def test_the_error_is_kept() -> None:
    error = ValueError("no")

    assert classify(error, None, retry_jobs=True).value is error
