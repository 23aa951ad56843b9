"""`arqestra workflows`: flows, which are graphs of jobs, and durable workflows."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from arq.jobs import ResultNotFound

from ..flow.handle import FlowProgress
from ..protocol.keys import DEFAULT_QUEUE
from ..store.read_flows import FlowRecord, list_flows, read_flow
from .arguments import json_value
from .confirm import DryRun, Yes, confirmed
from .output import ago, iso, when
from .shell import FAILED, Shell, Stop, command
from .workflow_export import export

__all__ = ("add_workflows",)

workflows_app = typer.Typer(
    no_args_is_help=True,
    help="Look at flows and workflows; cancel, retry and resume them; send events to workflows; export histories.",
)
Id = Annotated[str, typer.Argument(help="id of the flow or workflow")]
NODES_SHOWN = 200


def add_workflows(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(workflows_app, name="workflows")


async def list_workflows(
    shell: Shell,
    ended: Annotated[bool, typer.Option("--ended", help="those that have ended and are kept")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="how many at most")] = 50,
) -> None:
    """List flows that run, the latest first; with --queue those with jobs of it.

    A workflow that no worker has begun yet is a job: see `jobs list`.
    """
    ids = await list_flows(shell.pool.store, ended=ended, limit=limit)
    records = [(flow_id, await read_flow(shell.pool.store, flow_id)) for flow_id in ids]
    flows = [(record, await _document(shell, flow_id, record)) for flow_id, record in records if record is not None]
    if shell.chosen_queue is not None:
        flows = [(record, document) for record, document in flows if shell.chosen_queue in document["queues"]]
    shell.out.document({"workflows": [document for _, document in flows]})
    if not flows:
        shell.out.line("no flow has ended that is kept" if ended else "no flow runs")
        return
    now_ms = shell.now_ms()
    shell.out.table(
        ("id", "kind", "name", "status", "jobs ended", "states", "created"),
        (
            (
                *(each["id"], each["kind"], each["name"], each["status"], f"{each['done']} of {each['total']}"),
                *(_states(each["states"]), ago(_ms(record, "created"), now_ms)),
            )
            for record, each in flows
        ),
    )


async def show(
    shell: Shell,
    flow_id: Id,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="the graph as Mermaid text, for a picture")] = False,
) -> None:
    """Show a flow: how far it is, and the state of each of its jobs."""
    record = await _found(shell, flow_id)
    graph = await shell.pool.flow(flow_id).graph()
    if mermaid:
        shell.out.document({"id": flow_id, "mermaid": graph.mermaid()})
        shell.out.line(graph.mermaid())
        return
    document = await _document(shell, flow_id, record)
    shell.out.document({**document, "nodes": graph.nodes, "edges": graph.edges})
    now_ms = shell.now_ms()
    shell.out.fields(
        (
            ("id", flow_id),
            ("kind", document["kind"]),
            ("name", record.name),
            ("status", document["status"]),
            ("cancelled", record.cancelled),
            ("jobs ended", f"{document['done']} of {document['total']}"),
            ("states", _states(document["states"])),
            ("created", when(_ms(record, "created"), now_ms)),
            ("ended", when(_ms(record, "ended"), now_ms)),
            ("events", document["events"] or None),
            ("replays", document["replays"] or None),
            ("blocked by code", document["blocked"] or None),
        )
    )
    jobs = [node for node in graph.nodes if node.kind == "job"]
    if jobs:
        before = {
            node.number: ", ".join(str(edge.before) for edge in graph.edges if edge.after == node.number)
            for node in graph.nodes[:NODES_SHOWN]
        }
        shell.out.line()
        shell.out.table(
            ("number", "function", "state", "after", "queue", "job"),
            (
                (node.number, "(join)" if node.kind == "join" else node.function, node.state, before[node.number])
                + (("", "") if node.kind == "join" else (node.queue, node.job_id))
                for node in graph.nodes[:NODES_SHOWN]
            ),
            right=("number",),
        )
    if len(graph.nodes) > NODES_SHOWN:
        shell.out.note(f"the first {NODES_SHOWN} of {len(graph.nodes):,}; --json has all")


async def cancel(
    shell: Shell,
    flow_id: Id,
    reason: Annotated[str, typer.Option(help="kept with the flow")] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Abort what runs of a flow and drop what waits. The exit code is 1 if it had ended or is not there."""
    await _found(shell, flow_id)
    if not confirmed(shell, f"cancel flow {flow_id}", yes=yes, dry_run=dry_run, document={"id": flow_id}):
        return
    if not await shell.pool.flow(flow_id).cancel(reason or "cancelled from the command line"):
        raise Stop(f"flow {flow_id} had ended", FAILED)
    shell.out.document({"id": flow_id, "outcome": "cancelled"})
    shell.out.line(f"flow {flow_id}: cancelled")


async def retry(shell: Shell, flow_id: Id) -> None:
    """Run the jobs of a flow that did not complete once more, and what hangs on them; a failed workflow from its start.

    The exit code is 1 if it runs or is not there.
    """
    record = await _found(shell, flow_id)
    if record.kind == "w":
        await shell.pool.job(flow_id, queue=record.fields.get("queue", shell.queue)).retry()
        shell.out.document({"id": flow_id, "outcome": "queued"})
        shell.out.line(f"workflow {flow_id}: queued")
        return
    count = await shell.pool.flow(flow_id).retry()
    shell.out.document({"id": flow_id, "outcome": "queued", "jobs": count})
    shell.out.line(f"flow {flow_id}: {count} job{'' if count == 1 else 's'} run again")


async def resume(shell: Shell, flow_id: Id) -> None:
    """Go on with a workflow that failed or was aborted, at its failed step; what was before it is not run again.

    Of a graph, as retry, with the workflows among its jobs resumed. The exit code is 1 if it runs, completed or is not
    there.
    """
    record = await _found(shell, flow_id)
    count = await shell.pool.flow(flow_id).resume()
    shell.out.document({"id": flow_id, "outcome": "queued", "jobs": count})
    kind = "workflow" if record.kind == "w" else "flow"
    what = f"{count} {'step' if record.kind == 'w' else 'job'}{'' if count == 1 else 's'}"
    shell.out.line(f"{kind} {flow_id}: resumed, {what} tried anew")


async def signal(
    shell: Shell,
    flow_id: Annotated[str, typer.Argument(help="id of the workflow")],
    event: Annotated[str, typer.Argument(help="name of the event, as the workflow waits for it")],
    value: Annotated[str | None, typer.Option(help="what it carries, as JSON: '{\"paid\": true}'")] = None,
    key: Annotated[str | None, typer.Option(help="sent again with the same key, it counts once")] = None,
) -> None:
    """Send an event to a durable workflow. The exit code is 1 if there is no such workflow, or it has ended."""
    if not await shell.pool.signal(flow_id, event, json_value(value, "--value"), queue=shell.queue, key=key):
        raise Stop(
            f"there is no workflow {flow_id!r} that could get it; it may have ended, or be a graph or a job", FAILED
        )
    shell.out.document({"id": flow_id, "event": event, "outcome": "sent"})
    shell.out.line(f"workflow {flow_id}: {event} sent")


async def _found(shell: Shell, flow_id: str) -> FlowRecord:
    record = await read_flow(shell.pool.store, flow_id)
    if record is None:
        raise Stop(f"there is no flow {flow_id!r}; it may not be kept any more, or no worker has begun it", FAILED)
    return record


async def _document(shell: Shell, flow_id: str, record: FlowRecord) -> dict[str, Any]:
    flow = shell.pool.flow(flow_id)
    try:
        progress = await flow.progress()
    except ResultNotFound:
        progress = FlowProgress(0, 0, 0, 0, {})
    return {
        "id": flow_id,
        "kind": "workflow" if record.kind == "w" else "graph",
        "name": record.name,
        "status": await flow.status(),
        "queues": [queue for queue in record.fields.get("queues", DEFAULT_QUEUE).split("\n") if queue],
        "total": progress.total,
        "done": progress.done,
        "active": progress.active,
        "waiting": progress.waiting,
        "states": dict(progress.states),
        "events": progress.events,
        "replays": progress.replays,
        "blocked": progress.blocked,
        "cancelled": record.cancelled,
        "created": iso(_ms(record, "created")),
        "ended": iso(_ms(record, "ended")),
    }


def _ms(record: FlowRecord, name: str) -> float | None:
    text = record.fields.get(name)
    return float(text) if text else None


def _states(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items())


command(workflows_app, "list")(list_workflows)
command(workflows_app, "show", of_a_queue=False)(show)
command(workflows_app, "cancel", of_a_queue=False)(cancel)
command(workflows_app, "retry")(retry)
command(workflows_app, "resume")(resume)
command(workflows_app, "signal")(signal)
command(workflows_app, "export", of_a_queue=False)(export)
