"""Runs an ended job again, whichever serializer wrote its result, and never unpickles."""

from ..errors import JobNotRetryable
from ..protocol.serializers import SERIALIZERS
from ..protocol.wire import encode_payload
from ..protocol.wire import retry_payload as plain_retry_payload
from ..store.job_facts import read_dead_result
from ..store.store import Store
from .pickles import outline, retry_payload
from .safe_serializer import format_of

__all__ = ("gets_input", "rerun_of", "retry_job")

LIFE_MS = 86_400_000  # a pickled job without a deadline may wait this long for its start, as in arq


async def retry_job(store: Store, job_id: str, queue: str) -> None:
    """Run a job again that failed, expired, was aborted or is dead, as `Job.retry` does.

    :raises JobNotRetryable: it has not ended, it succeeded, or its result is gone or cannot be read
    """
    result, payload, home, priority = await rerun_of(store, job_id, queue)
    done = await store.requeue(job_id, home or queue, result, payload, priority)
    if done != "queued":
        raise JobNotRetryable(f"it was changed by somebody else meanwhile ({done})")


async def rerun_of(store: Store, job_id: str, queue: str) -> tuple[bytes, bytes, str, int]:
    """The result of an ended job, the payload that runs it again, its queue ("" if unknown) and its priority.

    :raises JobNotRetryable: as of `retry_job`
    """
    snapshot = await store.peek(job_id, queue)
    result = snapshot.result
    if result is None:
        result = await read_dead_result(store.redis, store.keys, queue, job_id)
    if not result:
        raise JobNotRetryable("it has no kept result: it has not ended, or its result is not kept any more")
    return (result, *_payload_of(result, snapshot.now_ms))


def gets_input(result: bytes) -> bool:
    """Whether the job got its first argument from the flow that it is a part of: it cannot run outside of the flow."""
    found = format_of(result)
    if found == "pickle":
        known = outline(result)
        return known is not None and "in" in known.options
    return found in SERIALIZERS and "in" in (SERIALIZERS[found].loads(result).get("o") or {})


def _payload_of(result: bytes, now_ms: int) -> tuple[bytes, str, int]:
    """The payload that runs a job again, its queue ("" if unknown) and its priority."""
    found = format_of(result)
    if found == "pickle":
        return _pickled_payload_of(result, now_ms)
    if found == "unknown":
        raise JobNotRetryable("its result was written by a serializer that the dashboard does not know")
    serializer = SERIALIZERS[found]
    try:
        fields = serializer.loads(result)
        if fields["s"]:
            raise JobNotRetryable("it completed; enqueue it anew instead")
        payload = plain_retry_payload(serializer, result, now_ms)
        return encode_payload(serializer, payload), str(fields.get("q") or ""), int(payload.options.get("p", 0))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise JobNotRetryable(f"its result does not decode ({type(error).__name__})") from None


def _pickled_payload_of(result: bytes, now_ms: int) -> tuple[bytes, str, int]:
    known = outline(result)
    success = None if known is None else known.fields.get("s")
    if known is None or not isinstance(success, bool):
        raise JobNotRetryable("its result is a pickle too large or too odd to be told apart without unpickling it")
    if success:
        raise JobNotRetryable("it completed; enqueue it anew instead")
    queue, priority = known.fields.get("q"), known.options.get("p")
    try:
        payload = retry_payload(result, known, now_ms, LIFE_MS)
    except ValueError as error:
        raise JobNotRetryable(
            f"its result is a pickle that cannot be run again without unpickling it: {error}"
        ) from None
    return payload, queue if isinstance(queue, str) else "", priority if isinstance(priority, int) else 0
