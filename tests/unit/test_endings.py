"""What Redis is asked to write for an outcome: `execute.ending_of`, without a worker's I/O."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arqestra import Worker
from arqestra.store.records import LeasedJob
from arqestra.worker.run.attempt import Attempt
from arqestra.worker.run.effective_options import options_of_unknown
from arqestra.worker.run.execute import check, decode, ending_of
from arqestra.worker.run.outcome import Outcome, State

PAYLOAD = b'{"t":null,"f":"work","a":[],"k":{},"et":0,"o":{}}'


async def work(ctx: dict[Any, Any]) -> None:
    """A job."""


def _worker(**settings: Any) -> Worker:
    return Worker([work], serializer="json", handle_signals=False, **settings)


def _attempt(worker: Worker, flag: str = "") -> Attempt:
    """Decoded and checked."""
    attempt = Attempt(LeasedJob("q", "w1.1", 0, "a", PAYLOAD, 1, 0, 0, flag), options_of_unknown(worker))
    assert decode(worker, attempt) is None
    check(worker, attempt)
    return attempt


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.COMPLETE, "end"),
        (State.FAILED, "dead"),
        (State.ABORTED, "abort"),
        (State.EXPIRED, "expire"),
        (State.DEAD, "dead"),
        (State.RETRIED, "retry"),
        (State.RELEASED, "release"),
    ],
)
async def test_each_state_has_its_kind_of_ending(state: State, kind: str) -> None:
    worker = _worker()
    value = None if state is State.COMPLETE else asyncio.CancelledError()
    ending = ending_of(worker, _attempt(worker), Outcome(state, value))

    assert ending is not None
    assert (ending.id, ending.queue, ending.token, ending.kind) == ("a", "q", "w1.1", kind)


async def test_of_a_lost_lease_nothing_is_written() -> None:
    worker = _worker()

    assert ending_of(worker, _attempt(worker), Outcome(State.LOST)) is None


@pytest.mark.parametrize("flag", ["abort", "dead"])
async def test_a_release_of_a_job_that_was_only_to_be_recorded_refunds_no_attempt(flag: str) -> None:
    worker = _worker()
    ending = ending_of(worker, _attempt(worker, flag), Outcome(State.RELEASED))

    assert ending is not None
    assert ending.kind == "retry"


async def test_a_release_of_a_job_that_had_begun_to_run_is_an_interrupt() -> None:
    worker = _worker()
    attempt = _attempt(worker)
    attempt.started_ms = 1
    released = ending_of(worker, attempt, Outcome(State.RELEASED))
    snoozed = ending_of(worker, attempt, Outcome(State.SNOOZED))

    assert released is not None
    assert snoozed is not None
    assert (released.kind, snoozed.kind) == ("interrupt", "release")


async def test_the_delay_of_a_retry_is_passed_on() -> None:
    worker = _worker()
    ending = ending_of(worker, _attempt(worker), Outcome(State.RETRIED, None, 1500))

    assert ending is not None
    assert ending.number == 1500


@pytest.mark.parametrize(
    ("settings", "ttl_ms"), [({}, 3_600_000), ({"keep_result": 0}, -1), ({"keep_result_forever": True}, 0)]
)
async def test_results_are_kept_as_the_worker_is_set(settings: dict[str, Any], ttl_ms: int) -> None:
    worker = _worker(**settings)
    ending = ending_of(worker, _attempt(worker), Outcome(State.COMPLETE, 1))

    assert ending is not None
    assert ending.ttl_ms == ttl_ms
    assert bool(ending.result) is (ttl_ms >= 0)
