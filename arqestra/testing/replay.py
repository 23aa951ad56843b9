"""`replay`: whether the code of a workflow fits a history that was exported from production.

It runs the function against the history as a worker does, by the same `Execution`. No server, no event loop and no job
is needed: the ends of steps are in the history. What it finds is what a worker would find after the deploy: a workflow
that does not fit is blocked by code (docs/workflows.md).

A history in pickle is as trustworthy as where it was exported from: reading it runs what it says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from arq.jobs import SerializationError

from ..client.pool import MAX_PAYLOAD_BYTES
from ..definitions.coerce import ArgumentCoercer
from ..errors import ArgumentsError
from ..flow.encode import NodeEncoder
from ..flow.execution import ContinueAsNew, Execution
from ..flow.history_document import WorkflowExport
from ..flow.orchestrator import Flow
from ..flow.workflow import WorkflowFunction
from ..protocol.keys import DEFAULT_QUEUE
from ..protocol.serializers import Serializer
from ..worker.run.blocked import does_not_fit
from ..worker.run.outcome import State
from ..worker.run.workflow_call import coerced_arguments, outcome_of_error
from .histories import LoadedHistory, arguments_of, load_histories, load_history, serializer_for

__all__ = ("Replay", "ReplayState", "assert_replays", "replay", "replay_all")

ReplayState = Literal["waiting", "complete", "failed", "aborted", "continued as new", "blocked"]
MAX_SHOWN = 20  # misfits in the text of one failure


@dataclass(frozen=True)
class Replay:
    """What a replay found.

    :ivar fits: whether the code fits the history
    :ivar problem: why not, in the words of a workflow that is blocked by code; "" if it fits
    :ivar flow_id, function: which workflow it is, and the name of its function
    :ivar source: the file of the history, if it is of one
    :ivar events: in the history
    :ivar seen: events that were brought in before the end, or before what does not fit
    :ivar decided: steps, timers, side effects and patches that the code asked for by then
    :ivar state: how far it came: "waiting" for what comes next, or how it ended; "blocked" if it does not fit
    :ivar value: what the function returned; the arguments of `continue_as_new`
    :ivar error: what the function raised, if it has failed or was aborted; the error of new code that does not fit
    :ivar waits_for: names of the events that it waits for
    :ivar recorded: how the run itself stood when it was exported: "running", "complete" or "failed"
    :ivar expected: of a difference: what the history has there
    :ivar got: what the code asks for now
    """

    fits: bool
    problem: str
    flow_id: str
    function: str
    source: str = ""
    events: int = 0
    seen: int = 0
    decided: int = 0
    state: ReplayState = "blocked"
    value: Any = None
    error: BaseException | None = None
    waits_for: tuple[str, ...] = ()
    recorded: str = ""
    expected: str = ""
    got: str = ""

    def __str__(self) -> str:
        named = f"workflow {self.flow_id} ({self.function})" + (f" in {self.source}" if self.source else "")
        if self.fits:
            return f"{named}: fits, {self.state} after {self.seen} events"
        if not self.expected:
            return f"{named}: {self.problem}"
        return (
            f"{named}: after event {self.seen} of {self.events} the history has {self.expected}, "
            f"the code has {self.got}"
        )


def replay(function: WorkflowFunction[..., Any], history: Any, *, serializer: str | Serializer | None = None) -> Replay:
    """Run the code of a workflow against a history, and say whether it fits. Call it with or without an event loop.

    No job and no side effect runs. Code that ran before runs once more, with `flow.replaying` true.

    :param function: made by `@workflow`
    :param history: a document of `pool.export_workflow`, its JSON text, or the path of a file with it
    :param serializer: the workers', if it is one of your own; the history knows the others
    :returns: what was found
    :raises ArgumentsError: the function is no workflow, or the history is none
    """
    _check_function(function)
    source, export = load_history(history)
    if export.function != function.name:
        return _unknown(source, export)
    chosen = serializer_for(export, serializer)
    try:
        execution = _begin(function, export, chosen)
    except SerializationError as unreadable:  # also that of a class that is not there any more
        cause = unreadable.__cause__
        why = f"{unreadable}: {type(cause).__name__}: {cause}" if cause is not None else str(unreadable)
        return _misfit(source, export, why, unreadable)
    except _Uncallable as uncallable:
        return _misfit(source, export, str(does_not_fit(export.flow_id, uncallable.error)), uncallable.error)
    try:
        execution.replay()
        return _found(source, export, execution, function)
    finally:
        execution.discard()


class _Uncallable(Exception):
    """The function cannot be called with the arguments of the history."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _check_function(function: Any) -> None:
    if not isinstance(function, WorkflowFunction):
        raise ArgumentsError(f"replay: expected a function made by @workflow, got {function!r}")


def _begin(function: WorkflowFunction[..., Any], export: WorkflowExport, serializer: Serializer) -> Execution:
    args, kwargs, own_kwargs = arguments_of(export, serializer)
    coercer = ArgumentCoercer(function.coroutine) if serializer.plain else None
    encoder = NodeEncoder(serializer, DEFAULT_QUEUE, MAX_PAYLOAD_BYTES)
    try:
        args, kwargs = coerced_arguments(coercer, args, kwargs, own_kwargs)  # type: ignore[assignment]
        return Execution(
            function.coroutine,
            args,
            kwargs,
            flow=Flow,
            flow_id=export.flow_id,
            serializer=serializer,
            encode=lambda call, number, gets, on_error: encoder.record(
                call, export.flow_id, number, gets=gets, on_error=on_error
            ),
            history=export.history,
        )
    except Exception as error:
        raise _Uncallable(error) from error


def _unknown(source: str, export: WorkflowExport) -> Replay:
    """A worker that does not have the function is blocked, too."""
    return _misfit(source, export, f"function {export.function!r} not found", None)


def _misfit(source: str, export: WorkflowExport, problem: str, error: BaseException | None) -> Replay:
    return Replay(
        fits=False,
        problem=problem,
        flow_id=export.flow_id,
        function=export.function,
        source=source,
        events=len(export.history.events),
        error=error,
        recorded=export.status,
    )


def _found(source: str, export: WorkflowExport, execution: Execution, function: WorkflowFunction[..., Any]) -> Replay:
    failure, mismatch = execution.failure, execution.mismatch
    state, value, error = _end_of(execution, function)
    return Replay(
        fits=failure is None,
        problem="" if failure is None else str(failure),
        flow_id=export.flow_id,
        function=export.function,
        source=source,
        events=len(export.history.events),
        seen=execution.seen,
        decided=execution.decided,
        state=state,
        value=value,
        error=error,
        waits_for=() if execution.done else tuple(execution.waited_for()),
        recorded=export.status,
        expected="" if mismatch is None else mismatch.expected,
        got="" if mismatch is None else mismatch.got,
    )


def _end_of(
    execution: Execution, function: WorkflowFunction[..., Any]
) -> tuple[ReplayState, Any, BaseException | None]:
    """How far it has come, with the value or the error."""
    if execution.failure is not None:
        return "blocked", None, execution.failure.__cause__
    if not execution.done:
        return "waiting", None, None
    try:
        return "complete", execution.value(), None
    except ContinueAsNew as anew:
        return "continued as new", anew.arguments, None
    except BaseException as error:
        outcome = outcome_of_error(execution, error, function.life_s)
        return "aborted" if outcome.state is State.ABORTED else "failed", None, outcome.value


def replay_all(
    functions: WorkflowFunction[..., Any] | Iterable[Any],
    histories: Any,
    *,
    serializer: str | Serializer | None = None,
) -> list[Replay]:
    """Replay each of several histories with the function that it names.

    :param functions: one workflow function, or all functions of a worker
    :param histories: a folder (every `.json` file below it), a collection of histories, what `pool.export_workflows`
        has returned, or one history as `replay` takes it
    :param serializer: the workers', if it is one of your own
    :returns: what was found, in the order of the histories; one whose function is not among these does not fit
    :raises ArgumentsError: there is no history, or one that is none
    """
    known = {each.name: each for each in _each_function(functions)}
    found = []
    for loaded in load_histories(histories):
        function = known.get(loaded.export.function)
        found.append(
            _unknown(*loaded) if function is None else replay(function, LoadedHistory(*loaded), serializer=serializer)
        )
    return found


def _each_function(functions: Any) -> list[WorkflowFunction[..., Any]]:
    """The workflows among functions; others of a worker are passed over."""
    given = [functions] if isinstance(functions, WorkflowFunction) or not isinstance(functions, Iterable) else functions
    found = [each for each in given if isinstance(each, WorkflowFunction)]
    if not found:
        raise ArgumentsError(f"replay: expected at least one function made by @workflow, got {functions!r}")
    return found


def assert_replays(
    functions: WorkflowFunction[..., Any] | Iterable[Any],
    histories: Any,
    *,
    serializer: str | Serializer | None = None,
) -> list[Replay]:
    """Replay histories, and fail unless the code fits all of them. Parameters and errors: `replay_all`.

    :returns: what was found
    :raises AssertionError: for each history that does not fit it has the workflow's id, the number of the event, what
        the history has there and what the code asks for now
    """
    found = replay_all(functions, histories, serializer=serializer)
    misfits = [each for each in found if not each.fits]
    if misfits:
        lines = [f"  {each}" for each in misfits[:MAX_SHOWN]]
        if len(misfits) > MAX_SHOWN:
            lines.append(f"  and {len(misfits) - MAX_SHOWN} more")
        count = f"{len(misfits)} of {len(found)}" if len(found) > 1 else "the"
        noun = "histories do" if len(found) > 1 else "history does"
        raise AssertionError("\n".join([f"{count} {noun} not fit the code:", *lines]))
    return found
