"""`arqestra workflows export`: histories of workflows as files, for replay tests."""

import contextlib
import hashlib
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from arq.jobs import ResultNotFound

from ..flow.export import MAX_EXPORTED, export_workflow, find_workflows
from .shell import FAILED, USAGE, Shell, Stop

__all__ = ("export",)

LONGEST_NAME = 200  # of a file, without its ending


async def export(
    shell: Shell,
    flow_id: Annotated[str | None, typer.Argument(help="id of the workflow; or give --function")] = None,
    function: Annotated[str | None, typer.Option(help="the latest runs of this workflow function")] = None,
    last: Annotated[int, typer.Option(min=1, max=MAX_EXPORTED, help="with --function: how many at most")] = 100,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="file to write; with --function: folder, one file for each run"),
    ] = None,
) -> None:
    """Export the history of a workflow, or of the latest runs of a function, for a replay in tests.

    The files hold arguments and results as they are: nothing in them is masked. The exit code is 1 if there is no such
    workflow, or if a run could not be exported.
    """
    if (flow_id is None) == (function is None):
        raise Stop("expected the id of a workflow, or --function with its name", USAGE)
    if flow_id is not None:
        await _export_one(shell, flow_id, output)
        return
    if output is None:
        raise Stop("--function: expected --output with the folder to write to", USAGE)
    await _export_latest(shell, str(function), last, output)


async def _export_one(shell: Shell, flow_id: str, output: Path | None) -> None:
    document = await export_workflow(shell.pool.store, shell.pool.serializer, flow_id)
    if output is None:
        typer.echo(_text_of(document), nl=False)
        return
    _write(output, document)
    shell.out.document({"id": flow_id, "file": str(output)})
    count = len(document["events"])
    shell.out.line(f"workflow {flow_id}: {count} event{'' if count == 1 else 's'} in {output}")


async def _export_latest(shell: Shell, function: str, last: int, folder: Path) -> None:
    store, serializer = shell.pool.store, shell.pool.serializer
    found = await find_workflows(store, function, last)
    written: dict[str, str] = {}
    missing: dict[str, str] = {}
    for flow_id in found.ids:
        path = folder / file_name(flow_id)
        try:
            _write(path, await export_workflow(store, serializer, flow_id))
        except ResultNotFound as gone:
            missing[flow_id] = str(gone)
            shell.out.note(str(gone))
        else:
            written[flow_id] = str(path)
    shell.out.document({"exported": written, "missing": missing, "all_seen": found.all_seen})
    shell.out.line(f"{len(written)} run{'' if len(written) == 1 else 's'} of {function} in {folder}")
    if not found.all_seen:
        shell.out.note("there are so many flows that only the latest were looked at")
    if missing or not written:
        raise Stop(f"{len(missing)} could not be exported" if missing else f"no run of {function!r} is kept", FAILED)


def file_name(flow_id: str) -> str:
    """A name for the file of a workflow; its id may hold anything."""
    name = quote(flow_id, safe=" ~@+=,")
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"{name}.json"


def _text_of(document: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write a file whole, or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(_text_of(document), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise Stop(f"{path}: {error.strerror or error}", FAILED) from None
