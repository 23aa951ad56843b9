"""`FlowHandle`: a handle on a flow that was enqueued."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Generic, TypeVar, cast

import msgspec
from arq.jobs import ResultNotFound
from redis.asyncio import Redis

from ..definitions.coerce import coerce_value
from ..definitions.graph import Graph
from ..errors import FlowCancelled, FlowRunning, UpstreamFailed
from ..handles.job import Job
from ..protocol.clock import new_job_id
from ..store.flows import FlowStore, NodeRecord, encode_node
from ..store.read_flows import FlowRecord, StoredNode, count_events, read_flow, read_nodes
from .encode import Client
from .graph_view import STATES, Edge, FlowEvent, FlowGraph, FlowNode, FlowProgress, FlowStatus
from .rounds import mark_workflows, nodes_to_retry, read_retryable, resume_workflow
from .signals import send_signal
from .submit import CHILDREN_PER_PIECE, child_pieces
from .values import FlowGone, FlowValues, error_of

__all__ = ("Edge", "FlowEvent", "FlowGraph", "FlowHandle", "FlowNode", "FlowProgress", "FlowStatus")

R = TypeVar("R")
POLL_S = 2.0  # only the safety net beside push
_pack = msgspec.msgpack.Encoder().encode


class FlowHandle(Generic[R]):
    """A flow that was enqueued.

    :param flow_id: its id
    :param client: a `Pool`
    :param graph: what it was made of, if that is known; results are then coerced to the annotations of the functions
    """

    def __init__(self, flow_id: str, client: Client, graph: Graph | None = None) -> None:
        self.flow_id = flow_id
        self._client = client
        self._flows = FlowStore(client.store)
        self._graph = graph
        self._values = FlowValues(self._flows, client.serializer, flow_id, self._coerced)

    def __repr__(self) -> str:
        return f"<FlowHandle {self.flow_id}>"

    def _coerced(self, number: int, value: Any) -> Any:
        call = self._graph.nodes[number].call if self._graph else None
        result_type = getattr(call.function, "result_type", Any) if call else Any
        if not self._client.serializer.plain:
            return value
        try:
            return coerce_value(result_type, value)
        except msgspec.ValidationError:
            return value

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the flow's last job (or group) and return its result.

        :param timeout: seconds to wait at most; None waits for ever
        :raises TimeoutError: it has not ended in time
        :raises ResultNotFound: there is no such flow, or it is not kept any more
        :raises FlowCancelled: it was cancelled
        :raises Exception: what the job at fault raised, with the worker's traceback as its cause
        """
        try:
            record = await self._record()
            if record.kind == "w":
                return cast(R, await self._job(record).result(timeout))
            record = await self._until_output(timeout)
            value = await self._values.value(record.output)
        except FlowGone as gone:
            raise ResultNotFound(str(gone)) from None
        if record.output_state[:1] == "c":
            return cast(R, value)
        error = error_of(value if not isinstance(value, list) else await self._fault(record.output_state))
        try:
            raise self._error_of(record, error)
        finally:
            del value, error  # break the reference cycle of their traceback and this frame

    def _error_of(self, record: FlowRecord, error: BaseException | None) -> Exception:
        """What `result` raises for a flow that did not complete; `error` is what the job at fault raised."""
        if record.cancelled is not None and (isinstance(error, FlowCancelled) or not isinstance(error, Exception)):
            return FlowCancelled(f"flow {self.flow_id} was cancelled: {record.cancelled}")
        return error if isinstance(error, Exception) else UpstreamFailed(self.flow_id, record.name, error)

    def _job(self, record: FlowRecord) -> Job[Any]:
        """The job of a workflow."""
        return Job(self.flow_id, cast(Redis, self._client), record.fields.get("queue", self._client.default_queue_name))

    async def _fault(self, state: str) -> Any:
        return await self._values.value(int(state[1:])) if state[:1] == "u" else None

    async def _record(self) -> FlowRecord:
        record = await read_flow(self._client.store, self.flow_id)
        if record is None:
            raise FlowGone(f"flow {self.flow_id}: expected it to exist; it was forgotten, or is not kept any more")
        return record

    async def _until_output(self, timeout: float | None) -> FlowRecord:
        changed = asyncio.Event()
        channel = self._client.store.keys.done_channel(self.flow_id)
        try:
            async with asyncio.timeout(timeout):
                record = await self._record()
                if record.has_output:
                    return record
                with self._client.listener.listen(channel, lambda _: changed.set()):
                    while True:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(changed.wait(), POLL_S)
                        changed.clear()
                        record = await self._record()
                        if record.has_output:
                            return record
        except TimeoutError:
            raise TimeoutError(f"flow {self.flow_id} has not ended within {timeout} s") from None

    async def wait(self, timeout: float | None = None) -> FlowStatus:
        """Wait until all of its jobs have ended, error callbacks too; returns how.

        :raises TimeoutError: they have not ended in time
        """
        changed = asyncio.Event()
        try:
            async with asyncio.timeout(timeout):
                with self._client.listener.listen(
                    self._client.store.keys.done_channel(self.flow_id), lambda _: changed.set()
                ):
                    while True:
                        record = await read_flow(self._client.store, self.flow_id)
                        if record is None or record.state == "ended":
                            return await self.status()
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(changed.wait(), POLL_S)
                        changed.clear()
        except TimeoutError:
            raise TimeoutError(f"flow {self.flow_id} has not ended within {timeout} s") from None

    async def status(self) -> FlowStatus:
        """How it stands. It is "running" as long as callbacks run, even if its result is there."""
        record = await read_flow(self._client.store, self.flow_id)
        if record is None:
            return "not_found"
        if record.state != "ended":
            return "running"
        if record.kind == "w":
            info = await self._job(record).result_info()
            if info is None or info.success:
                return "complete"
            return "cancelled" if isinstance(info.result, asyncio.CancelledError) else "failed"
        if record.output_state[:1] == "c":
            return "complete"
        return "failed" if record.cancelled is None else "cancelled"

    async def progress(self) -> FlowProgress:
        """How many of its jobs have ended, and how.

        :raises ResultNotFound: there is no such flow
        """
        try:
            record = await self._record()
        except FlowGone as gone:
            raise ResultNotFound(str(gone)) from None
        counts = record.counts
        if record.kind == "w":
            nodes = [node for node in await read_nodes(self._client.store, self.flow_id) if node.kind == "job"]
            counts = Counter(node.state[:1] for node in nodes) | {"q": len(nodes)}
            record = record._replace(total=len(nodes))
        states: dict[str, int] = {}
        for letter in "cfaxusd":
            if counts.get(letter):
                states[STATES[letter]] = states.get(STATES[letter], 0) + counts[letter]
        done = sum(states.values())
        active = counts.get("q", 0) - sum(counts.get(letter, 0) for letter in "cfax")
        waiting, replays = record.total - done - active, int(record.fields.get("replays", 0))
        events = await count_events(self._client.store, self.flow_id) if record.kind == "w" else 0
        blocked = record.fields.get("blocked_by", "")
        return FlowProgress(
            total=record.total,
            done=done,
            active=active,
            waiting=waiting,
            states=states,
            events=events,
            replays=replays,
            blocked=blocked,
        )

    async def events(self) -> AsyncIterator[FlowEvent]:
        """The changes from now on, as they come, until the flow has ended.

        After a lost connection the states of all nodes are compared with those that were told, so none is missed.
        """
        news: asyncio.Queue[bytes | None] = asyncio.Queue()
        channel = self._client.store.keys.flow_news(self.flow_id)
        with self._client.listener.listen(channel, news.put_nowait):
            known = {node.number: node for node in await read_nodes(self._client.store, self.flow_id)}
            states = {number: node.state for number, node in known.items()}
            while True:
                try:
                    message = await asyncio.wait_for(news.get(), POLL_S)
                except TimeoutError:
                    message = None
                for number, state in await self._changes(message, states):
                    states[number] = state
                    if number == 0:
                        yield FlowEvent(0, self.flow_id, "", "ended")
                        return
                    if number not in known:  # a workflow has gone on
                        known |= {node.number: node for node in await read_nodes(self._client.store, self.flow_id)}
                    node = known.get(number)
                    if node is not None and node.kind == "job":
                        yield FlowEvent(number, node.job_id, node.function, STATES[state[:1]])

    async def _changes(self, message: bytes | None, states: dict[int, str]) -> list[tuple[int, str]]:
        if message is not None:
            pairs = [line.split(" ", 1) for line in message.decode().split("\n")]
            return [(int(number), state) for number, state in pairs if states.get(int(number)) != state]
        changes = [
            (node.number, node.state)
            for node in await read_nodes(self._client.store, self.flow_id)
            if node.state != states.get(node.number, "")
        ]
        record = await read_flow(self._client.store, self.flow_id)
        if record is None:
            waits = await self._client.store.peek(self.flow_id, self._client.default_queue_name, payload=True)
            return changes if waits.payload is not None else [*changes, (0, "ended")]  # a workflow that has not begun
        return changes if record.state == "running" else [*changes, (0, "ended")]

    async def cancel(self, reason: str = "") -> bool:
        """Abort the jobs that run, and drop those that wait; returns False if it had ended or does not exist.

        Running jobs of a graph are aborted at once, whether or not their workers have `allow_abort_jobs`. A workflow is
        aborted like any job: its worker needs `allow_abort_jobs`.
        """
        record = await read_flow(self._client.store, self.flow_id)
        if record is not None and record.kind == "w":
            return await self._client.store.abort(self.flow_id, self._job(record)._queue_name) in ("running", "queued")
        return await self._flows.cancel(self.flow_id, reason) == "cancelled"

    async def signal(self, event: str, value: Any = None, *, key: str | None = None) -> bool:
        """Send an event to the workflow that this is; see `Pool.signal`. False of a graph."""
        return await send_signal(self._client, self.flow_id, event, value=value, key=key)

    async def retry(self) -> int:
        """Run the jobs that did not complete once more, and all that comes after them. What completed stays.

        :returns: how many jobs run again
        :raises FlowRunning: it has not ended
        :raises ResultNotFound: there is no such flow
        """
        return await self._retry(resume=False)

    async def resume(self) -> int:
        """Go on with a workflow that failed or was aborted, at its failed step. What came before is not run again.

        The step is tried once more, and so is what was aborted because of it. The workflow is replayed up to there, so
        today's code and arguments count. If its own code failed, or did not fit its history for too long, it goes on
        where it stood. Workflows among its steps are resumed too.

        For a graph this is `retry`, but workflows among its jobs are resumed. `Job.retry()` runs a workflow from its
        beginning instead.

        :returns: how many steps, or jobs of a graph, are tried once more
        :raises FlowRunning: it has not ended, or a step of it is still being aborted
        :raises JobNotRetryable: it completed, or has no kept result
        :raises ResultNotFound: there is no such flow, or its history is not kept any more
        """
        record = await read_flow(self._client.store, self.flow_id)
        if record is None or record.kind == "g":
            return await self._retry(resume=True)
        if record.state != "ended":
            raise FlowRunning(f"workflow {self.flow_id}: expected it to have ended, it runs")
        queue = record.fields.get("queue", self._client.default_queue_name)
        workflow = await read_retryable(self._client.store, self._client.serializer, self.flow_id, queue)
        return await resume_workflow(self._client.store, self.flow_id, queue, workflow)

    async def _retry(self, *, resume: bool) -> int:
        record = await read_flow(self._client.store, self.flow_id)
        if record is None or record.kind != "g":
            raise ResultNotFound(f"flow {self.flow_id}: expected a graph that is kept, found none")
        if record.state != "ended":
            raise FlowRunning(f"flow {self.flow_id}: expected it to have ended, it runs")
        nodes = {node.number: node for node in await read_nodes(self._client.store, self.flow_id)}
        again = nodes_to_retry(nodes)
        if not any(nodes[number].kind == "job" for number in again):
            return 0
        if resume:
            await mark_workflows(self._client.store, nodes, again)
        await self._start_retry(nodes, again, record)
        return sum(nodes[number].kind == "job" for number in again)

    async def _start_retry(self, nodes: Mapping[int, StoredNode], again: set[int], record: FlowRecord) -> None:
        source = record.nodes + 1
        resets = [(number, sum(parent in again for parent in nodes[number].parents) or 1) for number in sorted(again)]
        first = [number for number, _ in resets if not any(parent in again for parent in nodes[number].parents)]
        fields: list[tuple[str, bytes | str]] = [(str(source), encode_node(NodeRecord("source")))]
        for at in range(0, len(resets), CHILDREN_PER_PIECE):
            more = int(at + CHILDREN_PER_PIECE < len(resets))
            flat = [field for reset in resets[at : at + CHILDREN_PER_PIECE] for field in reset]
            fields.append((f"{source}r{at // CHILDREN_PER_PIECE}", _pack([more, *flat])))
        fields += child_pieces(source, first)
        nonce = new_job_id()
        left = sum(nodes[number].kind == "job" for number in again)
        await self._flows.store(self.flow_id, record.nonce, {}, fields, ())
        verdict = await self._flows.start(
            self.flow_id, nonce, source=source, left=left, nodes=source, reset=True, after=record.round
        )
        if verdict == "exists":
            raise FlowRunning(f"flow {self.flow_id}: expected it to have ended, somebody else has retried it")
        if verdict == "missing":
            raise ResultNotFound(f"flow {self.flow_id}: expected it to exist; it is not kept any more")

    async def graph(self) -> FlowGraph:
        """Its nodes and edges with their states."""
        nodes = await read_nodes(self._client.store, self.flow_id, running=True)
        return FlowGraph(
            tuple(
                FlowNode(
                    node.number,
                    node.kind,
                    job_id=node.job_id,
                    function=node.function,
                    queue=node.queue,
                    state="running" if node.running else STATES[node.state[:1]],
                    fault=int(node.state[1:]) if node.state[:1] == "u" else None,
                )
                for node in nodes
            ),
            tuple(Edge(parent, node.number, node.on_error) for node in nodes for parent in node.parents),
        )

    async def forget(self) -> bool:
        """Remove it and its jobs' results from Redis; returns False if there was none.

        :raises FlowRunning: it has not ended
        """
        nodes = await read_nodes(self._client.store, self.flow_id)
        record = await read_flow(self._client.store, self.flow_id)
        jobs = [(node.job_id, node.queue) for node in nodes if node.kind == "job"]
        if not await self._flows.forget(self.flow_id, jobs):
            raise FlowRunning(f"flow {self.flow_id}: expected it to have ended, it runs; cancel it first")
        return record is not None
