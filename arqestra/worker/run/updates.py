"""What Redis is told of an outcome, and what an attempt leaves there as bytes: its result, its entry in the job's
history, the payload of the next attempt.
"""

from typing import Any

from ...definitions.middleware import checked_headers
from ...definitions.retry import Cancel, Snooze
from ...protocol.attempt_errors import encode_attempt_error
from ...protocol.clock import timestamp_ms
from ...protocol.wire import JobEnd, Payload, decode_payload, encode_payload, encode_result
from ...store.updates import (
    Abort,
    Bury,
    Complete,
    ContinueAsNew,
    Ended,
    Expire,
    Fail,
    Interrupt,
    Park,
    PutBack,
    Release,
    Retry,
    Throttle,
    Update,
)
from .attempt import Attempt
from .context import RunContext
from .effective_options import KEEP_NO_RESULT
from .outcome import COMPLETE, DEAD, FAILED, RETRIED, Outcome, State, failure_in

__all__ = ("NO_RESULT", "encode_value", "hand_over", "release_of", "update_for")

NO_RESULT = (Snooze, Cancel)
ENDS: dict[State, type[Ended]] = {State.ABORTED: Abort, State.EXPIRED: Expire}


def hand_over(run: RunContext, attempt: Attempt, outcome: Outcome) -> None:
    """Let Redis be told of the outcome with the next round trip; the slot is free now."""
    update = update_for(run, attempt, outcome)
    attempt.hand_over()
    if run.on_outcome is not None:
        run.on_outcome(attempt, outcome)
    run.slots.free(attempt)
    if update is not None:
        run.outbox.submit(update)


def update_for(run: RunContext, attempt: Attempt, outcome: Outcome) -> Update | None:
    """What Redis is to be told of an outcome; None if the lease is lost, and nothing may be written."""
    leased = attempt.leased
    if outcome.state is COMPLETE:
        return _end(run, attempt, outcome, Complete)
    if outcome.state is FAILED or outcome.state is DEAD:
        return _end(run, attempt, outcome, Bury if run.options.keep_dead else Fail)
    match outcome.state:
        case State.LOST:
            return None
        case State.LIMITED:
            return Throttle(leased, outcome.value)
        case State.PARKED:
            return Park(leased, outcome.value, outcome.delay_ms, next_payload(run, attempt))
        case State.CONTINUED_AS_NEW:
            return ContinueAsNew(leased, outcome.value)
        case State.RETRIED:
            return _put_back(run, attempt, outcome, Retry)
        case State.RELEASED:
            return _put_back(run, attempt, outcome, release_of(attempt))
        case State.SNOOZED:
            return _put_back(run, attempt, outcome, Retry if leased.flag else Release)
        case state:
            return _end(run, attempt, outcome, ENDS.get(state, Fail))


def _end(run: RunContext, attempt: Attempt, outcome: Outcome, kind: type[Ended]) -> Ended:
    """The end of the job, with its result as far as that is kept."""
    complete = kind is Complete
    result = attempt.result if complete else None
    if result is None and (kind is Bury or keeps_result(attempt)):
        result = encoded_result(run, attempt, outcome.value, success=complete)
    return kind(
        attempt.leased,
        result=result or b"",
        result_ttl_ms=KEEP_NO_RESULT if result is None else attempt.options.result_ttl_ms,
        keep_id_ms=run.cron_id_ms(attempt.options.function) if attempt.options.is_cron else 0,
        error=b"" if complete else history_entry(run, attempt, outcome),
        had_errors=_had_errors(attempt, outcome),
        unstarted=_never_started(attempt),
    )


def _put_back(run: RunContext, attempt: Attempt, outcome: Outcome, kind: type[PutBack]) -> PutBack:
    """The job for its next attempt."""
    delay_ms = outcome.delay_ms
    if run.hooks.after_job_end and outcome.state is RETRIED:
        delay_ms = max(delay_ms, run.retry_delay_ms)  # the hook may ask what became of it, before it runs again
    return kind(
        attempt.leased,
        delay_ms=delay_ms,
        attempts=None if attempt.job_try == attempt.leased.attempt else attempt.job_try,
        payload=next_payload(run, attempt, due_later=delay_ms != 0),
        error=history_entry(run, attempt, outcome),
        had_errors=_had_errors(attempt, outcome),
        unstarted=_never_started(attempt),
    )


def release_of(attempt: Attempt) -> type[PutBack]:
    """How an attempt goes back that the worker has interrupted.

    A job that had begun to run is free only so often; a workflow always is, since it goes on where it was.
    """
    if attempt.leased.flag:
        return Retry  # a job that was leased only to be recorded counted no attempt
    return Release if attempt.started_ms == 0 or attempt.options.workflow is not None else Interrupt


def _never_started(attempt: Attempt) -> bool:
    """It was admitted under its limits, and was not called."""
    return attempt.started_ms == 0 and bool(attempt.leased.spec) and not attempt.leased.flag


def _had_errors(attempt: Attempt, outcome: Outcome) -> bool:
    """There may be a history of failed attempts."""
    return attempt.job_try > 1 or (bool(attempt.leased.flag) and outcome.state is not COMPLETE)


def keeps_result(attempt: Attempt) -> bool:
    """Whether the value of the job is stored. What follows in a flow needs it, however short it is to be kept."""
    return attempt.options.result_ttl_ms != KEEP_NO_RESULT or attempt.node is not None


def encode_value(run: RunContext, attempt: Attempt, value: Any) -> None:
    """Encode what the function returned, while it can still fail the attempt.

    :raises SerializationError: the value does not fit the serializer
    """
    if attempt.result is not None:
        return  # within the middleware, already
    attempt.ended_ms = timestamp_ms()
    if attempt.options.result_ttl_ms != KEEP_NO_RESULT or keeps_result(attempt):
        attempt.result = encoded_result(run, attempt, value, success=True)


def encoded_result(run: RunContext, attempt: Attempt, value: Any, *, success: bool) -> bytes | None:
    """The result of a job that has ended; None if nothing of it can be written.

    :raises SerializationError: it is complete, and its value does not fit the serializer
    """
    leased = attempt.leased
    ended_ms = attempt.ended_ms or timestamp_ms()
    started_ms = attempt.started_ms or ended_ms
    payload = attempt.payload
    text = attempt.traceback_of(value) if not success and isinstance(value, BaseException) else ""
    if attempt.carry and not success:  # `Job.retry` makes the next attempt of the result
        payload = with_carried(payload, attempt.carry)
    return encode_result(
        run.serializer,
        JobEnd(payload, leased.id, leased.queue, attempt.job_try, success, value, started_ms, ended_ms, text),
    )


def next_payload(run: RunContext, attempt: Attempt, *, due_later: bool = False) -> bytes:
    """The payload of the next attempt, if it is another one: with the headers that middleware has for it, and the
    deadline of a flow's node that is due later. b"" if it stays.

    It is made of what was leased: the job may have changed the arguments that it was given.
    """
    fixed = {"x": attempt.deadline_ms} if due_later and "xr" in attempt.payload.options else {}
    if not (attempt.carry or fixed) or attempt.leased.payload is None:
        return b""
    payload = with_carried(decode_payload(run.serializer, attempt.leased.payload), attempt.carry or {})
    return encode_payload(run.serializer, payload._replace(options={**payload.options, **fixed}))


def with_carried(payload: Payload, carry: dict[str, str]) -> Payload:
    """The payload with the headers that middleware has for the next attempt."""
    headers = {**(payload.options.get("h") or {}), **checked_headers(carry)}
    return payload._replace(options={**payload.options, "h": headers} if headers else payload.options)


def history_entry(run: RunContext, attempt: Attempt, outcome: Outcome) -> bytes:
    """The entry of a failed attempt in the job's history; b"" of an attempt that did not fail."""
    error = failure_in(outcome)
    if error is None:
        return b""
    ended_ms = attempt.ended_ms or timestamp_ms()
    return encode_attempt_error(
        error,
        attempt.traceback_of(error),
        job_try=attempt.job_try,
        worker=run.worker_id,
        started_ms=attempt.started_ms or ended_ms,
        ended_ms=ended_ms,
    )
