"""Histories of workflows as a test has them: documents, JSON texts, files, or a folder of files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..errors import ArgumentsError
from ..flow.export import WorkflowExports
from ..flow.history_document import WorkflowExport, decode_document
from ..protocol.serializers import Serializer, serializer_of
from ..protocol.wire import decode_payload

__all__ = ("Arguments", "LoadedHistory", "arguments_of", "load_histories", "load_history", "serializer_for")


class LoadedHistory(NamedTuple):
    """A history, and where it was read from: a file, or "" of a document."""

    source: str
    export: WorkflowExport


class Arguments(NamedTuple):
    """What the function of a workflow was called with.

    :ivar own_kwargs: the keywords that its caller gave, without those that wrappers of the enqueue added
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    own_kwargs: dict[str, Any]


def load_history(history: Any) -> LoadedHistory:
    """One history.

    :param history: a document, its JSON text, or the path of a file that holds it
    :raises ArgumentsError: it is none of these
    """
    if isinstance(history, LoadedHistory):
        return history
    if isinstance(history, bytes | bytearray) or (isinstance(history, str) and history.lstrip().startswith("{")):
        return LoadedHistory("", decode_document(_of_json(history, "the text")))
    if isinstance(history, str | os.PathLike):
        return _of_file(Path(history))
    return LoadedHistory("", decode_document(history))


def load_histories(histories: Any) -> Iterator[LoadedHistory]:
    """Several histories, one at a time: those of a folder (every `.json` file below it), or of a collection.

    :raises ArgumentsError: there is none, or one of them is no history
    """
    found = False
    for each in _each(histories):
        found = True
        yield load_history(each)
    if not found:
        raise ArgumentsError(f"expected at least one history, got none in {_shown(histories)}")


def _each(histories: Any) -> Iterable[Any]:
    if isinstance(histories, WorkflowExports):
        return histories.histories
    if isinstance(histories, str | os.PathLike) and not str(histories).lstrip().startswith("{"):
        path = Path(histories)
        return sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if isinstance(histories, dict | str | bytes | bytearray | LoadedHistory):
        return [histories]
    if not isinstance(histories, Iterable):
        raise ArgumentsError(f"expected a history, a collection of them or a folder, got {_shown(histories)}")
    return histories


def _of_file(path: Path) -> LoadedHistory:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ArgumentsError(
            f"history {path}: {error.strerror or error}; expected a document, its JSON or a path"
        ) from None
    try:
        return LoadedHistory(str(path), decode_document(_of_json(text, "the file")))
    except ArgumentsError as error:
        raise ArgumentsError(f"{path}: {error}") from None


def _of_json(text: str | bytes | bytearray, what: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ArgumentsError(f"history: {what} is no JSON: {error}") from None


def _shown(histories: Any) -> str:
    return repr(histories) if isinstance(histories, str | os.PathLike) else f"a {type(histories).__name__}"


def serializer_for(export: WorkflowExport, given: str | Serializer | None) -> Serializer:
    """The serializer that a history is of.

    :param given: what the caller says
    :raises ArgumentsError: it is one of the application's own, and none was given; or the two differ
    :raises SettingsError: there is none of that name
    """
    if given is None and export.serializer == "custom":
        raise ArgumentsError(
            f"history {export.flow_id}: it is of a serializer of your own: expected serializer=Serializer(...)"
        )
    serializer = serializer_of(export.serializer if given is None else given)
    if serializer.name != export.serializer:
        raise ArgumentsError(
            f"history {export.flow_id}: expected serializer {export.serializer!r}, as it was exported, "
            f"got {serializer.name!r}"
        )
    return serializer


def arguments_of(export: WorkflowExport, serializer: Serializer) -> Arguments:
    """The arguments of a workflow.

    :raises DeserializationError: this process cannot read them
    :raises ArgumentsError: the document does not have them
    """
    data = export.payload or export.result
    if data is None:
        raise ArgumentsError(f"history {export.flow_id}: expected a payload or a result in it, found neither")
    if export.payload is None:
        args, kwargs, options = _of_result(serializer, data)
    else:
        payload = decode_payload(serializer, data)
        args, kwargs, options = payload.args, payload.kwargs, payload.options
    if export.input is not None:
        args = (serializer.loads(export.input)["v"], *args)
    added = options.get("w") or ()
    return Arguments(args, kwargs, {name: value for name, value in kwargs.items() if name not in added})


def _of_result(serializer: Serializer, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    fields = serializer.loads(data)
    return tuple(fields["a"]), fields["k"], fields.get("o") or {}
