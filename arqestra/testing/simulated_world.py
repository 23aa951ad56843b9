"""What surrounds workflows in a test: the time, the ends of their steps, signals.

What happens next is always the first of these: what is due by now, in the order in which it was asked for; the next
signal that somebody waits for; the next moment at which something is due. So a test runs in no time, and each run of it
is like the one before.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from arq.jobs import SerializationError

from ..definitions.durations import Duration, seconds_of
from ..definitions.signature import Signature
from ..errors import ArgumentsError
from ..flow.execution import Effect
from ..flow.signals import WORKFLOW, encoded_signal
from ..flow.workflow import WorkflowFunction
from ..protocol.clock import new_job_id
from ..protocol.serializers import Serializer
from ..protocol.wire import Payload, encode_payload
from ..store.flows import node_id
from ..worker.run.outcome import Outcome, State
from ..worker.run.side_effects import bring_about
from .answers import Answer, Answers
from .simulated_run import Asked, StepEnd
from .simulated_steps import Call, SimulatedSteps, queue_of
from .simulated_workflow import SimulatedWorkflow
from .workflow_outcome import Step, WorkflowOutcome, WorkflowState

__all__ = ("Signal", "SimulatedWorld")

Act = Callable[[], Awaitable[None]]
Place = tuple[str, int]  # id of a workflow, number of its step


@dataclass(frozen=True)
class Signal:
    """An event for the workflow, or for one that runs as a step of it: the first that waits for it gets it.

    :ivar event: its name
    :ivar value: what it carries
    :ivar after: it is sent so long after the workflow's start, whether the workflow waits for it by then or not. None:
        it is sent when the workflow waits for it
    """

    event: str
    value: Any = None
    after: Duration | None = None


class Due(NamedTuple):
    """Something that is to happen.

    :ivar place: of the step or side effect that it is about: it does not happen if that has ended; None of others
    """

    at_ms: int
    order: int
    act: Act
    place: Place | None


class SimulatedWorld:
    """Workflows, and all that happens to them.

    :param until_ms: when they are left where they are
    """

    def __init__(self, *, answers: Answers, serializer: Serializer, start_ms: int, until_ms: int | None) -> None:
        self._now_ms = self._start_ms = start_ms
        self._until_ms = until_ms
        self._steps = SimulatedSteps(answers, serializer)
        self._answers = answers
        self._serializer = serializer
        self._agenda: list[Due] = []
        self._order = 0
        self._signals: list[Signal] = []
        self._workflows: list[SimulatedWorkflow] = []  # that have not ended
        self._children: dict[Place, tuple[SimulatedWorkflow, SimulatedWorkflow]] = {}  # parent and child
        self._running: set[Place] = set()  # steps and side effects that have not ended

    # -- what is given --------------------------------------------------------------------------------------------

    def send(self, signals: Iterable[Any]) -> None:
        """Take in the signals of the test."""
        if isinstance(signals, str | Mapping | Signal) or not isinstance(signals, Iterable):
            raise ArgumentsError(
                f"signals: expected a list of names, pairs of name and value, or Signal, got {signals!r}"
            )
        for each in signals:
            signal = _signal_of(each)
            if signal.after is None:
                self._signals.append(signal)
            else:
                after_ms = round(seconds_of(signal.after, "Signal: after", zero=True) * 1000)
                self.at(self._start_ms + after_ms, partial(self._deliver_to_somebody, signal))

    def add(self, call: Signature[Any], flow_id: str) -> SimulatedWorkflow:
        """Add the workflow of the test."""
        payload = Payload(
            call.name, call.args, dict(call.kwargs), job_try=None, enqueued_ms=self._now_ms, options={WORKFLOW: 1}
        )
        return self._add(call, flow_id, payload, ())

    def _add(self, call: Signature[Any], flow_id: str, payload: Payload, first: tuple[Any, ...]) -> SimulatedWorkflow:
        data = encode_payload(self._serializer, payload)
        workflow = SimulatedWorkflow(
            call.function, flow_id, data, serializer=self._serializer, queue=queue_of(call), first=first
        )
        self._workflows.append(workflow)
        return workflow

    def at(self, at_ms: int, act: Act, place: Place | None = None) -> None:
        """Have something happen at a time; of what is due at once, first what was asked for first."""
        self._order += 1
        heapq.heappush(self._agenda, Due(at_ms, self._order, act, place))

    # -- time -----------------------------------------------------------------------------------------------------

    async def live(self, root: SimulatedWorkflow) -> None:
        """Let things happen until the workflow has ended, or nothing happens any more.

        :raises AssertionError: it waits for what never comes
        """
        while root.outcome is None:
            if await self._next_due() or await self._next_signal() or await self._next_moment():
                continue
            if self._until_ms is None:
                raise AssertionError(self._what_is_missing())
            self._now_ms = self._until_ms
            return
        while await self._next_due():  # what it left behind is aborted
            pass

    async def _next_due(self) -> bool:
        """Do the next thing that is due by now; False if there is none."""
        for workflow in self._workflows:
            if workflow.is_to_begin:
                await self._begin(workflow)
                return True
        self._drop_ended()
        if not self._agenda or self._agenda[0].at_ms > self._now_ms:
            return False
        await heapq.heappop(self._agenda).act()
        return True

    def _drop_ended(self) -> None:
        """What is about a step that has ended does not happen, and moves no clock."""
        while self._agenda and self._agenda[0].place is not None and self._agenda[0].place not in self._running:
            heapq.heappop(self._agenda)

    async def _next_moment(self) -> bool:
        """Move the time to what is due next; False if nothing is."""
        dues = [due for workflow in self._workflows if (due := workflow.next_due_ms()) is not None]
        dues += [due.at_ms for due in self._agenda[:1]]
        if not dues or (self._until_ms is not None and min(dues) > self._until_ms):
            return False
        self._now_ms = max(self._now_ms, min(dues))
        if await self._next_due():  # steps before timers
            return True
        for workflow in list(self._workflows):
            if workflow.take_what_is_over(self._now_ms):
                await self._follow(workflow)
        return True

    def _what_is_missing(self) -> str:
        waits = [
            f"workflow {workflow.flow_id} ({workflow.function.name}) waits for "
            + (" and ".join(f"event {event!r}" for event in workflow.waited_for()) or "what never comes")
            for workflow in self._workflows
        ]
        left = ", ".join(repr(signal.event) for signal in self._signals) or "none"
        return f"{'; '.join(waits)}: expected signals=[...] to have one, or a timeout; signals that are left: {left}"

    # -- workflows ------------------------------------------------------------------------------------------------

    async def _begin(self, workflow: SimulatedWorkflow) -> None:
        await self._abort_steps(workflow)  # of the run before
        workflow.begin(self._now_ms)
        await self._follow(workflow)

    async def _follow(self, workflow: SimulatedWorkflow) -> None:
        """Carry out what a workflow has decided, and what its end means."""
        decided = workflow.decisions(self._now_ms)
        for asked in decided.asked:
            await self._ask(workflow, asked)
        for number in decided.aborts:
            await self._abort_step(workflow, number)
        for effect in decided.effects:
            place = (workflow.flow_id, effect.number)
            self._running.add(place)
            self.at(self._now_ms, partial(self._bring_about, workflow, effect), place)
        if workflow.outcome is not None and workflow in self._workflows:
            self._workflows.remove(workflow)
            await self._abort_steps(workflow)
            await self._end_child(workflow)

    async def abort(self, workflow: SimulatedWorkflow) -> None:
        """Somebody aborts a workflow."""
        if workflow.is_to_begin:
            self.at(self._now_ms, partial(self.abort, workflow))
            return
        workflow.happen([("x", 0, new_job_id().encode(), None)], self._now_ms)
        await self._follow(workflow)

    async def _start_child(self, parent: SimulatedWorkflow, asked: Asked, first: tuple[Any, ...]) -> None:
        child = self._add(asked.call, node_id(parent.flow_id, asked.number), asked.payload, first)
        self._children[parent.flow_id, asked.number] = (parent, child)

    async def _end_child(self, child: SimulatedWorkflow) -> None:
        """If a workflow was a step of another one, that step has ended."""
        for place, (parent, each) in list(self._children.items()):
            if each is child:
                del self._children[place]
                await self._end_step(parent, place[1], _end_of(child), tuple(child.steps.values()))

    # -- steps ----------------------------------------------------------------------------------------------------

    async def _ask(self, workflow: SimulatedWorkflow, asked: Asked) -> None:
        """A step is asked for: it has an answer, or is a workflow that runs."""
        place = (workflow.flow_id, asked.number)
        self._running.add(place)
        step = await self._steps.step(workflow, asked)
        workflow.note_step(asked, step.args, step.kwargs, self._now_ms)
        if step.calls is not None:
            self.at(asked.due_ms + step.delay_ms, partial(self._answer, workflow, asked, step.calls), place)
        elif isinstance(asked.call.function, WorkflowFunction):
            self.at(asked.due_ms, partial(self._start_child, workflow, asked, step.first), place)
        else:
            raise AssertionError(self._steps.no_answer(workflow, asked, step))

    async def _answer(self, workflow: SimulatedWorkflow, asked: Asked, calls: Sequence[Call]) -> None:
        end = await self._steps.end(workflow, asked, calls, self._now_ms)
        await self._end_step(workflow, asked.number, end)

    async def _end_step(
        self, workflow: SimulatedWorkflow, number: int, end: StepEnd, inner: tuple[Step, ...] = ()
    ) -> None:
        self._running.discard((workflow.flow_id, number))
        workflow.end_step(number, end, self._now_ms, inner)
        await self._follow(workflow)

    async def _abort_steps(self, workflow: SimulatedWorkflow) -> None:
        """Abort what a workflow has left behind."""
        for flow_id, number in sorted(self._running):
            if flow_id == workflow.flow_id:
                await self._abort_step(workflow, number)

    async def _abort_step(self, workflow: SimulatedWorkflow, number: int) -> None:
        place = (workflow.flow_id, number)
        if place in self._children:
            await self.abort(self._children[place][1])
        elif place in self._running and number in workflow.steps:
            await self._end_step(workflow, number, StepEnd("a", None, asyncio.CancelledError()))
        self._running.discard(place)

    async def _bring_about(self, workflow: SimulatedWorkflow, effect: Effect) -> None:
        """A side effect: an answer, or the function itself."""
        label = workflow.run.nodes[effect.number].label
        failures: list[AssertionError] = []
        if label in self._answers:
            answer, call = self._answers.next(label), cast("partial[Any]", effect.function)
            answer.check_arguments(call.args, call.keywords)
            effect = Effect(effect.number, partial(_answered, answer, call, failures))
        value = await bring_about(effect, self._serializer, workflow.flow_id, workflow.queue, lambda: False)
        if failures:
            raise failures[0]
        self._running.discard((workflow.flow_id, effect.number))
        workflow.happen([("e", effect.number, value, None)], self._now_ms)
        await self._follow(workflow)

    # -- signals --------------------------------------------------------------------------------------------------

    async def _next_signal(self) -> bool:
        """Deliver the next signal that a workflow waits for; False if there is none."""
        for signal in self._signals:
            for workflow in self._workflows:
                if signal.event in workflow.waited_for():
                    self._signals.remove(signal)
                    await self._deliver(signal, workflow)
                    return True
        return False

    async def _deliver_to_somebody(self, signal: Signal) -> None:
        waiting = [workflow for workflow in self._workflows if signal.event in workflow.waited_for()]
        for workflow in (waiting or self._workflows)[:1]:
            await self._deliver(signal, workflow)

    async def _deliver(self, signal: Signal, workflow: SimulatedWorkflow) -> None:
        try:
            data = self._serializer.dumps({"v": signal.value})
        except Exception as error:
            raise SerializationError(f"unable to serialize the value of event {signal.event!r}") from error
        event = encoded_signal(new_job_id(), quote(signal.event, safe=""), data)
        workflow.happen([("g", 0, event, None)], self._now_ms)
        await self._follow(workflow)

    # -- the end --------------------------------------------------------------------------------------------------

    def outcome_of(self, root: SimulatedWorkflow) -> WorkflowOutcome:
        """How it ended."""
        outcome, now_ms = root.outcome, self._now_ms
        state: WorkflowState = "waiting" if outcome is None else _state_of(outcome)
        return WorkflowOutcome(
            state=state,
            value=root.value if state == "complete" else None,
            error=None if outcome is None or state == "complete" else outcome.value,
            steps=tuple(root.steps.values()),
            elapsed=timedelta(milliseconds=now_ms - self._start_ms),
            runs=len(root.runs),
            waits_for=tuple(root.waited_for()),
            history=root.document(now_ms),
            _histories=partial(root.documents, now_ms),
        )

    def close(self) -> None:
        """Let go of all workflows where they are."""
        for workflow in self._workflows:
            workflow.close()


async def _answered(answer: Answer, call: partial[Any], failures: list[AssertionError]) -> Any:
    """The answer of a side effect; an assertion of the test that failed is remembered."""
    if answer.error is not None:
        raise answer.error
    try:
        return await answer.value(call.args, call.keywords)
    except AssertionError as failure:
        failures.append(failure)
        raise


def _signal_of(given: Any) -> Signal:
    if isinstance(given, tuple) and len(given) == 2:
        given = Signal(*given)
    elif isinstance(given, str):
        given = Signal(given)
    if not isinstance(given, Signal) or not isinstance(given.event, str):
        raise ArgumentsError(f"signals: expected a name, a pair of name and value, or Signal(...), got {given!r}")
    return given


def _state_of(outcome: Outcome) -> WorkflowState:
    return {State.COMPLETE: "complete", State.ABORTED: "aborted"}.get(outcome.state, "failed")  # type: ignore[return-value]


def _end_of(child: SimulatedWorkflow) -> StepEnd:
    """The end of the step that a workflow was."""
    assert child.outcome is not None
    state = _state_of(child.outcome)
    value = child.value if state == "complete" else child.outcome.value
    return StepEnd(state[0], child.result, value)
