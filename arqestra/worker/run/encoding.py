"""What an attempt leaves in Redis, as bytes: its result, its entry in the history, the payload of the next attempt."""

from typing import TYPE_CHECKING, Any

from arq.worker import Retry, RetryJob

from ...definitions.middleware import checked_headers
from ...definitions.retry import Cancel, Snooze
from ...protocol.attempt_errors import encode_attempt_error
from ...protocol.clock import timestamp_ms
from ...protocol.wire import JobEnd, Payload, decode_payload, encode_payload, encode_result, traceback_of
from .attempt import Attempt
from .effective_options import KEEP_NO_RESULT
from .outcome import Outcome, State

if TYPE_CHECKING:
    from ..worker import Worker

__all__ = ("carried", "encode_value", "encoded_result", "history_entry", "keeps_result")

NO_RESULT = (Snooze, Cancel)


def keeps_result(attempt: Attempt) -> bool:
    """Whether the value of the job is stored. What follows in a flow needs it, however short it is to be kept."""
    return attempt.options.result_ttl_ms != KEEP_NO_RESULT or attempt.node is not None


def encode_value(worker: "Worker", attempt: Attempt, value: Any) -> None:
    """Encode what the function returned, while it can still fail the attempt.

    :raises SerializationError: the value does not fit the serializer
    """
    if attempt.result is not None:
        return  # within the middleware, already
    attempt.ended_ms = timestamp_ms()
    if attempt.options.result_ttl_ms != KEEP_NO_RESULT or keeps_result(attempt):
        attempt.result = encoded_result(worker, attempt, value, success=True)


def encoded_result(worker: "Worker", attempt: Attempt, value: Any, *, success: bool) -> bytes | None:
    """The result of a job that has ended; None if nothing of it can be written.

    :raises SerializationError: it is complete, and its value does not fit the serializer
    """
    leased = attempt.leased
    ended_ms = attempt.ended_ms or timestamp_ms()
    started_ms = attempt.started_ms or ended_ms
    payload = attempt.payload
    if attempt.carry and not success:  # `Job.retry` makes the next attempt of the result
        payload = with_carried(payload, attempt.carry)
    return encode_result(
        worker.serializer,
        JobEnd(payload, leased.id, leased.queue, attempt.job_try, success, value, started_ms, ended_ms),
    )


def carried(worker: "Worker", attempt: Attempt, *, due_later: bool = False) -> bytes:
    """The payload of the next attempt behind a line feed: with the headers that middleware has for it, and the deadline
    of a flow's node that is due later; b"" without either.

    It is made of what was leased: the job may have changed the arguments that it was given.
    """
    fixed = {"x": attempt.deadline_ms} if due_later and "xr" in attempt.payload.options else {}
    if not (attempt.carry or fixed) or attempt.leased.payload is None:
        return b""
    payload = with_carried(decode_payload(worker.serializer, attempt.leased.payload), attempt.carry or {})
    return b"\n" + encode_payload(worker.serializer, payload._replace(options={**payload.options, **fixed}))


def with_carried(payload: Payload, carry: dict[str, str]) -> Payload:
    """The payload with the headers that middleware has for the next attempt."""
    headers = {**(payload.options.get("h") or {}), **checked_headers(carry)}
    return payload._replace(options={**payload.options, "h": headers} if headers else payload.options)


def history_entry(worker: "Worker", attempt: Attempt, outcome: Outcome) -> bytes:
    """The entry of a failed attempt in the job's history; b"+" or b"" as `Ending.error` says of any other."""
    error = outcome.value
    if outcome.state is State.RETRIED and isinstance(error, Retry | RetryJob):
        error = error.__cause__ or error.__context__
    failed = outcome.state in (State.FAILED, State.DEAD, State.RETRIED) and isinstance(error, BaseException)
    if not failed:
        return b"+" if attempt.job_try > 1 or attempt.leased.flag else b""
    ended_ms = attempt.ended_ms or timestamp_ms()
    return encode_attempt_error(
        error,
        traceback_of(error),
        job_try=attempt.job_try,
        worker=worker.worker_id,
        started_ms=attempt.started_ms or ended_ms,
        ended_ms=ended_ms,
    )
