"""The steps of workflows in a test: their arguments as a job would get them, and how they end by the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from arq.jobs import SerializationError

from ..definitions.coerce import ArgumentCoercer
from ..definitions.function import ChunkOf
from ..definitions.redact import call_text
from ..definitions.retry import Cancel, Snooze
from ..definitions.signature import Signature
from ..errors import ArgumentsError
from ..flow.values import FlowValues
from ..protocol.keys import DEFAULT_QUEUE
from ..protocol.serializers import Serializer
from ..protocol.wire import JobEnd, encode_result
from ..store.flows import FlowStore, node_id
from ..worker.run.outcome import Outcome, State, asked_for, classify
from .answers import Answer, Answers
from .simulated_run import Asked, StepEnd
from .simulated_workflow import SimulatedWorkflow

__all__ = ("Call", "SimulatedSteps", "StartedStep", "queue_of")


class Call(NamedTuple):
    """A call of a job function, and its answer. A step is one call; a chunk has several."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: Answer


class StartedStep(NamedTuple):
    """A step that was asked for.

    :ivar args, kwargs: as its function would get them
    :ivar first: the first argument, if it gets one from the step before it
    :ivar calls: with their answers; None if it has none
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    first: tuple[Any, ...]
    calls: Sequence[Call] | None

    @property
    def delay_ms(self) -> int:
        """How long it takes."""
        return sum(call.answer.delay_ms for call in self.calls or ())


class SimulatedSteps:
    """How steps end.

    :param serializer: their arguments and results go through it
    """

    def __init__(self, answers: Answers, serializer: Serializer) -> None:
        self._answers = answers
        self._serializer = serializer

    async def step(self, workflow: SimulatedWorkflow, asked: Asked) -> StartedStep:
        """A step with its answers."""
        first = await self._first_argument(workflow, asked)
        args, kwargs = (*first, *asked.payload.args), asked.payload.kwargs
        try:
            calls = self._calls(asked.call, args, kwargs)
        except _Refused as refused:  # the arguments do not fit the type hints: the job would fail
            return StartedStep(args, kwargs, first, [Call(args, kwargs, Answer(refused.error, asked.call.name))])
        if calls is not None and not isinstance(asked.call.function, ChunkOf):
            args, kwargs = calls[0].args, calls[0].kwargs
        return StartedStep(args, kwargs, first, calls)

    async def _first_argument(self, workflow: SimulatedWorkflow, asked: Asked) -> tuple[Any, ...]:
        """What a step gets of the step before it."""
        options = asked.payload.options
        if "in" not in options:
            return ()
        values = FlowValues(cast(FlowStore, workflow), self._serializer, workflow.flow_id)
        read = values.failure if "er" in options else values.referred
        return (await read(options["in"]),)

    def _calls(self, call: Signature[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Call] | None:
        function = call.function
        if isinstance(function, ChunkOf):
            *before, name, given = args
            if name not in self._answers:
                return None
            return [self._call(name, function.function, (*before, *each), {}) for each in given]
        return [self._call(call.name, function, args, kwargs)] if call.name in self._answers else None

    def _call(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        target = getattr(function, "target", None)
        if target is not None and self._serializer.plain:
            try:
                args, kwargs = ArgumentCoercer(target).coerce(args, kwargs)
            except ArgumentsError as error:
                raise _Refused(error) from error
        answer = self._answers.next(name)
        answer.check_arguments(args, kwargs)
        return Call(args, kwargs, answer)

    def no_answer(self, workflow: SimulatedWorkflow, asked: Asked, step: StartedStep) -> str:
        """Says that a step has no answer."""
        call = asked.call
        name = call.function.function.name if isinstance(call.function, ChunkOf) else call.name
        return (
            f"no answer for step {asked.number} of workflow {workflow.flow_id} ({workflow.function.name}): "
            f"{call.name}({call_text(step.args, step.kwargs)}); expected answers={{{name}: ...}} to have it, it has "
            f"{self._answers.names}"
        )

    async def end(self, workflow: SimulatedWorkflow, asked: Asked, calls: Sequence[Call], now_ms: int) -> StepEnd:
        """A step ends as its answers say.

        :raises AssertionError: an assertion of the test failed in an answer; or it is no end
        """
        values = []
        for call in calls:
            error: Any = call.answer.error
            value = None
            try:
                if error is None:
                    value = await call.answer.value(call.args, call.kwargs)
            except AssertionError:
                raise
            except Exception as raised:
                error = raised
            if isinstance(value, Snooze | Cancel):  # returned instead of raised
                error = value
            if error is not None:
                return self._failed(workflow, asked, error, now_ms)
            values.append(value)
        value = values if isinstance(asked.call.function, ChunkOf) else values[0]
        try:
            return StepEnd("c", self._encoded(workflow, asked, value, now_ms, success=True), value)
        except SerializationError as refused:
            return self._failed(workflow, asked, refused, now_ms)

    def _failed(self, workflow: SimulatedWorkflow, asked: Asked, error: Any, now_ms: int) -> StepEnd:
        outcome = _outcome_of(error)
        if outcome.state not in (State.FAILED, State.ABORTED):
            raise AssertionError(
                f"answers: {asked.call.name}: expected how the step ends at last, got {type(error).__name__}, "
                "which runs it again"
            )
        letter = "a" if outcome.state is State.ABORTED else "f"
        result = self._encoded(workflow, asked, outcome.value, now_ms, success=False)
        return StepEnd(letter, result, outcome.value)

    def _encoded(
        self, workflow: SimulatedWorkflow, asked: Asked, value: Any, now_ms: int, *, success: bool
    ) -> bytes | None:
        end = JobEnd(
            asked.payload,
            job_id=node_id(workflow.flow_id, asked.number),
            queue=queue_of(asked.call),
            attempt=1,
            success=success,
            value=value,
            started_ms=now_ms,
            finished_ms=now_ms,
        )
        return encode_result(self._serializer, end)


class _Refused(Exception):
    """The arguments of a step do not fit its type hints."""

    def __init__(self, error: ArgumentsError) -> None:
        super().__init__()
        self.error = error


def queue_of(call: Signature[Any]) -> str:
    """The queue of a call."""
    return call.options.queue or getattr(call.function, "queue", None) or DEFAULT_QUEUE


def _outcome_of(error: Any) -> Outcome:
    """What becomes of a step that ends itself, is aborted, or raises."""
    if isinstance(error, asyncio.CancelledError):
        return Outcome(State.ABORTED, error)
    return asked_for(error) if isinstance(error, Snooze | Cancel) else classify(error, None, retry_jobs=True)
