"""Running durable workflows: history in, decisions out, parked when nothing happens for a while.

While a workflow waits it holds no slot. For some seconds it is *sticky*: it stays in memory, a message brings
the news, and it goes on after two round trips. Later, or when there are many of them, it is *parked*: it has no lease
and no memory here. The end of what it waits for makes it due again; any worker claims it, and replays it.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from arq.utils import to_ms
from arq.worker import JobExecutionFailed
from redis.exceptions import RedisError

from ...flow.compare import Point
from ...flow.execution import ContinueAsNew, Effect, Execution
from ...flow.orchestrator import Flow
from ...protocol.attempt_errors import text_of
from ...protocol.clock import new_job_id, timestamp_ms
from ...protocol.wire import encode_payload
from ...store.flows import Advance, FlowStore
from ...store.workflows import resume_life
from .attempt import Attempt, Phase
from .blocked import Patience, blocked, does_not_fit
from .context import RunContext
from .observed import run_observed
from .outcome import CancelReason, Outcome, State
from .side_effects import bring_about
from .updates import encode_value
from .workflow_call import coerced_arguments, outcome_of_error
from .workflow_decisions import DecisionWriter

__all__ = ("patience", "run_workflow")

logger = logging.getLogger("arq.worker")

PARK_AFTER_S = 5.0
MAX_RESIDENT = 200  # workflows in a worker that wait in memory
NONDETERMINISM_PAUSE_MS, MAX_PAUSE_MS = 10_000, 300_000  # doubled with each try
NONDETERMINISM_TRIES = 14  # three quarters of an hour in all to roll a deployment back
ENDED_BADLY = (State.FAILED, State.RETRIED, State.ABORTED)
OF_FIRST_ROUND = ("in", "er", "xr", "x")  # options of a payload that mean nothing once it has started


def patience() -> Patience:
    """How long a workflow that is blocked by code is tried again."""
    return Patience(NONDETERMINISM_PAUSE_MS, MAX_PAUSE_MS, NONDETERMINISM_TRIES)


async def run_workflow(run: RunContext, attempt: Attempt) -> Outcome:
    """Run a workflow until it ends, or is parked."""
    attempt.started_ms = timestamp_ms()
    attempt.phase = Phase.CALLING
    stay = WorkflowStay(run, attempt)
    attempt.interrupt = stay.interrupt
    try:
        return await _within_wrappers(run, attempt, stay)
    except asyncio.CancelledError:  # the worker stops, maybe in the middle of a call: another one replays it
        return Outcome(State.LOST if stay.lost else State.RELEASED)
    except (RedisError, OSError) as error:
        logger.warning("workflow %s: Redis does not answer, it is replayed: %s", attempt.ref, error)
        return Outcome(State.RELEASED)
    except Exception as error:  # a middleware, when it was cancelled: an interruption ends no workflow
        if not (run.is_stopping() or stay.lost):
            raise
        logger.warning("workflow %s was interrupted, and its clean-up raised: %s", attempt.ref, text_of(error))
        return Outcome(State.LOST if stay.lost else State.RELEASED)
    finally:
        attempt.end_call()
        attempt.ended_ms = timestamp_ms()
        stay.end()


async def _within_wrappers(run: RunContext, attempt: Attempt, stay: "WorkflowStay") -> Outcome:
    """Others' wrappers see a stay of a workflow as they see a job, and a failure that ends it."""
    if attempt.options.observed is None:
        return await _within_middleware(run, attempt, stay)
    outcome: Outcome | None = None

    async def observed() -> None:
        nonlocal outcome
        outcome = await _within_middleware(run, attempt, stay)
        if outcome.state is State.FAILED:
            raise outcome.value

    try:
        await run_observed(run, attempt, observed)
    except BaseException as error:
        if outcome is None or error is not outcome.value:
            raise
    assert outcome is not None, "a wrapper did not call what it is around"
    return outcome


async def _within_middleware(run: RunContext, attempt: Attempt, stay: "WorkflowStay") -> Outcome:
    """The middleware sees what the workflow raised; what became of it is decided already."""
    if not run.options.middleware:
        return await stay.conduct()
    outcome: Outcome | None = None
    try:
        async with AsyncExitStack() as stack:
            attempt.carry = {}
            view = attempt.view()
            for middleware in run.options.middleware:
                await stack.enter_async_context(middleware.around_run(view))
            outcome = await stay.conduct()
            if outcome.state in ENDED_BADLY and isinstance(outcome.value, BaseException):
                raise outcome.value
    except BaseException as error:
        if outcome is None or error is not outcome.value:
            raise
    assert outcome is not None, "a middleware swallowed what ended a workflow's stay"
    return outcome


class WorkflowStay:
    """One stay of a workflow in a worker: from its history to its end, or until it leaves."""

    def __init__(self, run: RunContext, attempt: Attempt) -> None:
        self._run = run
        self._attempt = attempt
        self._id = attempt.leased.id
        self._queue = attempt.leased.queue
        self._flows = FlowStore(run.store)
        self._news = asyncio.Event()
        self._events: list[tuple[int, str, bytes]] = []
        self._effects: set[asyncio.Task[None]] = set()
        self._execution: Execution | None = None
        self._decisions = DecisionWriter(run, attempt)
        self._redis_ahead_ms = 0.0
        self._resumed_ms = 0
        self._idle_since_s = run.loop.time()
        self._written: Point | None = None  # how far Redis knows it to have come
        self.lost = self._leaving = self._ended = False
        if attempt.leased.flag == "abort":
            self._ask_for_cancellation()

    def interrupt(self, reason: CancelReason) -> None:
        """It is to be aborted, or to be left to others."""
        if reason is CancelReason.ABORT:
            self._attempt.reason = None  # there may be another one, after it was caught
            self._ask_for_cancellation()
        elif reason is CancelReason.LEASE_LOST:
            self.lost = True
        else:
            self._leaving = True
        self._news.set()

    def _ask_for_cancellation(self) -> None:
        if not any(kind == "x" for _, kind, _ in self._events):
            self._events.append((0, "x", new_job_id().encode()))

    def end(self) -> None:
        """Let go of all that it has here."""
        self._ended = True
        self._run.workflows.remove(self._id)
        for task in self._effects:
            task.cancel()
        self._attempt.interrupt = None
        execution, self._execution = self._execution, None
        if execution is not None:
            execution.discard()

    async def conduct(self) -> Outcome:
        """History in, decisions out, until it ends or nothing happens."""
        self._run.workflows.add(self._id, self._news.set)
        history = await self._flows.history(self._id, self._queue, nodes=True)
        if "resume" in history.record:
            await resume_life(self._run.store, self._id, self._queue, self._attempt.leased.token)
            history = await self._flows.history(self._id, self._queue, nodes=True)
        self._resumed_ms = int(history.record.get("resumed", 0))
        self._set_clock(history.now_ms)
        if "started" not in history.record and self._attempt.is_too_late:
            return Outcome(State.EXPIRED, JobExecutionFailed("job expired"))
        try:
            execution = self._execution = self._begin(history)
        except Exception as error:  # the arguments do not fit the function
            if "started" not in history.record:
                return Outcome(State.FAILED, error)
            return await self._blocked(does_not_fit(self._id, error))
        execution.replay()
        first = True
        while not execution.done and not self.lost:
            if not await self._write_decisions(execution, always=first):
                return Outcome(State.LOST)
            first = False
            self._start_effects(execution)
            self._run.slots.suspend(self._attempt)
            self._run.outbox.wake()
            if not await self._until_news(execution):
                return await self._leave(execution)
            await self._take_news(execution)
        if self.lost:
            return Outcome(State.LOST)
        if execution.failure is not None:
            outcome = await self._blocked(execution.failure, history.events[execution.seen :])
        else:
            outcome = self._outcome(execution)
        try:
            return await self._resumable(execution, outcome)
        finally:
            del outcome  # the traceback of what it holds leads to this frame

    def _begin(self, history: Any) -> Execution:
        attempt, run = self._attempt, self._run
        workflow = attempt.options.workflow
        assert workflow is not None
        args, kwargs = coerced_arguments(attempt.options.coercer, attempt.args, attempt.kwargs, attempt.own_kwargs)
        observed = attempt.options.observed
        return Execution(
            workflow.coroutine if observed is None else observed.bare,
            args,
            kwargs,
            flow=Flow,
            flow_id=self._id,
            serializer=run.serializer,
            encode=self._decisions.encode,
            history=history,
        )

    # -- decisions ------------------------------------------------------------------------------------------------

    async def _write_decisions(self, execution: Execution, *, always: bool) -> bool:
        """Write what it asks for; False if the lease is lost."""
        new, aborts = execution.take_decisions()
        events, self._events = self._events, []
        if not (new or aborts or events or always):
            return True
        waits, point = execution.take_waits(), execution.point
        last = Advance(events=events, aborts=aborts, waits=waits, ran=point.encode())
        if not await self._decisions.write(execution, new, last):
            return False
        self._written = point
        if events:
            self._news.set()  # they are in the log
        return True

    def _start_effects(self, execution: Execution) -> None:
        for effect in execution.take_effects():
            task = self._run.loop.create_task(self._bring_about(effect))
            self._effects.add(task)
            task.add_done_callback(self._effects.discard)

    async def _bring_about(self, effect: Effect) -> None:
        value = await bring_about(effect, self._run.serializer, self._id, self._queue, lambda: self._ended)
        self._events.append((effect.number, "e", value))
        self._news.set()

    # -- waiting --------------------------------------------------------------------------------------------------

    async def _until_news(self, execution: Execution) -> bool:
        """Wait until there is something to do; False if it is to be parked."""
        while self._leaving or not self._news.is_set():
            if self._leaving:
                return False
            now_s = self._run.loop.time()
            crowded = len(self._run.slots.sticky) > MAX_RESIDENT
            patience_s = 0.0 if crowded or self._run.workflows.park_at_once else PARK_AFTER_S
            park_at_s = self._idle_since_s + patience_s
            due_ms = self._next_due_ms(execution)
            due_at_s = None if due_ms is None else now_s + max(0.0, due_ms - self._redis_ms()) / 1000
            if now_s >= park_at_s and not self._effects and (due_at_s is None or due_at_s > now_s):
                return False
            wake_at_s = due_at_s if self._effects or now_s >= park_at_s else min(due_at_s or park_at_s, park_at_s)
            try:
                limit_s = None if wake_at_s is None else max(0.0, wake_at_s - now_s)
                async with asyncio.timeout(
                    limit_s
                ):  # wait_for of Python 3.11 loses a cancellation that comes with news
                    await self._news.wait()
            except TimeoutError:
                if self._take_what_is_over(execution):
                    return True
        return True

    def _next_due_ms(self, execution: Execution) -> int | None:
        dues = [due for due in (execution.timer_due_ms(), self._deadline_ms(execution)) if due is not None]
        return min(dues, default=None)

    def _deadline_ms(self, execution: Execution) -> int | None:
        workflow = self._attempt.options.workflow
        if workflow is None or workflow.life_s is None or execution.timed_out:
            return None
        return max(execution.started_ms, self._resumed_ms) + round(workflow.life_s * 1000)

    def _take_what_is_over(self, execution: Execution) -> bool:
        """Timers that are over become events, and so does its time."""
        now_ms = self._redis_ms()
        events = [(number, "t", b"") for number in execution.timers_over(now_ms)]
        deadline_ms = self._deadline_ms(execution)
        if deadline_ms is not None and deadline_ms <= now_ms:
            events.append((0, "d", b""))
        self._events += events
        return bool(events)

    async def _take_news(self, execution: Execution) -> None:
        """What is new in the log; what was brought about here is written first."""
        self._news.clear()
        self._idle_since_s = self._run.loop.time()
        if self.lost or (self._events and not await self._write_decisions(execution, always=False)):
            self.lost = True
            return
        self._news.clear()
        history = await self._flows.history(self._id, self._queue, after=execution.seen)
        self._set_clock(history.now_ms)
        execution.feed(history)

    def _set_clock(self, redis_ms: int) -> None:
        self._redis_ahead_ms = redis_ms - self._run.loop.time() * 1000

    def _redis_ms(self) -> int:
        return int(self._run.loop.time() * 1000 + self._redis_ahead_ms)

    # -- the end --------------------------------------------------------------------------------------------------

    async def _leave(self, execution: Execution) -> Outcome:
        """Park it; how far it has come is written down, so that the next run knows what ran before."""
        behind = self._events or execution.point != self._written
        if behind and not self.lost and not await self._write_decisions(execution, always=True):
            return Outcome(State.LOST)
        return self.parked()

    async def _blocked(self, error: BaseException, unseen: Sequence[tuple[bytes, object]] = ()) -> Outcome:
        """Its code does not fit its history. An abort that was asked for is remembered until it does."""
        events, self._events = [event for event in self._events if event[1] == "x"], []
        if events:
            decided = Advance(events=events)
            if await self._decisions.advance(decided, 0) is None:
                return Outcome(State.LOST)
            unseen = [*unseen, (b"x ", None)]
        return await blocked(self._run, self._attempt, error, patience(), unseen)

    async def _resumable(self, execution: Execution, outcome: Outcome) -> Outcome:
        """Write down from where one that did not complete can be resumed, and keep its history as long as its job."""
        if outcome.state not in (State.FAILED, State.ABORTED):
            return outcome
        point, keep_ms = execution.resume_point, self._decisions.keep_ms()
        if outcome.state is State.FAILED:
            keep_ms = max(keep_ms, to_ms(self._run.options.keep_dead) or 0)
        written = await self._decisions.advance(
            Advance(fault=point.encode() if point else ""), execution.started_ms, keep_ms=keep_ms
        )
        return Outcome(State.LOST) if written is None else outcome

    def parked(self) -> Outcome:
        """It waits without a run, until there is news or the next timer is over."""
        if self.lost:
            return Outcome(State.LOST)
        execution = self._execution
        if execution is None or self._events or self._effects:  # it has something to write: it is replayed at once
            return Outcome(State.RELEASED)
        due_ms = self._next_due_ms(execution)
        delay_ms = -1 if due_ms is None else max(1, due_ms - self._redis_ms())
        return Outcome(State.PARKED, execution.seen, delay_ms)

    def _outcome(self, execution: Execution) -> Outcome:
        attempt = self._attempt
        try:
            value = execution.value()
            encode_value(self._run, attempt, value)
            return Outcome(State.COMPLETE, value)
        except ContinueAsNew as anew:
            args, kwargs = anew.arguments
            options = {name: value for name, value in attempt.payload.options.items() if name not in OF_FIRST_ROUND}
            payload = attempt.payload._replace(args=args, kwargs=kwargs, options=options)
            return Outcome(
                State.CONTINUED_AS_NEW, execution.carried_over() + encode_payload(self._run.serializer, payload)
            )
        except BaseException as error:
            assert attempt.options.workflow is not None
            return outcome_of_error(execution, error, attempt.options.workflow.life_s)
