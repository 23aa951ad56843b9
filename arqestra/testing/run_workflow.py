"""`run_workflow`: a workflow from its beginning to its end in a test, without a server, and in no time.

The function runs in the `Execution` of production. What surrounds it there is simulated (`simulated_world.py`): steps
end with the answers of the test, timers are over at once and move the workflow's clock, signals come when they are
waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, cast

from ..definitions.durations import Duration, seconds_of
from ..definitions.rules import is_text
from ..definitions.signature import Signature
from ..errors import ArgumentsError
from ..flow.workflow import WorkflowFunction
from ..protocol.clock import timestamp_ms
from ..protocol.serializers import Serializer, serializer_of
from .answers import Answers
from .simulated_world import Signal, SimulatedWorld
from .workflow_outcome import WorkflowOutcome

__all__ = ("Signal", "run_workflow")


async def run_workflow(
    function: WorkflowFunction[..., Any] | Signature[Any],
    /,
    *args: Any,
    answers: Mapping[Any, Any] | None = None,
    signals: Iterable[Any] = (),
    start: datetime | None = None,
    until: Duration | None = None,
    abort_after: Duration | None = None,
    _job_id: str = "test",
    _serializer: str | Serializer | None = None,
    **kwargs: Any,
) -> WorkflowOutcome:
    """Run a workflow to its end, without a server; the time that passes in it takes none here.

    Arguments, answers and signals go through the serializer, and are coerced to type hints, as in production. A step
    ends at once, in the order in which the workflow asked for it, unless its answer is in `takes(...)`. A workflow
    that runs as a step, and has no answer, runs too. Side effects are called, unless there is an answer. Middleware,
    hooks, limits and retries of the steps play no part: an answer is how a step ends at last.

    :param function: made by `@workflow`; or a call of it, `order.s(...)`, for arguments of whatever name
    :param args: its arguments after the flow
    :param answers: what steps give: job function (or name) -> a value; an exception, or its class, that the step
        raises; a callable, plain or async, that is called with the step's arguments and gives the value, raises, or
        gives the outcome of `perform`; a job function, which is performed; a list of such for successive calls. A value
        that is a list goes into a list, `[[1, 2]]`, or into a lambda.
        `asyncio.CancelledError` aborts the step
    :param signals: names, pairs of name and value, or `Signal(...)`; each is received once, in this order
    :param start: the workflow's time at its beginning, with time zone; default now
    :param until: leave the workflow where it is after so much of its time: its state is "waiting" then
    :param abort_after: abort the workflow after so much of its time
    :param _job_id: its id; with `start` the seed of `flow.random` and `flow.uuid`
    :param _serializer: the workers'; default pickle
    :param kwargs: its keyword arguments
    :returns: how it ended, its steps and the time that passed; `result()` gives the value or raises
    :raises AssertionError: a step has no answer, or the workflow waits for something that never comes; what a callable
        in `answers` raises as such is raised here too
    :raises ArgumentsError, SettingsError, SerializationError: what was given is wrong
    """
    call = _call_of(function, args, kwargs)
    start_ms = _start_ms(start)
    world = SimulatedWorld(
        answers=Answers({} if answers is None else answers),
        serializer=serializer_of(_serializer),
        start_ms=start_ms,
        until_ms=None if until is None else start_ms + _ms(until, "until"),
    )
    world.send(signals)
    root = world.add(call, _checked_id(_job_id))
    if abort_after is not None:
        world.at(start_ms + _ms(abort_after, "abort_after"), partial(world.abort, root))
    try:
        await world.live(root)
        return world.outcome_of(root)
    finally:
        world.close()


def _call_of(
    function: WorkflowFunction[..., Any] | Signature[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Signature[Any]:
    if isinstance(function, Signature):
        if args or kwargs:
            raise ArgumentsError("run_workflow: expected the arguments in the call, order.s(...), got some beside it")
        call = function
    else:
        call = Signature(function, args, kwargs)
    if not isinstance(call.function, WorkflowFunction):
        raise ArgumentsError(f"run_workflow: expected a function made by @workflow, got {call.function!r}")
    call.function.check_arguments(call.args, call.kwargs)
    return call


def _checked_id(job_id: Any) -> str:
    if not is_text(job_id):
        raise ArgumentsError(f"run_workflow: _job_id: expected a str of at least one character, got {job_id!r}")
    return cast(str, job_id)


def _start_ms(start: datetime | None) -> int:
    if start is None:
        return timestamp_ms()
    if not isinstance(start, datetime) or start.tzinfo is None:
        raise ArgumentsError(f"run_workflow: start: expected a datetime with time zone, got {start!r}")
    return round(start.timestamp() * 1000)


def _ms(duration: Duration, what: str) -> int:
    return round(seconds_of(duration, f"run_workflow: {what}", zero=True) * 1000)
