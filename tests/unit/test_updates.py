"""What Redis is told of an outcome: `updates.update_for`, without I/O."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arqestra.store.records import LeasedJob
from arqestra.store.updates import Abort, Bury, Complete, Expire, Interrupt, PutBack, Release, Retry, Update
from arqestra.worker.run.attempt import Attempt
from arqestra.worker.run.context import RunContext
from arqestra.worker.run.effective_options import options_of_unknown
from arqestra.worker.run.execute import check, decode
from arqestra.worker.run.outcome import Outcome, State
from arqestra.worker.run.updates import update_for
from tests.support.run_context import run_context

PAYLOAD = b'{"t":null,"f":"work","a":[],"k":{},"et":0,"o":{}}'


async def work(ctx: dict[Any, Any]) -> None:
    """A job."""


def checked_attempt(run: RunContext, flag: str = "") -> Attempt:
    """Decoded and checked."""
    attempt = Attempt(LeasedJob("q", "w1.1", 0, "a", PAYLOAD, 1, 0, 0, flag), options_of_unknown(run.options))
    assert decode(run, attempt) is None
    check(run, attempt)
    return attempt


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.COMPLETE, Complete),
        (State.FAILED, Bury),
        (State.ABORTED, Abort),
        (State.EXPIRED, Expire),
        (State.DEAD, Bury),
        (State.RETRIED, Retry),
        (State.RELEASED, Release),
    ],
)
async def test_each_state_has_its_kind_of_update(state: State, kind: type[Update]) -> None:
    run = run_context(work)
    value = None if state is State.COMPLETE else asyncio.CancelledError()
    update = update_for(run, checked_attempt(run), Outcome(state, value))

    assert type(update) is kind
    assert (update.lease.id, update.lease.queue, update.lease.token) == ("a", "q", "w1.1")


async def test_of_a_lost_lease_nothing_is_written() -> None:
    run = run_context(work)

    assert update_for(run, checked_attempt(run), Outcome(State.LOST)) is None


@pytest.mark.parametrize("flag", ["abort", "dead"])
async def test_a_release_of_a_job_that_was_only_to_be_recorded_refunds_no_attempt(flag: str) -> None:
    run = run_context(work)

    assert type(update_for(run, checked_attempt(run, flag), Outcome(State.RELEASED))) is Retry


async def test_a_release_of_a_job_that_had_begun_to_run_is_an_interrupt() -> None:
    run = run_context(work)
    attempt = checked_attempt(run)
    attempt.started_ms = 1

    assert type(update_for(run, attempt, Outcome(State.RELEASED))) is Interrupt
    assert type(update_for(run, attempt, Outcome(State.SNOOZED))) is Release


async def test_the_delay_of_a_retry_is_passed_on() -> None:
    run = run_context(work)
    update = update_for(run, checked_attempt(run), Outcome(State.RETRIED, None, 1500))

    assert isinstance(update, PutBack)
    assert update.delay_ms == 1500


@pytest.mark.parametrize(
    ("settings", "ttl_ms"), [({}, 3_600_000), ({"keep_result": 0}, -1), ({"keep_result_forever": True}, 0)]
)
async def test_results_are_kept_as_the_worker_is_set(settings: dict[str, Any], ttl_ms: int) -> None:
    run = run_context(work, **settings)
    update = update_for(run, checked_attempt(run), Outcome(State.COMPLETE, 1))

    assert isinstance(update, Complete)
    assert update.result_ttl_ms == ttl_ms
    assert bool(update.result) is (ttl_ms >= 0)
