"""A canvas as a graph of numbered nodes, checked before anything is stored.

Node 0 is the source: its children start first. A *job* has at most one parent. A *join* is no job: a group ends in one,
and its value is the list of its parents' values. So a chain of two groups of 100 has 200 edges and a join, and not
10,000 edges. A node refers to a value by a node's number, and never copies it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import ArgumentsError, GraphError
from .signature import Canvas, Chain, Group, Signature

__all__ = ("Graph", "Node", "graph_of", "verdict_of", "wish_of")

MAX_NODES = 1_000_000


@dataclass(slots=True)
class Node:
    """A node of a graph.

    :ivar call: None if it is a join or the source
    :ivar parents: the nodes that it waits for
    :ivar values: the nodes whose values a join lists; None if it is no join
    :ivar gets: the node whose value is its first argument; None if it gets none
    :ivar on_error: it runs only if its parent failed
    :ivar is_callback: it belongs to a callback (`link`, `link_error`); the flow's result does not wait for it
    """

    number: int
    call: Signature[Any] | None = None
    parents: list[int] = field(default_factory=list)
    values: list[int] | None = None
    children: list[int] = field(default_factory=list)
    gets: int | None = None
    on_failure: str = "fail"
    on_error: bool = False
    is_callback: bool = False


@dataclass(slots=True)
class Graph:
    """The nodes of a canvas.

    :ivar nodes: by number
    :ivar output: the node whose value is the flow's result
    """

    nodes: list[Node]
    output: int

    @property
    def output_nodes(self) -> set[int]:
        """The nodes whose values make the flow's result: the output, and what it lists."""
        found: set[int] = set()
        pending = [self.output]
        while pending:
            number = pending.pop()
            found.add(number)
            pending += self.nodes[number].values or ()
        return found

    @property
    def jobs(self) -> Iterator[Node]:
        return (node for node in self.nodes if node.call is not None)

    @property
    def first_jobs(self) -> Iterator[Node]:
        """The jobs that start with the flow. Only empty groups may come before them."""
        started = {0}
        for node in self.nodes[1:]:  # parents have lower numbers
            if started.issuperset(node.parents):
                if node.call is not None:
                    yield node
                else:
                    started.add(node.number)


def graph_of(canvas: Canvas[Any]) -> Graph:
    """The graph of a canvas.

    :raises GraphError: an id chosen twice, too many nodes, or nested too deeply
    :raises ArgumentsError: arguments that do not fit a function, its parent's result among them
    """
    builder = _Builder()
    try:
        output = builder.add(canvas, 0, "fail")
    except RecursionError:
        raise GraphError("expected a canvas nested less deeply: chains and groups hold each other too often") from None
    for node in builder.nodes:
        for parent in node.parents or ([0] if node.number else []):
            builder.nodes[parent].children.append(node.number)
    return Graph(builder.nodes, output)


class _Builder:
    def __init__(self) -> None:
        self.nodes = [Node(0)]
        self._ids: set[str] = set()
        self._in_callback = 0

    def add(self, canvas: Canvas[Any], before: int, wanted: str, *, on_error: bool = False) -> int:
        """Add a canvas after a node; returns the node that stands for its result.

        :param wanted: what the next canvas wants if this one fails: "fail" or "continue"
        :param on_error: it runs only if the node before it failed
        """
        if isinstance(canvas, Signature):
            end = self._job(canvas, before, on_error)
        elif isinstance(canvas, Chain):
            end = before
            for i, part in enumerate(canvas.parts):
                follows = canvas.parts[i + 1] if i + 1 < len(canvas.parts) else None
                end = self.add(part, end, wish_of(follows) if follows else wanted, on_error=on_error and i == 0)
        elif isinstance(canvas, Group):
            policy = canvas.on_failure or wanted
            ends = [self.add(part, before, policy, on_error=on_error) for part in canvas.parts]
            waits_for = ends or ([before] if before else [])  # an empty group waits for the node before it
            end = self._new(Node(0, parents=waits_for, values=ends, on_failure=policy, on_error=on_error and not ends))
        else:
            raise GraphError(f"expected a signature, chain or group, got {canvas!r}")
        self._in_callback += 1
        for errback in canvas.errbacks:
            self.add(errback, end, "fail", on_error=True)
        for callback in canvas.links:
            self.add(callback, end, "fail")
        self._in_callback -= 1
        return end

    def _job(self, call: Signature[Any], before: int, on_error: bool) -> int:
        gets = None if call.immutable or before == 0 else before
        check = getattr(call.function, "check_arguments", None)
        if check is not None:
            check((_FromParent(), *call.args) if gets is not None else call.args, call.kwargs)
        elif not isinstance(call.function, str):
            raise ArgumentsError(f"signature: expected a job function or a name, got {call.function!r}")
        job_id = call.options.job_id
        if job_id is not None:
            if job_id in self._ids:
                raise GraphError(f"expected each job_id once in a flow, got {job_id!r} twice")
            self._ids.add(job_id)
        node = Node(0, call, [before] if before else [], gets=gets, on_error=on_error)
        node.on_failure = "continue" if on_error else call.options.on_failure or "fail"
        return self._new(node)

    def _new(self, node: Node) -> int:
        if len(self.nodes) > MAX_NODES:
            raise GraphError(f"expected at most {MAX_NODES} nodes in a flow, got more")
        node.number = len(self.nodes)
        node.is_callback = self._in_callback > 0
        self.nodes.append(node)
        return node.number


def wish_of(canvas: Canvas[Any]) -> str:
    """What a canvas wants if the node before it fails: "continue" if all its first calls take exceptions."""
    wishes = {head.options.on_failure for head in canvas.heads()}
    return "continue" if wishes == {"continue"} else "fail"


def verdict_of(node: Node, parent: int, state: str) -> str | None:
    """What the end of a parent means for a node. `state_by_parent` in `store/lua/_flow_nodes.lua` says the same in Lua.

    :param parent: its number
    :param state: how it ended, as `store/lua/_flow.lua` writes it; "f" for whatever did not complete
    :returns: the state in which the node ends without running; None if the parent only counts: when all have, the node
        runs (a join ends)
    """
    complete, skipped = state[0] == "c", state[0] == "s"
    if node.on_error:
        return "s" if complete or skipped else None
    if skipped:
        return "s"
    if complete or node.on_failure == "continue":
        return None
    return state if state[0] == "u" else f"u{parent}"


class _FromParent:
    """Stands for the parent's result in messages about arguments."""

    def __repr__(self) -> str:
        return "<result of the parent>"
