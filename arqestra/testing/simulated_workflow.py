"""A workflow in a test: the `Execution` of production, and in memory what Redis would have of it.

`run_workflow.py` moves the time and says what happens; here it is written down and brought in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from ..client.pool import MAX_PAYLOAD_BYTES
from ..definitions.coerce import ArgumentCoercer, coerce_value
from ..definitions.signature import Signature
from ..flow.compare import Point
from ..flow.encode import NodeEncoder
from ..flow.execution import ContinueAsNew, Execution
from ..flow.history_document import WorkflowExport, encode_document
from ..flow.orchestrator import Flow
from ..flow.workflow import WorkflowFunction
from ..protocol.serializers import Serializer
from ..protocol.wire import JobEnd, decode_payload, decode_result, encode_payload, encode_result
from ..store.flows import NodeRecord, Reference, Value, WorkflowHistory, node_id
from ..worker.run.outcome import Outcome, State
from ..worker.run.workflow_call import coerced_arguments, outcome_of_error
from .simulated_run import Asked, Decisions, SimulatedRun, StepEnd
from .workflow_outcome import Step, StepState

__all__ = ("SimulatedWorkflow",)

MAX_RUNS = 10_000  # of one workflow, which would continue as new for ever
STATES: dict[str, StepState] = {"c": "complete", "f": "failed", "a": "aborted"}


class SimulatedWorkflow:
    """One workflow.

    :param flow_id: its id
    :param payload: of its job
    :param first: its first argument, if it gets one from another step
    :ivar outcome: how it ended; None while it runs
    :ivar is_to_begin: it has not begun, or continues as new
    :ivar steps: by number, in the order in which it asked for them; numbers go on from run to run
    """

    def __init__(
        self,
        function: WorkflowFunction[..., Any],
        flow_id: str,
        payload: bytes,
        *,
        serializer: Serializer,
        queue: str,
        first: tuple[Any, ...] = (),
    ) -> None:
        self.function = function
        self.flow_id = flow_id
        self.serializer = serializer
        self.queue = queue
        self.outcome: Outcome | None = None
        self.result: bytes | None = None
        self.value: Any = None
        self.begun_ms = 0
        self.is_to_begin = True
        self.steps: dict[int, Step] = {}
        self.runs = [SimulatedRun(payload, 0, 0)]
        self._first = first
        self._coercer = ArgumentCoercer(function.coroutine) if serializer.plain else None
        self._encoder = NodeEncoder(serializer, queue, MAX_PAYLOAD_BYTES)
        self._calls: dict[int, Signature[Any]] = {}
        self._ends: dict[int, StepEnd] = {}
        self._execution: Execution | None = None

    @property
    def run(self) -> SimulatedRun:
        """The run that is under way, or was the last."""
        return self.runs[-1]

    @property
    def execution(self) -> Execution:
        assert self._execution is not None, "expected a workflow that has begun"
        return self._execution

    # -- its life -------------------------------------------------------------------------------------------------

    def begin(self, now_ms: int) -> None:
        """Start the function, and run it until it waits or ends.

        :raises ArgumentsError, TypeError: it cannot be called with its arguments
        """
        self.is_to_begin = False
        self.begun_ms = self.begun_ms or now_ms
        payload = decode_payload(self.serializer, self.run.payload)
        args, kwargs = coerced_arguments(self._coercer, (*self._first, *payload.args), payload.kwargs, payload.kwargs)
        self._execution = Execution(
            self.function.coroutine,
            args,
            kwargs,
            flow=Flow,
            flow_id=self.flow_id,
            serializer=self.serializer,
            encode=self._encode,
            history=self.run.history(now_ms),
        )
        self._execution.replay()
        self.run.started_ms = now_ms
        self._settle(now_ms)

    def _encode(self, call: Signature[Any], number: int, gets: Reference | None, on_error: bool) -> NodeRecord:
        if number:
            self._calls[number] = call
        return self._encoder.record(call, self.flow_id, number, gets=gets, on_error=on_error)

    def happen(self, events: Sequence[tuple[str, int, bytes, bytes | None]], now_ms: int) -> None:
        """Events come, each with its kind, number, value and the result of a step."""
        if self.outcome is not None or self.is_to_begin or not events:
            return
        written = [(f"{kind} {number} {now_ms} ".encode() + value, result) for kind, number, value, result in events]
        run = self.run
        run.events += written
        for event in written:
            if self.execution.done:
                break
            self.execution.feed(WorkflowHistory(now_ms, len(run.events), {}, {}, {}, [event]))
            self._note_point()
        self._settle(now_ms)

    def end_step(self, number: int, end: StepEnd, now_ms: int, inner: tuple[Step, ...] = ()) -> None:
        """A step has ended.

        :param inner: the steps of a workflow that was the step
        """
        self._ends[number] = end
        self._note_end(number, end, inner)
        if number > self.run.base:
            self.happen([("s", number, end.state.encode(), end.result)], now_ms)

    def _note_point(self) -> None:
        if not self.execution.done:
            self.run.points.append(self.execution.point)

    def _settle(self, now_ms: int) -> None:
        """After each change: write down what it decided, and how it ended."""
        run = self.run
        if not run.points:
            self._note_point()
        run.waits.update(self.execution.take_waits())
        if self.execution.done:
            self._end(now_ms)

    def decisions(self, now_ms: int) -> Decisions:
        """What it decided since the last time, and what is written of it."""
        if self.outcome is not None or self.is_to_begin:
            return Decisions([], [], [])
        new, aborts = self.execution.take_decisions()
        asked = []
        for number, record in new:
            self.run.nodes[number] = record._replace(payload=b"", spec=b"")
            if record.kind == "timer":
                due_ms = now_ms + int(record.when)
                self.run.timers[number] = self.execution.due_ms[number] = due_ms
            elif record.kind == "job":
                asked.append(self._asked(number, record, now_ms))
        return Decisions(asked, aborts, self.execution.take_effects())

    def _asked(self, number: int, record: NodeRecord, now_ms: int) -> Asked:
        due_ms = now_ms
        if record.when:
            due_ms = int(record.when[1:]) + (now_ms if record.when[0] == "+" else 0)
        payload = decode_payload(self.serializer, record.payload)
        return Asked(number, self._calls[number], max(due_ms, now_ms), payload)

    def waited_for(self) -> list[str]:
        """Names of the events that it waits for."""
        return [] if self.outcome is not None or self.is_to_begin else self.execution.waited_for()

    # -- time -----------------------------------------------------------------------------------------------------

    def next_due_ms(self) -> int | None:
        """When the next timer, or its time, is over."""
        if self.outcome is not None or self.is_to_begin:
            return None
        dues = [due for due in (self.execution.timer_due_ms(), self._deadline_ms()) if due is not None]
        return min(dues, default=None)

    def _deadline_ms(self) -> int | None:
        if self.function.life_s is None or self.execution.timed_out:
            return None
        return self.execution.started_ms + round(self.function.life_s * 1000)

    def take_what_is_over(self, now_ms: int) -> bool:
        """Timers that are over become events, and so does its time."""
        if self.outcome is not None or self.is_to_begin:
            return False
        events: list[tuple[str, int, bytes, bytes | None]] = []
        for number in self.execution.timers_over(now_ms):
            events.append(("t", number, b"", None))
            del self.execution.due_ms[number]
        deadline_ms = self._deadline_ms()
        if deadline_ms is not None and deadline_ms <= now_ms:
            events.append(("d", 0, b"", None))
        self.happen(events, now_ms)
        return bool(events)

    # -- steps ----------------------------------------------------------------------------------------------------

    def note_step(self, asked: Asked, args: tuple[Any, ...], kwargs: dict[str, Any], now_ms: int) -> None:
        """Remember a step for people."""
        after = timedelta(milliseconds=now_ms - self.begun_ms)
        step = Step(asked.number, asked.call.name, args, kwargs, after)
        self.steps[asked.number] = step

    def _note_end(self, number: int, end: StepEnd, inner: tuple[Step, ...]) -> None:
        step = self.steps[number]
        failed = end.state != "c"
        self.steps[number] = Step(
            number=number,
            function=step.function,
            args=step.args,
            kwargs=step.kwargs,
            after=step.after,
            state=STATES[end.state],
            value=None if failed else end.value,
            error=end.value if failed else None,
            steps=inner,
        )

    async def values(self, flow_id: str, numbers: Sequence[int]) -> list[Value]:
        """What steps ended with, as `FlowStore.values` says it."""
        return [
            Value(self._ends[number].state, None, self._ends[number].result, node_id(flow_id, number))
            for number in numbers
        ]

    # -- the end --------------------------------------------------------------------------------------------------

    def _end(self, now_ms: int) -> None:
        try:
            self.value = self.execution.value()
        except ContinueAsNew as anew:
            self._continue_as_new(anew)
            return
        except BaseException as error:
            self.outcome = outcome_of_error(self.execution, error, self.function.life_s)
        else:
            self.outcome = Outcome(State.COMPLETE, self.value)
        self._encode_result(now_ms)
        self.execution.discard()

    def _encode_result(self, now_ms: int) -> None:
        assert self.outcome is not None
        payload = decode_payload(self.serializer, self.run.payload)
        end = JobEnd(
            payload,
            job_id=self.flow_id,
            queue=self.queue,
            attempt=1,
            success=self.outcome.state is State.COMPLETE,
            value=self.outcome.value,
            started_ms=self.begun_ms,
            finished_ms=now_ms,
        )
        try:
            self.result = encode_result(self.serializer, end)
        except Exception as refused:  # the value does not fit the serializer
            self.outcome = Outcome(State.FAILED, refused)
            self.result = encode_result(self.serializer, end._replace(success=False, value=refused))
        if self.outcome.state is State.COMPLETE:
            assert self.result is not None
            got = decode_result(self.serializer, self.result)[0].result
            self.value = coerce_value(self.function.result_type, got) if self.serializer.plain else got

    def _continue_as_new(self, anew: ContinueAsNew) -> None:
        """Make the next run, with the events that nobody took."""
        if len(self.runs) >= MAX_RUNS:
            raise AssertionError(
                f"workflow {self.function.name} continued as new {MAX_RUNS:,} times and has not ended; "
                "until= says when to leave it"
            )
        seen, unread, _ = self.execution.carried_over().decode().rstrip("\n").split(" ")
        kept = [
            event
            for place, event in enumerate(self.run.events)
            if event[0].startswith(b"g") and (place >= int(seen) or _nonce_of(event[0]) in unread.split(","))
        ]
        base = self.execution.point.number
        self.execution.discard()
        args, kwargs = anew.arguments
        before = decode_payload(self.serializer, self.run.payload)
        payload = encode_payload(self.serializer, before._replace(args=args, kwargs=kwargs))
        self._first = ()
        self._calls.clear()
        self._ends.clear()
        self.runs.append(SimulatedRun(payload, base, len(self.runs)))
        self.run.events += kept
        self.is_to_begin = True

    def close(self) -> None:
        """Let go of its function where it is."""
        if self.outcome is None and self._execution is not None:
            self._execution.discard()

    # -- histories ------------------------------------------------------------------------------------------------

    def document(self, now_ms: int) -> dict[str, Any]:
        """The history of its last run, as Redis would have it."""
        return self._document(self.run, now_ms, None)

    def documents(self, now_ms: int) -> Iterator[dict[str, Any]]:
        """A history of each place where it waited, and of its end."""
        for run in self.runs:
            for point in run.points:
                yield self._document(run, now_ms, point)
        if self.outcome is not None:
            yield self.document(now_ms)

    def _document(self, run: SimulatedRun, now_ms: int, point: Point | None) -> dict[str, Any]:
        ended = point is None and self.outcome is not None
        status = "running"
        if ended:
            assert self.outcome is not None
            status = "complete" if self.outcome.state is State.COMPLETE else "failed"
        return encode_document(
            WorkflowExport(
                flow_id=self.flow_id,
                function=self.function.name,
                queue=self.queue,
                serializer=self.serializer.name,
                status=status,
                payload=None if ended and self.result else run.payload,
                result=self.result if ended else None,
                input=self.serializer.dumps({"v": self._first[0]}) if self._first else None,
                history=run.history(now_ms, point),
            )
        )


def _nonce_of(event: bytes) -> str:
    return event.split(b" ", 4)[3].decode()
