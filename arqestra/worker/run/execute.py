"""The life of one job: from its payload to the outcome that goes to Redis.

The stages, in brackets those that few jobs need; a test can call each by itself:

- `before_call`: `decode`, `check`, (`put_back_unknown`), (`fetch_input`), `prepare`, (`admit`), (`acknowledge`). Each
  returns None to go on, or the `Outcome` (`outcome.py`) that ends the attempt there.
- `call` always returns an `Outcome`. A durable workflow goes to `conduct` in its place.
- `report` counts and logs the outcome.
- `hand_over` (`updates.py`) turns it into an update, which the next round trip sends to Redis. If hooks run around the
  end, `concluded` (`conclude.py`) calls it.

What few jobs need is in other files: `conclude.py` (hooks, jobs that do not end in time), `workflows.py`, `unknown.py`,
`flow_input.py`, `admission.py`.
"""

import asyncio
import logging

from arq.jobs import SerializationError
from arq.worker import JobExecutionFailed

from ...definitions.context import running_attempt
from ...definitions.signature import CHUNK_FUNCTION
from ...errors import ArgumentsError
from ...protocol.clock import timestamp_ms
from ...protocol.constants import EARLY_CRASHES
from ...protocol.wire import decode_payload
from ...store.updates import AcknowledgeEarly
from .admission import admit
from .attempt import CALLING, Attempt
from .conclude import conclude_unexpected, concluded, time_out
from .context import RunContext
from .decision import decide
from .flow_input import fetch_input
from .invoke import invoke, is_unfinished, resolved
from .outcome import COMPLETE, EXPIRED, Outcome, State, asked_for
from .report import report, report_refusal, report_start
from .unknown import is_code_missing, may_put_back, put_back_unknown, unknown_function
from .updates import NO_RESULT, encode_value, hand_over
from .workflows import run_workflow

__all__ = ("acknowledge", "before_call", "call", "check", "decode", "execute", "prepare")

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # failures that are no job's own: observed.py

# Of values with nothing to await in them, nor `Snooze` or `Cancel`: nearly all.
NEVER_AWAITABLE = frozenset({type(None), bool, int, float, str, bytes, dict, list, tuple})


async def execute(run: RunContext, attempt: Attempt) -> None:
    """Run one leased job to its outcome, and hand the outcome over to be sent to Redis."""
    running_attempt.set(attempt)
    outcome: Outcome | None = None
    try:
        outcome = await before_call(run, attempt)
        if outcome is not None:
            report_refusal(run, attempt, outcome)
        elif attempt.options.workflow is not None:
            return await conduct(run, attempt)
        else:
            outcome = await call(run, attempt)
            if attempt.handed_over:  # the job ended late: `conclude.give_up` has already told Redis and the log
                return run.slots.free(attempt)
            report(run, attempt, outcome)
        # The slow way, only if needed: hooks run around the end, somebody waits until Redis has the outcome
        # (`attempt.written`), or on_exhausted or on_expired may be set. `conduct` skips it: a workflow has no hooks.
        # Both ways end in `hand_over`, which frees the slot. So does `conclude_unexpected`, unless this task was
        # cancelled: then the shutdown does it, or the task of `concluded`.
        if run.hooks.around_end or attempt.written or outcome.exhausted or outcome.state is EXPIRED:
            await concluded(run, attempt, outcome)
        else:
            hand_over(run, attempt, outcome)
    except BaseException as error:
        conclude_unexpected(run, attempt, error)
        if not isinstance(error, Exception):
            raise
    finally:
        # From Python 3.12 on the traceback of the job's error refers to this frame: break the reference cycle.
        outcome = None


# -- the stages before the call ---------------------------------------------------------------------------------------


async def before_call(run: RunContext, attempt: Attempt) -> Outcome | None:
    """Run all stages before the call. Returns the outcome of a job that is not to be called, else None."""
    outcome = decode(run, attempt) or check(run, attempt)
    if outcome is not None and outcome.state is State.UNKNOWN:
        outcome = await put_back_unknown(run, attempt, outcome)
    if outcome is None and "in" in attempt.payload.options:  # a node of a flow that gets its parent's result
        outcome = await fetch_input(run, attempt)
    outcome = outcome or prepare(run, attempt)
    if outcome is None and (attempt.leased.spec or attempt.options.limited or run.options.queue_concurrency):
        outcome = admit(run, attempt)
    if outcome is None and attempt.options.early and attempt.options.workflow is None:
        outcome = await acknowledge(run, attempt)
    return outcome


def decode(run: RunContext, attempt: Attempt) -> Outcome | None:
    """Read the payload. Returns an outcome if it is gone or unreadable."""
    leased = attempt.leased
    if leased.payload is None:
        logger.warning("job %s expired", leased.id)
        return Outcome(State.EXPIRED, JobExecutionFailed("job expired"))
    try:
        attempt.payload = payload = decode_payload(run.serializer, leased.payload)
    except SerializationError as error:
        if may_put_back(run) and is_code_missing(error):
            return Outcome(State.UNKNOWN, error)
        logger.exception("deserializing job %s failed", leased.id)
        return Outcome(State.FAILED, error)
    attempt.ref = f"{leased.id}:{payload.function}"
    if payload.job_try and payload.job_try > leased.attempt:
        attempt.job_try = payload.job_try
    return None


def check(run: RunContext, attempt: Attempt) -> Outcome | None:
    """Check whether the job may run. Returns an outcome if not.

    A claim also leases jobs that must not run, so that a worker writes their end. Their flag says why. "abort":
    somebody asked for its abort. "dead": it has ended its worker too often. An early acknowledgement raises the crash
    count to EARLY_CRASHES: if the worker is lost after that, the next claim finds the job "dead" at once.
    """
    leased, payload = attempt.leased, attempt.payload
    options = run.functions.get(payload.function)
    if leased.flag == "abort" and (options is None or options.workflow is None):
        return Outcome(State.UNKNOWN if options is None else State.ABORTED, asyncio.CancelledError())
    if leased.flag == "dead" and leased.crashes > EARLY_CRASHES:
        lost = JobExecutionFailed("its worker was lost; acks='early' runs a job at most once")
        return Outcome(State.FAILED, lost)
    if leased.flag == "dead":
        kept = "; it is in the dead set" if run.options.keep_dead else ""
        return Outcome(State.DEAD, JobExecutionFailed(f"job ended its worker {leased.crashes} times{kept}"))
    if options is not None:
        attempt.options = options
    if attempt.is_too_late and (options is None or options.workflow is None):
        logger.warning("job %s expired", leased.id)
        return Outcome(State.EXPIRED, JobExecutionFailed("job expired"))
    if options is None or payload.function == CHUNK_FUNCTION:
        unknown = unknown_function(run, attempt)
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


def prepare(run: RunContext, attempt: Attempt) -> Outcome | None:
    """Make ctx. If the serializer only knows plain data, also coerce the arguments to their type hints."""
    payload = attempt.payload
    attempt.ctx = attempt.context(run.ctx)
    attempt.args, attempt.kwargs = (*attempt.input, *payload.args), payload.kwargs
    coercer = attempt.options.coercer
    # A workflow with wrong arguments is blocked later, it does not fail here.
    if coercer is not None and attempt.options.workflow is None:
        try:
            attempt.args, attempt.kwargs = coercer.coerce(attempt.args, attempt.own_kwargs)
            for name in payload.options.get("w") or ():  # keywords that wrappers have added are not coerced
                attempt.kwargs[name] = payload.kwargs[name]
        except ArgumentsError as error:
            # No wrapper of the function sees this failure.
            log = faults.error if run.observed else logger.warning
            log("job %s: %s", attempt.ref, error)
            return Outcome(State.FAILED, error)
    return None


async def acknowledge(run: RunContext, attempt: Attempt) -> Outcome | None:
    """Tell Redis that this job must not run again (`acks="early"`). Returns an outcome if its lease was lost."""
    attempt.acknowledged = run.loop.create_future()
    run.outbox.submit(AcknowledgeEarly(attempt.leased))
    return None if await attempt.acknowledged else Outcome(State.LOST)


# -- the call --------------------------------------------------------------------------------------------------------


async def call(run: RunContext, attempt: Attempt) -> Outcome:
    """Call the job function within its time limit, and decide the outcome."""
    options = attempt.options
    function, timeout_s = options.function, options.timeout_s
    assert function is not None
    attempt.started_ms = timestamp_ms()
    limit = None if timeout_s is None else run.loop.call_later(timeout_s, time_out, run, attempt)
    attempt.phase = CALLING
    try:
        if run.hooks.on_job_start:
            await run.hooks.on_job_start(attempt.ctx)
        report_start(run, attempt)
        if options.invoked:  # in a thread or process, within middleware or wrappers, under a soft limit
            value = await invoke(run, attempt)
        else:
            value = await function.coroutine(attempt.ctx, *attempt.args, **attempt.kwargs)
        if attempt.unheard is not None:  # a job that it awaited was aborted, and its `TaskGroup` passed over that
            raise attempt.take_unheard()
        if type(value) not in NEVER_AWAITABLE:
            if is_unfinished(value):  # a coroutine or awaitable that the function returned: what comes of it counts
                value = await resolved(value)
            if isinstance(value, NO_RESULT):  # `Snooze` or `Cancel`: what the job asks for in place of a result
                return asked_for(value)
        encode_value(run, attempt, value)
    except GeneratorExit:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not run.options.handle_signals:
            raise  # Ctrl-C by a person. If the worker handles signals, only the job itself can have raised it
        return decide(run, attempt, error)
    finally:
        attempt.end_call()
        if attempt.ended_ms == 0:
            attempt.ended_ms = timestamp_ms()
        if limit is not None:
            limit.cancel()
        _forget_cancellation(attempt.task)
    return Outcome(COMPLETE, value)


def _forget_cancellation(task: "asyncio.Task[None] | None") -> None:
    """Only the job was cancelled: let the task go on, to report and hand over the outcome."""
    while task is not None and task.cancelling():
        task.uncancel()


async def conduct(run: RunContext, attempt: Attempt) -> None:
    """Run a workflow until it ends or is parked. It has no hooks, so its outcome is handed over at once."""
    outcome = await run_workflow(run, attempt)
    _forget_cancellation(attempt.task)
    report(run, attempt, outcome)
    hand_over(run, attempt, outcome)
    del outcome  # as in `execute`
