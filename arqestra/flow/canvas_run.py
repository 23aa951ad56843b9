"""A canvas inside a workflow: the graph that `pool.enqueue_flow` would store, with steps of the workflow as its jobs.

Both mean the same. The nodes are those of `definitions/graph.py`, and `verdict_of` there says what the end of a parent
means for a node, as the scripts do. Two things differ, because the workflow may end with the result:

- The result is returned or raised only after the callbacks that it started have ended.
- What still runs after that runs on only as long as the workflow does.
"""

import asyncio
from collections import deque
from functools import partial
from typing import Any

from ..definitions.graph import Graph, Node, verdict_of
from ..errors import UpstreamFailed
from ..store.flows import Reference, node_id
from .execution import Execution

__all__ = ("run_graph",)


async def run_graph(execution: Execution, graph: Graph) -> Any:
    """Run a graph, and return the value of its output.

    :raises Exception: what the step at fault raised, or why the workflow cannot ask for a step
    """
    for node in graph.jobs:
        assert node.call is not None
        execution.check_step(node.call)
    return await _GraphRun(execution, graph).result()


class _GraphRun:
    def __init__(self, execution: Execution, graph: Graph) -> None:
        self._execution = execution
        self._graph = graph
        self._nodes = graph.nodes
        self._states: dict[int, str] = {}
        self._pending = {node.number: len(node.parents) for node in graph.nodes if node.values is not None}
        self._steps: dict[int, int] = {}  # number of a node -> number of its step
        self._ended: dict[int, Any] = {}  # number of a node -> its value, or what it raised
        self._running: dict[int, asyncio.Future[Any]] = {}
        self._finished: asyncio.Future[None] = execution.loop.create_future()

    async def result(self) -> Any:
        """Run the graph to its output: return its value, or raise its error."""
        self._end(0, "c")
        self._finish_if_ended()
        try:
            await self._finished
        except asyncio.CancelledError:
            for step in list(self._running.values()):
                step.cancel()
            raise
        output, ended, self._ended = self._graph.output, self._ended, {}
        state = self._states[output]
        if state == "c":
            return self._value(output, ended)
        error = ended[int(state[1:]) if state[0] == "u" else output]
        try:
            raise error
        finally:
            ended.clear()
            del error  # its traceback holds this frame

    # -- the rules ------------------------------------------------------------------------------------------------

    def _end(self, number: int, state: str) -> None:
        """A node has ended. Start the children that run now, and end the descendants that will never run."""
        pending = deque([(number, state)])
        while pending:
            number, state = pending.popleft()
            if number in self._states:
                continue
            self._states[number] = state
            for child in self._nodes[number].children:
                ends_as = self._verdict(self._nodes[child], number, state)
                if ends_as is not None:
                    pending.append((child, ends_as))

    def _verdict(self, node: Node, parent: int, state: str) -> str | None:
        if node.number in self._states:
            return None
        verdict = verdict_of(node, parent, state)
        if verdict is not None:
            return verdict
        if node.call is not None:
            self._start(node)
            return None
        self._pending[node.number] -= 1
        return "c" if self._pending[node.number] <= 0 else None

    def _start(self, node: Node) -> None:
        assert node.call is not None
        gets = None if node.gets is None else self._reference(node.gets)
        if isinstance(gets, str) and node.on_error:
            gets = int(gets[1:])  # an error callback gets an `UpstreamFailed` in any case
        number, step = self._execution.ask_for_step(node.call, gets=gets, on_error=node.on_error and gets is not None)
        self._steps[node.number] = number
        self._running[node.number] = step
        step.add_done_callback(partial(self._step_ended, node.number))

    def _step_ended(self, number: int, step: asyncio.Future[Any]) -> None:
        self._running.pop(number, None)
        if step.cancelled():
            return
        error = step.exception()
        if not self._finished.done():
            self._ended[number] = step.result() if error is None else error
        try:
            self._end(number, "c" if error is None else "f")
        except Exception as refused:  # the next step cannot be asked for
            if not self._finished.done():
                self._finished.set_exception(refused)
        self._finish_if_ended()

    def _finish_if_ended(self) -> None:
        callback_runs = any(self._nodes[number].is_callback for number in self._running)
        if self._graph.output in self._states and not callback_runs and not self._finished.done():
            self._finished.set_result(None)

    # -- values ---------------------------------------------------------------------------------------------------

    def _reference(self, number: int) -> Reference:
        """A reference to the value of a node that has ended; the worker of the next step reads it."""
        state, node = self._states[number], self._nodes[number]
        if state[0] == "u":
            return f"u{self._steps[int(state[1:])]}"
        return self._steps[number] if node.values is None else [self._reference(each) for each in node.values]

    def _value(self, number: int, ended: dict[int, Any]) -> Any:
        """The value of a node that has ended; the exception if it did not complete."""
        state, node = self._states[number], self._nodes[number]
        if state[0] == "u":
            fault = int(state[1:])
            call = self._nodes[fault].call
            assert call is not None
            return UpstreamFailed(node_id(self._execution.flow_id, self._steps[fault]), call.name, ended[fault])
        return ended[number] if node.values is None else [self._value(each, ended) for each in node.values]
