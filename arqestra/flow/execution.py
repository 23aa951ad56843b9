"""One run of a workflow function against its history. The protocol is "Replay of workflows" in docs/protocols.md.

`Execution` does no I/O. The worker (`worker/run/workflows.py`) drives it in rounds: it feeds events in, and takes
decisions out (new steps and timers, aborts, waits, side effects) to write them down. `compare.py` tells whether a
replay fits the history, `loop.py` is the event loop of the function, `signals.py` gives it the events that people send.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from arq.jobs import DeserializationError

from ..definitions.signature import Signature
from ..errors import ArgumentsError, HistoryTooLong, JobCancelled, NondeterminismError
from ..protocol.constants import MAX_EVENTS
from ..protocol.serializers import Serializer
from ..store.flows import NodeRecord, Reference, WorkflowHistory
from .compare import Mismatch, Point, RecordedRun, describe_node, digest_of
from .loop import WorkflowLoop, break_cycle
from .signals import Signals
from .step_ends import Faults, coerced, read_end

__all__ = ("MAX_NODES", "ContinueAsNew", "Execution")

logger = logging.getLogger("arq.worker")

MAX_NODES = 10_000
MAX_WAITS = MAX_EVENTS  # of which the names are written down
Encode = Callable[[Signature[Any], int, Reference | None, bool], NodeRecord]


class ContinueAsNew(BaseException):
    """Ends a workflow function; the workflow runs again with these arguments: see `Flow.continue_as_new`."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.arguments = args, kwargs


class Effect(NamedTuple):
    """A function that the worker calls outside of the workflow, and whose value is written down."""

    number: int
    function: Callable[[], Any]


class Execution:
    """One run of a workflow function, through its history and on.

    :param function: called with the `Flow` and the arguments
    :param flow: makes the `Flow`
    :param encode: makes the record of a step; with number 0 only to check that it can be made
    :param history: what happened so far
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        flow: "Callable[[Execution], Any]",
        flow_id: str,
        serializer: Serializer,
        encode: Encode,
        history: WorkflowHistory,
    ) -> None:
        self.flow_id = flow_id
        self._serializer = serializer
        self._encode = encode
        self._history = history
        self._recorded = RecordedRun(history)
        self.started_ms = int(history.record.get("started", history.now_ms))
        self.now_ms = self.started_ms
        self._base = self._number = int(history.record.get("base", 0))
        self.seen = self._waits = 0
        self.replaying = self._recorded.last is not None
        self._before = self.point  # how far it had come before the event that is being brought in
        self.timed_out, self.cancelled = "timed_out" in history.record, False
        self.seed = f"{flow_id}:{history.record.get('rounds', 0)}:{self.started_ms}"
        self.faults = Faults()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._calls: dict[int, Signature[Any]] = {}
        self._timers: dict[int, Callable[[], None]] = {}
        self.due_ms: dict[int, int] = dict(history.timers)  # of timers that are written down
        self._ended_numbers: set[int] = set()
        self._signals = Signals(serializer, flow_id)
        self._patches: dict[str, bool] = {}
        self._new_waits: list[tuple[int, str]] = []
        self._new: list[tuple[int, NodeRecord]] = []
        self._aborts: list[int] = []
        self._effects: dict[int, Callable[[], Any]] = {}
        self.failure: NondeterminismError | None = None  # what does not fit its history
        self.mismatch: Mismatch | None = None  # the same, in parts
        self._discarded = False
        self.loop = WorkflowLoop(lambda: self.now_ms, self._start_timer)  # type: ignore[abstract] # not an ABC
        self._task: asyncio.Task[Any] = self.loop.create_task(function(flow(self), *args, **kwargs))

    # -- for the worker -------------------------------------------------------------------------------------------

    def replay(self) -> None:
        """Run through the history."""
        self._run()
        self.feed(self._history)
        self.replaying = False
        for number, record in self._recorded.nodes.items():
            if number > self._number and self.failure is None:
                got = self._end() if self._task.done() else "nothing more before it waits"
                self._fail(Mismatch(f"{describe_node(record)} as number {number}", got))

    def _run(self) -> None:
        """Run until it waits. Where it waited in the run before, it must not have come to its end."""
        self.loop.run_until_waiting()
        last = self._recorded.last
        if not self.replaying or last is None or self.failure is not None:
            return
        if self._task.done():
            self._fail(Mismatch(f"it to wait after event {self.seen} of its history", self._end()))
        elif self._recorded.exact and self.seen == last.seen:
            self.replaying = False
            self._fail(self._recorded.compare_last_point(self.point))

    def _end(self) -> str:
        """How the function ended, for people."""
        if self._task.cancelled():
            return "its end: it was cancelled"
        error = self._task.exception()
        return "its end: it returned" if error is None else f"its end: it raised {type(error).__name__}: {error}"

    def feed(self, history: WorkflowHistory) -> None:
        """Bring in what has happened, one event at a time."""
        for event, result in history.events:
            if self.done:
                return  # later events may belong to the run that continue_as_new starts
            self._before = self.point
            self.seen += 1
            self._apply(event, result)
            self._run()

    @property
    def done(self) -> bool:
        return self._task.done() or self.failure is not None

    def value(self) -> Any:
        """What the function returned; raises what it raised."""
        if self.failure is not None:
            raise self.failure
        return self._task.result()

    @property
    def resume_point(self) -> Point | None:
        """Where it stood before the error that ended it; None if its own code failed, or if it is blocked."""
        return None if self.failure is not None else self.faults.of_end(self._task)

    def take_decisions(self) -> tuple[list[tuple[int, NodeRecord]], list[int]]:
        """New nodes, and steps to abort, since the last call."""
        new, self._new = self._new, []
        aborts = [number for number in self._aborts if number not in self._ended_numbers]
        self._aborts = []
        return new, aborts

    def take_waits(self) -> list[tuple[int, str]]:
        """Names of the events that it has waited for since the last call, with their numbers."""
        waits, self._new_waits = self._new_waits, []
        return waits

    @property
    def point(self) -> Point:
        """How far it has come by now."""
        return Point(self.seen, self._number, self._waits)

    def waited_for(self) -> list[str]:
        """Names of the events that it waits for at the moment."""
        return self._signals.waited_for()

    def take_effects(self) -> list[Effect]:
        """Functions that the worker has to call, because their values are not written down."""
        effects = [Effect(number, call) for number, call in self._effects.items() if number not in self._ended_numbers]
        self._effects = {}
        return effects

    def timer_due_ms(self) -> int | None:
        """When the next timer is over."""
        return min((due for number, due in self.due_ms.items() if number in self._timers), default=None)

    def timers_over(self, now_ms: int) -> list[int]:
        """Timers that are over but not in the log yet, in order."""
        over = [(due, number) for number, due in self.due_ms.items() if number in self._timers and due <= now_ms]
        return [number for _, number in sorted(over)]

    def carried_over(self) -> bytes:
        """What continue_as_new takes along: events seen, nonces of signals that nobody took, steps that still run."""
        unread = self._signals.unread()
        running = [str(number) for number in self._waiting if number in self._calls]
        return f"{self.seen} {','.join(unread)} {','.join(running)}\n".encode()

    def discard(self) -> None:
        """End the function where it is: the workflow is parked, or goes on elsewhere."""
        self._discarded = self.replaying = True
        self.loop.discard()
        # Break the reference cycles that errors' tracebacks and timers make with this object.
        for step in self._waiting.values():
            break_cycle(step)
        self._timers.clear()
        self._waiting.clear()
        self._signals, self.faults = Signals(self._serializer, self.flow_id), Faults()
        self.failure = None
        del self._task

    # -- events ---------------------------------------------------------------------------------------------------

    def _apply(self, event: bytes, result: bytes | None) -> None:
        kind, number_text, now_text, value = event.split(b" ", 3)
        number = int(number_text)
        self.now_ms = max(self.now_ms, int(now_text))
        if kind == b"g":
            self._signals.receive(value)
        elif kind in (b"x", b"d"):
            self.cancelled = self.cancelled or kind == b"x"
            self.timed_out = self.timed_out or kind == b"d"
            self.faults.cancelled_at = self._before
            self._task.cancel()
        elif number <= self._base or number in self._ended_numbers:
            return  # of a step from before continue_as_new
        else:
            self._ended_numbers.add(number)
            self._apply_end(kind, number, value, result)

    def _apply_end(self, kind: bytes, number: int, value: bytes, result: bytes | None) -> None:
        if kind == b"t":
            fire = self._timers.pop(number, None)
            if fire is not None:
                fire()
            return
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            recorded = describe_node(self._recorded.nodes.get(number))
            self._fail(Mismatch(f"{recorded} as number {number}", "something else"))
        elif not waiting.done():
            self._resolve(waiting, number, value[:1], value if kind == b"e" else result)

    def _resolve(self, waiting: asyncio.Future[Any], number: int, state: bytes, result: bytes | None) -> None:
        call = self._calls.pop(number, None)
        name = f"step {number} ({call.name if call else 'side effect'})"
        got: Any
        if result is None:
            success, got = False, JobCancelled(f"{name} did not complete and has no result")
        else:
            try:
                success, got = read_end(self._serializer, name, result)
            except DeserializationError as unreadable:
                if self.replaying:  # it could be read in the run before
                    return self._fail(Mismatch(f"the result of {name}", f"one that cannot be read: {unreadable}"))
                success, got = False, unreadable
        if success:
            waiting.set_result(coerced(self._serializer, call, got))
        else:
            self.faults.add(got, self._before)
            waiting.set_exception(got)

    # -- what the function asks for -------------------------------------------------------------------------------

    def _next(self, kind: str, label: str, digest: str = "") -> tuple[int, bool]:
        """The next number, and whether the history has it already.

        Number 0: the workflow is blocked or discarded, and what it asks for is never answered. (A bare `except` in the
        function would catch an exception and ask again.)
        """
        if self.failure is not None or self._discarded:
            return 0, True
        number = self._number + 1
        if number - self._base > MAX_NODES:
            raise HistoryTooLong(
                f"workflow {self.flow_id}: expected at most {MAX_NODES} steps and timers, got more; "
                "flow.continue_as_new(...) starts it anew with an empty history"
            )
        asked = NodeRecord(kind, label=label, digest=digest)
        mismatch = self._recorded.compare_node(number, asked, replaying=self.replaying)
        if mismatch is not None:
            self._fail(mismatch)
            return 0, True
        self._number = number
        return number, number in self._recorded.nodes

    def _fail(self, mismatch: Mismatch | None) -> None:
        """Block the workflow, if something does not fit its history."""
        if mismatch is None:
            return
        self.mismatch = mismatch
        self.failure = NondeterminismError(
            f"workflow {self.flow_id}: expected {mismatch.expected}, as in the run before, got {mismatch.got}; its "
            "code has changed (see flow.patched), or depends on more than its arguments and the results of its steps"
        )
        if self._task.done() and not self._task.cancelled():
            self.failure.__cause__ = self._task.exception()

    def check_step(self, call: Signature[Any]) -> None:
        """Refuse a call that cannot be a step, before the workflow asks for any of its graph."""
        if call.options.job_id is not None:
            raise ArgumentsError("a step of a workflow has an id of its own: expected no job_id")
        self._encode(call, 0, None, False)

    def step(self, call: Signature[Any]) -> asyncio.Future[Any]:
        """Ask for a job whose arguments are not checked yet."""
        check = getattr(call.function, "check_arguments", None)
        if check is not None:
            check(call.args, call.kwargs)
        return self.ask_for_step(call)[1]

    def ask_for_step(
        self, call: Signature[Any], *, gets: Reference | None = None, on_error: bool = False
    ) -> tuple[int, asyncio.Future[Any]]:
        """Ask for a job whose arguments are checked; returns its number too. Parameters: `NodeEncoder.record`."""
        if call.options.job_id is not None:
            raise ArgumentsError("a step of a workflow has an id of its own: expected no job_id")
        digest = digest_of(call, gets)
        number, known = self._next("job", call.name, digest)
        if not known:
            record = self._encode(call, number, gets, on_error)
            self._new.append((number, record._replace(label=call.name, digest=digest)))
        future = self._wait_for(number)
        if number:
            self._calls[number] = call
            future.add_done_callback(lambda done: self._aborts.append(number) if done.cancelled() else None)
        return number, future

    def effect(self, label: str, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Ask for a value from outside of the workflow."""
        number, known = self._next("value", label)
        if not known:
            self._new.append((number, NodeRecord("value", label=label)))
        if number:
            self._effects[number] = function
        return self._wait_for(number)

    def _wait_for(self, number: int) -> asyncio.Future[Any]:
        future = self.loop.create_future()
        if number:
            self._waiting[number] = future
        return future

    def _start_timer(self, ms: int, over: Callable[[], None]) -> Callable[[], None]:
        number, known = self._next("timer", "timer")
        if not known:
            self._new.append((number, NodeRecord("timer", when=str(ms), label="timer")))
        if number and number not in self._ended_numbers:
            self._timers[number] = over
        return lambda: self._timers.pop(number, None) and None

    def signal(self, name: str) -> asyncio.Future[Any]:
        """Ask for the next event of a name."""
        future = self.loop.create_future()
        if self.failure is not None or self._discarded or not self._record_wait(name):
            return future
        self._signals.wait(name, future)
        return future

    def _record_wait(self, name: str) -> bool:
        """Write down which event it waits for; False if it waited for another one in the run before."""
        number = self._waits + 1
        mismatch = self._recorded.compare_wait(number, name, replaying=self.replaying)
        if mismatch is not None:
            self._fail(mismatch)
            return False
        self._waits = number
        if not self._recorded.is_recorded_wait(number) and number <= MAX_WAITS:
            self._new_waits.append((number, name))
        return True

    def patched(self, name: str) -> bool:
        """Whether this run takes the new way of a change in the code: see `Flow.patched`."""
        if name not in self._patches:
            recorded = self._recorded.nodes.get(self._number + 1)
            marked = recorded is not None and (recorded.kind, recorded.label) == ("patch", name)
            passed = self.replaying and self._recorded.covers(self.seen)  # the run before went by here
            if marked or (recorded is None and not passed):
                number, known = self._next("patch", name)
                if not known:
                    self._new.append((number, NodeRecord("patch", label=name)))
                self._patches[name] = True
            else:
                self._patches[name] = False
        return self._patches[name]

    @property
    def decided(self) -> int:
        """How many steps, timers, side effects and patches it has asked for."""
        return self._number - self._base

    @property
    def size(self) -> int:
        return self.decided + self.seen
