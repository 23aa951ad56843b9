"""The life of one job on a worker: decode, check, start, call within its time limit, classify, hand over.

Every stage is a function that a test can call by itself. Decisions are outcomes (`outcome.py`); the only place that
acts on one is `hand_over`, which gives it to the exchange with Redis.
"""

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING, Any, Literal

from arq.jobs import SerializationError
from arq.utils import ms_to_datetime, to_seconds
from arq.worker import JobExecutionFailed

from ...definitions.context import JobContext, running_attempt
from ...definitions.signature import CHUNK_FUNCTION
from ...errors import ArgumentsError
from ...protocol.clock import timestamp_ms
from ...protocol.constants import EARLY_CRASHES
from ...protocol.wire import decode_payload
from ...store.records import Ending, EndingKind
from ..schedule_runner import id_taken_ms
from .admission import admit
from .attempt import Attempt
from .decision import decide
from .effective_options import KEEP_NO_RESULT
from .encoding import NO_RESULT, carried, encode_value, encoded_result, history_entry, keeps_result
from .flow_input import fetch_input
from .hooks import call_end_hooks, call_hook, has_end_hooks
from .invoke import invoke, is_unfinished, resolved
from .outcome import CancelReason, Outcome, State, asked_for
from .report import report, report_refusal, report_start
from .unknown import give_back, is_code_missing, may_give_back, unknown_function
from .workflows import run_workflow

if TYPE_CHECKING:
    from ..worker import Worker

__all__ = ("acknowledge", "call", "check", "decode", "execute", "hand_over", "prepare")

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py

ENDS: dict[State, EndingKind] = {State.ABORTED: "abort", State.EXPIRED: "expire"}
PLAIN = frozenset({type(None), bool, int, float, str, bytes, dict, list, tuple})  # values, whatever is in them


async def execute(worker: "Worker", attempt: Attempt) -> None:
    """Run one leased job to its outcome."""
    running_attempt.set(attempt)
    outcome: Outcome | None = None
    try:
        outcome = decode(worker, attempt) or check(worker, attempt)
        if outcome is not None and outcome.state is State.UNKNOWN:
            outcome = await give_back(worker, attempt, outcome)
        if outcome is None and attempt.payload.options.get("in") is not None:
            outcome = await fetch_input(worker, attempt)
        outcome = outcome or prepare(worker, attempt) or admit(worker, attempt)
        if outcome is None and attempt.options.workflow is not None:
            return await conduct(worker, attempt)
        if outcome is None and attempt.options.early:
            outcome = await acknowledge(worker, attempt)
        if outcome is None:
            outcome = await call(worker, attempt)
            if attempt.submitted:  # `give_up` has written its end, and told of it
                return worker.slots.free(attempt)
            report(worker, attempt, outcome)
        else:
            report_refusal(worker, attempt, outcome)
        if worker.on_job_end or worker.after_job_end or attempt.written or has_end_hooks(worker, attempt, outcome):
            # In a task of its own: a shutdown that cancels this one must not lose the outcome.
            concluding = worker.loop.create_task(conclude(worker, attempt, outcome))
            worker.slots.conclude(concluding)
            await asyncio.shield(concluding)
        else:
            hand_over(worker, attempt, outcome)
    except BaseException as error:
        hand_over_unexpected(worker, attempt, error)
        if not isinstance(error, Exception):
            raise
    finally:
        # From Python 3.12 on this frame is reached from the traceback of the job's error: a circle otherwise.
        outcome = None


def decode(worker: "Worker", attempt: Attempt) -> Outcome | None:
    """Read the payload; an outcome if that cannot be done."""
    leased = attempt.leased
    if leased.payload is None:
        logger.warning("job %s expired", leased.id)
        return Outcome(State.EXPIRED, JobExecutionFailed("job expired"))
    try:
        attempt.payload = payload = decode_payload(worker.serializer, leased.payload)
    except SerializationError as error:
        if may_give_back(worker) and is_code_missing(error):
            return Outcome(State.UNKNOWN, error)
        logger.exception("deserializing job %s failed", leased.id)
        return Outcome(State.FAILED, error)
    attempt.ref = f"{leased.id}:{payload.function}"
    if payload.job_try and payload.job_try > leased.attempt:
        attempt.job_try = payload.job_try
    return None


def check(worker: "Worker", attempt: Attempt) -> Outcome | None:
    """Whether the job may run; an outcome if not."""
    leased, payload = attempt.leased, attempt.payload
    options = worker.effective_options.get(payload.function)
    if leased.flag == "abort" and (options is None or options.workflow is None):
        return Outcome(State.UNKNOWN if options is None else State.ABORTED, asyncio.CancelledError())
    if leased.flag == "dead" and leased.crashes > EARLY_CRASHES:
        lost = JobExecutionFailed("its worker was lost; acks='early' runs a job at most once")
        return Outcome(State.FAILED, lost)
    if leased.flag == "dead":
        return Outcome(
            State.DEAD, JobExecutionFailed(f"job ended its worker {leased.crashes} times; it is in the dead set")
        )
    if options is not None:
        attempt.options = options
    if attempt.is_too_late and (options is None or options.workflow is None):
        logger.warning("job %s expired", leased.id)
        return Outcome(State.EXPIRED, JobExecutionFailed("job expired"))
    if options is None or payload.function == CHUNK_FUNCTION:
        unknown = unknown_function(worker, attempt)
        if unknown is not None or options is None:
            return unknown
    if options.is_cron:
        attempt.ref = payload.function  # arq names cron jobs without their id
    if attempt.job_try > options.max_tries and options.workflow is None:
        age_s = (timestamp_ms() - payload.enqueued_ms) / 1000
        logger.warning("%6.2fs ! %s max retries %d exceeded", age_s, attempt.ref, options.max_tries)
        exceeded = JobExecutionFailed(f"max {options.max_tries} retries exceeded")
        return Outcome(State.FAILED, exceeded, exhausted=True)
    return None


def context_of(worker: "Worker", attempt: Attempt) -> JobContext:
    """What the function gets as its first argument: the worker's ctx, and what is known of this attempt."""
    ctx = JobContext(worker.ctx)
    ctx["job_id"] = attempt.leased.id
    ctx["job_try"] = attempt.job_try
    ctx["enqueue_time"] = ms_to_datetime(attempt.payload.enqueued_ms)
    ctx["score"] = attempt.leased.due_ms
    return ctx


def prepare(worker: "Worker", attempt: Attempt) -> Outcome | None:
    """Make ctx and, under a serializer of plain data, the arguments that the type hints ask for."""
    payload = attempt.payload
    attempt.ctx = context_of(worker, attempt)
    attempt.args, attempt.kwargs = (*attempt.input, *payload.args), payload.kwargs
    coercer = attempt.options.coercer
    if coercer is not None and attempt.options.workflow is None:  # one that has begun is blocked, and does not fail
        try:
            attempt.args, attempt.kwargs = coercer.coerce(attempt.args, attempt.own_kwargs)
            for name in payload.options.get("w") or ():
                attempt.kwargs[name] = payload.kwargs[name]
        except ArgumentsError as error:
            # No wrapper of the function sees this failure.
            log = faults.error if worker.observed else logger.warning
            log("job %s: %s", attempt.ref, error)
            return Outcome(State.FAILED, error)
    return None


async def conduct(worker: "Worker", attempt: Attempt) -> None:
    """Run a workflow until it ends or is parked."""
    outcome = await run_workflow(worker, attempt)
    _forget_cancellation(attempt.task)
    report(worker, attempt, outcome)
    hand_over(worker, attempt, outcome)
    del outcome  # as in `execute`


async def acknowledge(worker: "Worker", attempt: Attempt) -> Outcome | None:
    """Mark a job that is to run at most once, before it starts; an outcome if its lease was lost meanwhile."""
    leased = attempt.leased
    attempt.acknowledged = worker.loop.create_future()
    worker.sync.submit(Ending(leased.id, leased.queue, leased.token, "early"))
    return None if await attempt.acknowledged else Outcome(State.LOST)


async def call(worker: "Worker", attempt: Attempt) -> Outcome:
    """Call the job function within its time limit, and decide what became of it."""
    options = attempt.options
    function, timeout_s = options.function, options.timeout_s
    assert function is not None
    attempt.started_ms = timestamp_ms()
    limit = None if timeout_s is None else worker.loop.call_later(timeout_s, time_out, worker, attempt)
    attempt.calling = True
    try:
        if worker.on_job_start:
            await worker.on_job_start(attempt.ctx)
        report_start(worker, attempt)
        if options.invoked:
            value = await invoke(worker, attempt)
        else:
            value = await function.coroutine(attempt.ctx, *attempt.args, **attempt.kwargs)
        if attempt.unheard is not None:
            raise attempt.take_unheard()
        if type(value) not in PLAIN:
            if is_unfinished(value):
                value = await resolved(value)
            if isinstance(value, NO_RESULT):
                return asked_for(value)
        encode_value(worker, attempt, value)
    except GeneratorExit:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not worker.handles_signals:
            raise  # a person's; where the worker handles signals, only the job itself can have raised it
        return decide(worker, attempt, error)
    finally:
        attempt.calling = False
        if attempt.ended_ms == 0:
            attempt.ended_ms = timestamp_ms()
        if limit is not None:
            limit.cancel()
        _forget_cancellation(attempt.task)
    return Outcome(State.COMPLETE, value)


def time_out(worker: "Worker", attempt: Attempt) -> None:
    """The hard limit: cancel the coroutine, and look again whether it has heeded that."""
    attempt.cancel(CancelReason.TIMEOUT)
    if attempt.reason is CancelReason.TIMEOUT:
        worker.loop.call_later(to_seconds(worker.options.cancel_grace), give_up, worker, attempt)


def give_up(worker: "Worker", attempt: Attempt) -> None:
    """The coroutine swallows its cancellation: write the job's end, and keep the slot that it occupies.

    It is not tried again, whatever its policy: an attempt of it is still running.
    """
    if not attempt.calling or attempt.submitted or attempt.task is None:
        return
    faults.critical(
        "job %s does not end after its time limit; it keeps its slot:\n%s", attempt.ref, stack_of(attempt.task)
    )
    late = TimeoutError(f"the job did not end after its time limit of {attempt.options.timeout_s} s")
    attempt.ended_ms = timestamp_ms()
    retry = attempt.options.retry
    outcome = Outcome(State.FAILED, late, exhausted=retry is not None and retry.retries(late))
    report(worker, attempt, outcome)
    ending = ending_of(worker, attempt, outcome)
    attempt.submitted = True
    if ending is not None:
        worker.sync.submit(ending)
    worker.slots.conclude(worker.loop.create_task(conclude(worker, attempt, outcome)))
    if worker.stuck_callback is not None:
        worker.stuck_callback(attempt)


def stack_of(task: "asyncio.Task[None]") -> str:
    """Where a suspended task is: through all that it awaits, which `Task.print_stack` does not show."""
    lines: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            lines += traceback.format_stack(frame, limit=1)
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return "".join(lines)


def _forget_cancellation(task: "asyncio.Task[None] | None") -> None:
    """The cancellation was the job's; what the task does afterwards is not cancelled."""
    while task is not None and task.cancelling():
        task.uncancel()


async def conclude(worker: "Worker", attempt: Attempt, outcome: Outcome) -> None:
    """Hand over with the hooks around it; their errors are logged and change nothing."""
    ran = attempt.started_ms > 0
    if not attempt.ctx:
        attempt.ctx = context_of(worker, attempt)
    if worker.on_job_end and ran:
        await call_hook("on_job_end", worker.on_job_end, attempt, attempt.ctx)
    await call_end_hooks(worker, attempt, outcome)
    if not attempt.submitted:  # else `give_up` has written its end
        if attempt.written is None and worker.after_job_end:
            attempt.written = worker.loop.create_future()
        hand_over(worker, attempt, outcome)
    if attempt.written is not None and outcome.state is not State.LOST:
        await attempt.written
    if worker.after_job_end and ran:
        await call_hook("after_job_end", worker.after_job_end, attempt, attempt.ctx)


def hand_over_unexpected(worker: "Worker", attempt: Attempt, error: BaseException) -> None:
    """What no stage foresaw must not keep the slot: Ctrl-C gives the job back, anything else fails it."""
    if attempt.submitted or isinstance(error, asyncio.CancelledError) or not worker.loop.is_running():
        return  # `conclude` goes on by itself, or the worker gives the job back while it stops
    if isinstance(error, Exception):
        faults.exception("running job %s went wrong", attempt.ref)
    outcome = Outcome(State.RELEASED if isinstance(error, KeyboardInterrupt) else State.FAILED, error)
    if attempt.ended is None:
        report_refusal(worker, attempt, outcome)
    hand_over(worker, attempt, outcome)


def hand_over(worker: "Worker", attempt: Attempt, outcome: Outcome) -> None:
    """Give the outcome to the exchange; the slot is free then."""
    ending = ending_of(worker, attempt, outcome)
    attempt.submitted = True
    worker.slots.free(attempt)
    if ending is not None:
        worker.sync.submit(ending)


def ending_of(worker: "Worker", attempt: Attempt, outcome: Outcome) -> Ending | None:
    """What Redis is to write for an outcome; None if the lease is lost and nothing may be written."""
    leased, state = attempt.leased, outcome.state
    if state is State.COMPLETE:
        return _end(worker, attempt, outcome, "end", b"+" if attempt.job_try > 1 else b"")
    if state is State.LOST:
        return None
    if state is State.LIMITED:
        return Ending(leased.id, leased.queue, leased.token, "limit", 0, -1, outcome.value)
    if state is State.PARKED:
        seen = str(outcome.value).encode() + carried(worker, attempt)
        return Ending(leased.id, leased.queue, leased.token, "park", outcome.delay_ms, -1, seen)
    if state is State.RENEWED:
        return Ending(leased.id, leased.queue, leased.token, "again", 0, -1, outcome.value)
    error = history_entry(worker, attempt, outcome)
    if state in (State.RETRIED, State.RELEASED, State.SNOOZED):
        again = "retry" if state is State.RETRIED else release_of(attempt, asked_for=state is State.SNOOZED)
        attempts = b"" if attempt.job_try == leased.attempt else str(attempt.job_try).encode()
        delay_ms, unstarted = outcome.delay_ms, _never_started(attempt)
        if worker.after_job_end and state is State.RETRIED:  # which may ask what became of it, before it runs again
            delay_ms = max(delay_ms, int(worker.poll_delay_s * 1000))
        attempts += carried(worker, attempt, due_later=delay_ms != 0)
        return Ending(leased.id, leased.queue, leased.token, again, delay_ms, -1, attempts, error, unstarted)
    if state in (State.FAILED, State.DEAD) and worker.options.keep_dead:
        return _end(worker, attempt, outcome, "dead", error)
    return _end(worker, attempt, outcome, ENDS.get(state, "fail"), error)


def _end(worker: "Worker", attempt: Attempt, outcome: Outcome, kind: EndingKind, error: bytes) -> Ending:
    leased, ttl_ms = attempt.leased, attempt.options.result_ttl_ms
    data = attempt.result if outcome.state is State.COMPLETE else None
    if data is None and (kind == "dead" or keeps_result(attempt)):
        data = encoded_result(worker, attempt, outcome.value, success=outcome.state is State.COMPLETE)
    if data is None:
        ttl_ms, data = KEEP_NO_RESULT, b""
    keep_ms = id_taken_ms(worker, attempt.options.function) if attempt.options.is_cron else 0
    unstarted = _never_started(attempt)
    return Ending(leased.id, leased.queue, leased.token, kind, keep_ms, ttl_ms, data, error, unstarted)


def release_of(attempt: Attempt, *, asked_for: bool = False) -> Literal["retry", "release", "interrupt"]:
    """How an attempt goes back that does not count, by its own wish or not.

    One that was interrupted is free only so often; a workflow always, since it goes on where it was.
    """
    if attempt.leased.flag:
        return "retry"  # a job that was leased only to be recorded counted no attempt
    return "release" if asked_for or attempt.started_ms == 0 or attempt.options.workflow is not None else "interrupt"


def _never_started(attempt: Attempt) -> bool:
    """It was admitted under its limits, and was not called."""
    return attempt.started_ms == 0 and bool(attempt.leased.spec) and not attempt.leased.flag
