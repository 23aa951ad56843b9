"""All that Redis knows of one job, and where to find it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ..client.pool import Pool
from ..protocol.attempt_errors import AttemptError, decode_attempt_error
from ..protocol.constants import PARKED_SCORE, SPAN_MS, THROTTLED_SCORE
from ..protocol.wire import Payload, decode_payload, decode_result
from ..store.find import find_queues, queue_of
from ..store.job_facts import JobFacts, read_dead_result, read_job_facts
from ..store.records import JobSnapshot
from .arguments import ShownArguments, shown

__all__ = ("JobView", "locate", "read_job")


@dataclass(frozen=True, slots=True)
class JobView:
    """All that is known of a job.

    :ivar result: decoded; None if it has not ended, or its result is gone
    """

    id: str
    queue: str
    status: str
    snapshot: JobSnapshot
    facts: JobFacts
    payload: Payload | None = None
    result: Any = None
    remote_traceback: str | None = None
    errors: list[AttemptError] = field(default_factory=list)

    @property
    def function(self) -> str:
        found = self.result or self.payload
        return found.function if found is not None else ""

    @property
    def arguments(self) -> ShownArguments:
        found = self.result or self.payload
        return ShownArguments([], {}) if found is None else shown(found.function, found.args, found.kwargs)

    @property
    def enqueued_ms(self) -> int | None:
        if self.payload is not None:
            return self.payload.enqueued_ms
        return None if self.result is None else int(self.result.enqueue_time.timestamp() * 1000)

    @property
    def due_ms(self) -> int | None:
        lease = self.lease
        if lease is not None:
            return lease[2]
        return None if self.status in ("held", "waiting") else self.snapshot.score

    @property
    def lease(self) -> tuple[str, int, int, int] | None:
        """Worker, end of its lease, due time and crashes; None if no worker of ours holds it."""
        parts = (self.snapshot.lease or b"").decode(errors="replace").split("|")
        if not self.snapshot.in_progress or len(parts) != 4:
            return None
        due = float(parts[2])
        return parts[0].split(".")[0], int(parts[1]), int(due if due >= 0 else due % SPAN_MS), int(parts[3])


async def locate(pool: Pool, job_id: str, chosen_queue: str | None) -> str:
    """The queue of a job: the queue that was given, else the default queue or the first other one that has the job."""
    if chosen_queue is not None:
        return chosen_queue
    default = pool.default_queue_name
    found = await queue_of(pool.store, job_id, [default])
    if found is None and (await pool.store.peek(job_id, default)).result is None:
        found = await queue_of(pool.store, job_id, await pool.used_queues())
        if found is None:
            queues, _ = await find_queues(pool.store)
            found = await queue_of(pool.store, job_id, queues)
    return found or default


async def read_job(pool: Pool, job_id: str, chosen_queue: str | None) -> JobView | None:
    """All that is known of a job; None if nothing is.

    :raises DeserializationError: another serializer wrote it
    """
    queue = await locate(pool, job_id, chosen_queue)
    snapshot = await pool.store.peek(job_id, queue, payload=True)
    facts = await read_job_facts(pool.store, queue, job_id)
    data = snapshot.result
    if data is None and snapshot.payload is None and facts.died_ms is not None:
        data = await read_dead_result(pool.store.redis, pool.store.keys, queue, job_id) or None
    if data is None and snapshot.payload is None and snapshot.score is None:
        return None
    result, traceback, payload = None, None, None
    if data is not None:
        result, traceback = decode_result(pool.serializer, data)
    elif snapshot.payload is not None:
        payload = decode_payload(pool.serializer, snapshot.payload)
    errors = [decode_attempt_error(entry) for entry in snapshot.errors]
    if result is not None and result.queue_name != "<unknown>":
        queue = result.queue_name
        facts = await read_job_facts(pool.store, queue, job_id)
    status = _status(snapshot, facts, result)
    return JobView(
        id=job_id,
        queue=queue,
        status=status,
        snapshot=snapshot,
        facts=facts,
        payload=payload,
        result=result,
        remote_traceback=traceback,
        errors=errors,
    )


def _status(snapshot: JobSnapshot, facts: JobFacts, result: Any) -> str:
    if result is not None:
        return _ended_status(result, facts)
    if snapshot.in_progress and snapshot.score is not None:
        return "running"
    if snapshot.score is None:
        return "unknown"  # its payload is there and no queue has it
    if snapshot.score >= PARKED_SCORE:
        return "waiting"
    if snapshot.score >= THROTTLED_SCORE:
        return "held"
    return "deferred" if snapshot.score > snapshot.now_ms else "queued"


def _ended_status(result: Any, facts: JobFacts) -> str:
    if result.success:
        return "complete"
    if isinstance(result.result, asyncio.CancelledError):
        return "aborted"
    if str(result.result) == "job expired":
        return "expired"
    return "dead" if facts.died_ms is not None else "failed"
