"""What a `FlowHandle` tells of a flow: how far it is, what changed, its graph as a picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ("STATES", "Edge", "FlowEvent", "FlowGraph", "FlowNode", "FlowProgress", "FlowStatus", "NodeState")

FlowStatus = Literal["running", "complete", "failed", "cancelled", "not_found"]
NodeState = Literal[
    "waiting", "queued", "running", "complete", "failed", "aborted", "expired", "upstream_failed", "skipped"
]
STATES: dict[str, NodeState] = {
    **{"": "waiting", "q": "queued", "c": "complete", "f": "failed", "a": "aborted", "x": "expired"},
    **{"u": "upstream_failed", "s": "skipped", "d": "aborted"},
}


@dataclass(frozen=True, slots=True)
class FlowProgress:
    """How far a flow has come.

    :ivar total: jobs in it
    :ivar done: jobs that have ended, in whatever way
    :ivar active: jobs that are queued or run
    :ivar waiting: jobs that wait for other jobs of the flow
    :ivar states: how many jobs ended in which state
    :ivar events: length of a workflow's history
    :ivar replays: how many times a workflow was run from the top
    :ivar blocked: why a workflow's code does not fit its history; "" if it fits
    """

    total: int
    done: int
    active: int
    waiting: int
    states: Mapping[str, int]
    events: int = 0
    replays: int = 0
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class FlowEvent:
    """A change in a flow.

    :ivar number: the node's number; 0 for the flow as a whole
    :ivar state: the node's new state; "ended" for the flow
    """

    number: int
    job_id: str
    function: str
    state: str


@dataclass(frozen=True, slots=True)
class FlowNode:
    """A job or a join of a flow's graph.

    :ivar kind: "job" or "join"
    :ivar fault: the number of the job at fault, if the state is "upstream_failed"
    """

    number: int
    kind: str
    job_id: str
    function: str
    queue: str
    state: NodeState
    fault: int | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """One node comes before another.

    :ivar on_error: the second runs only if the first failed
    """

    before: int
    after: int
    on_error: bool = False


@dataclass(frozen=True, slots=True)
class FlowGraph:
    """Nodes and edges with their states."""

    nodes: tuple[FlowNode, ...]
    edges: tuple[Edge, ...]

    def mermaid(self) -> str:
        """As Mermaid text, for a picture (https://mermaid.js.org/syntax/flowchart.html)."""
        lines = ["flowchart TD"]
        for node in self.nodes:
            if node.kind == "join":
                lines.append(f"    n{node.number}(( )):::{node.state}")
            else:
                lines.append(f'    n{node.number}["{_mermaid_text(node.function)}"]:::{node.state}')
        for edge in self.edges:
            lines.append(f"    n{edge.before} {'-. error .->' if edge.on_error else '-->'} n{edge.after}")
        lines += [f"    classDef {state} fill:{colour}" for state, colour in _COLOURS.items()]
        return "\n".join(lines)


_COLOURS = {
    **{"waiting": "#eeeeee", "queued": "#cfe2ff", "running": "#9ec5fe", "complete": "#a3cfbb", "failed": "#f1aeb5"},
    **{"aborted": "#e9c46a", "expired": "#e9c46a", "upstream_failed": "#f8d7da", "skipped": "#dee2e6"},
}


def _mermaid_text(text: str) -> str:
    return "".join(char if char.isalnum() or char in " ._-:" else f"#{ord(char)};" for char in text)
