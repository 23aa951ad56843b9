"""Writing what a workflow decides: its new steps, within the middleware of their enqueue, a few at a time."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from ...client.pool import MAX_PAYLOAD_BYTES, Pool
from ...definitions.middleware import enter_batch
from ...definitions.signature import Signature
from ...drop_in.instrumentation import Stored, enqueue_batch_through, enqueues_are_observed
from ...flow.encode import NodeEncoder, arguments_of, as_seen, with_arguments, with_headers
from ...flow.execution import Execution
from ...store.flows import Advance, FlowStore, NodeRecord, Reference, encode_node, node_id
from .attempt import Attempt
from .context import RunContext

__all__ = ("DecisionWriter",)

KEEP_FOREVER_MS = 366 * 86_400_000
MIN_KEEP_MS = 60_000  # of the history of a workflow whose result is not kept
NODES_PER_CALL = 200


class DecisionWriter:
    """Writes the decisions of one workflow.

    :param run: of the worker
    :param attempt: at the workflow
    """

    def __init__(self, run: RunContext, attempt: Attempt) -> None:
        self._run = run
        self._attempt = attempt
        self._id, self._queue = attempt.leased.id, attempt.leased.queue
        self._flows = FlowStore(run.store)
        pool = run.pool
        known = (pool.default_queue_name, pool.max_payload_bytes) if isinstance(pool, Pool) else (None, None)
        self._default_queue = known[0] or run.queue_name
        self._encoder = NodeEncoder(run.serializer, self._default_queue, known[1] or MAX_PAYLOAD_BYTES)
        # New steps, where middleware or somebody's wrapper is to see them.
        self._asked: dict[int, tuple[Signature[Any], Reference | None, bool]] = {}

    async def write(self, execution: Execution, new: list[tuple[int, NodeRecord]], last: Advance) -> bool:
        """Write new steps, and with the last of them what else was decided.

        :returns: False if the lease is lost
        """
        write = partial(self._write_within_middleware, execution, new, last)
        return await (self._write_observed(write) if self._asked and enqueues_are_observed() else write())

    def encode(self, call: Signature[Any], number: int, gets: Reference | None, on_error: bool) -> NodeRecord:
        """The record of a step.

        :param number: of the step within the workflow; 0 for a call that is no step
        :param gets: the step whose value it gets
        :param on_error: it runs when that step has failed
        """
        if number and (self._run.options.middleware or enqueues_are_observed()):
            self._asked[number] = call, gets, on_error
        return self._encoder.record(call, self._id, number, gets=gets, on_error=on_error)

    async def _write_observed(self, write: Callable[[], Awaitable[bool]]) -> bool:
        """Write, within what others have put around arq's `enqueue_job`: once for each new step."""
        given = [
            arguments_of(call, self._default_queue, node_id(self._id, number))
            for number, (call, _, _) in self._asked.items()
        ]

        async def enqueue(stored: list[Stored]) -> bool:
            changed = zip(self._asked.items(), stored, strict=True)
            self._asked = {number: (with_arguments(asked[0], args), *asked[1:]) for (number, asked), args in changed}
            return await write()

        return await enqueue_batch_through(self._run.pool, given, enqueue)

    async def _write_within_middleware(
        self, execution: Execution, new: list[tuple[int, NodeRecord]], last: Advance
    ) -> bool:
        """Write new steps, a few at a time; with the last of them what else was decided."""
        async with AsyncExitStack() as stack:
            if self._asked:
                new = await self._steps_within_middleware(stack, new)
            for first in range(0, max(1, len(new)), NODES_PER_CALL):
                piece = new[first : first + NODES_PER_CALL]
                nodes = [(number, encode_node(record)) for number, record in piece]
                decided = last._replace(nodes=nodes) if first + NODES_PER_CALL >= len(new) else Advance(nodes)
                if not await self._write(execution, piece, decided):
                    return False
        return True

    async def _steps_within_middleware(
        self, stack: AsyncExitStack, new: Sequence[tuple[int, NodeRecord]]
    ) -> list[tuple[int, NodeRecord]]:
        """New steps with the headers that the middleware gives them. A replay compares calls, not headers."""
        asked, self._asked = self._asked, {}
        seen = {
            number: as_seen(call, self._default_queue, node_id(self._id, number))
            for number, (call, _, _) in asked.items()
        }
        await enter_batch(stack, self._run.options.middleware, list(seen.values()), self._id)
        dressed = []
        for number, record in new:
            if number in asked:
                call, gets, on_error = asked[number]
                again = self._encoder.record(
                    with_headers(call, seen[number].headers), self._id, number, gets=gets, on_error=on_error
                )
                record = record._replace(payload=again.payload)
            dressed.append((number, record))
        return dressed

    async def advance(self, decided: Advance, started_ms: int, *, keep_ms: int = 0) -> list[int] | None:
        """Write one piece.

        :returns: when each new timer is over; None if the lease is lost
        """
        return await self._flows.advance(
            self._id,
            self._queue,
            self._attempt.leased.token,
            decided,
            keep_ms=keep_ms or self.keep_ms(),
            name=self._attempt.payload.function,
            started_ms=started_ms,
        )

    async def _write(self, execution: Execution, new: list[tuple[int, NodeRecord]], decided: Advance) -> bool:
        dues = await self.advance(decided, execution.started_ms)
        if dues is None:
            return False
        for _, record in new:
            if record.kind == "job":
                self._run.store.enqueued.add(record.queue, record.label)
        timers = [number for number, record in new if record.kind == "timer"]
        execution.due_ms.update(zip(timers, dues, strict=True))
        return True

    def keep_ms(self) -> int:
        """How long the history of the workflow is kept after its end."""
        ttl_ms = self._attempt.options.result_ttl_ms
        return KEEP_FOREVER_MS if ttl_ms == 0 else max(ttl_ms, MIN_KEEP_MS)
