"""The ends of a job that few jobs have: with hooks around them, after the time limit, or that no stage foresaw."""

import asyncio
import inspect
import logging
import traceback
from collections.abc import Callable
from typing import Any

from arq.utils import to_seconds

from ...protocol.clock import timestamp_ms
from .attempt import Attempt, Phase
from .context import RunContext
from .outcome import CancelReason, Outcome, State
from .report import report, report_refusal
from .updates import hand_over, update_for

__all__ = ("conclude_unexpected", "concluded", "give_up", "time_out")

faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py


# -- hooks ------------------------------------------------------------------------------------------------------------


async def concluded(run: RunContext, attempt: Attempt, outcome: Outcome) -> None:
    """Hand over, with the hooks around it. In a task of its own: a shutdown must not lose the outcome."""
    concluding = run.loop.create_task(conclude(run, attempt, outcome))
    run.slots.conclude(concluding)
    await asyncio.shield(concluding)


async def conclude(run: RunContext, attempt: Attempt, outcome: Outcome) -> None:
    """Hand over with the hooks around it; their errors are logged and change nothing."""
    ran = attempt.started_ms > 0
    if not attempt.ctx:
        attempt.ctx = attempt.context(run.ctx)
    if run.hooks.on_job_end and ran:
        await _call_hook("on_job_end", run.hooks.on_job_end, attempt, attempt.ctx)
    await _call_end_hooks(run, attempt, outcome)
    if not attempt.handed_over:  # else `give_up` has written its end
        if attempt.written is None and run.hooks.after_job_end:
            attempt.written = run.loop.create_future()
        hand_over(run, attempt, outcome)
    if attempt.written is not None and outcome.state is not State.LOST:
        await attempt.written
    if run.hooks.after_job_end and ran:
        await _call_hook("after_job_end", run.hooks.after_job_end, attempt, attempt.ctx)


async def _call_hook(name: str, hook: Callable[..., Any], attempt: Attempt, *args: Any) -> None:
    """Call one hook."""
    try:
        result = hook(*args)
        if inspect.isawaitable(result):
            await result
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException:
        faults.exception("%s failed for %s", name, attempt.ref)


async def _call_end_hooks(run: RunContext, attempt: Attempt, outcome: Outcome) -> None:
    """The function's hook first, then the worker's."""
    for name, hook in _end_hooks(run, attempt, outcome):
        args = (attempt.ctx, outcome.value) if outcome.exhausted else (attempt.ctx,)
        await _call_hook(name, hook, attempt, *args)


def _end_hooks(run: RunContext, attempt: Attempt, outcome: Outcome) -> list[tuple[str, Callable[..., Any]]]:
    job_options, options = attempt.options.job_options, run.options
    if outcome.exhausted:
        own, general = job_options.on_exhausted if job_options else None, options.on_retries_exhausted
        named = (("on_exhausted", own), ("on_retries_exhausted", general))
    elif outcome.state is State.EXPIRED:
        own, general = job_options.on_expired if job_options else None, options.on_expired
        named = (("on_expired", own), ("on_expired", general))
    else:
        return []
    return [(name, hook) for name, hook in named if hook is not None]


# -- a job that does not end after its time limit ---------------------------------------------------------------------


def time_out(run: RunContext, attempt: Attempt) -> None:
    """The hard limit: cancel the coroutine, and check later whether it has ended."""
    attempt.cancel(CancelReason.TIMEOUT)
    if attempt.reason is CancelReason.TIMEOUT:
        run.loop.call_later(to_seconds(run.options.cancel_grace), give_up, run, attempt)


def give_up(run: RunContext, attempt: Attempt) -> None:
    """The coroutine swallows its cancellation: write the job's end, and keep the slot that it occupies.

    It is not tried again, whatever its policy: an attempt of it is still running.
    """
    if attempt.phase is not Phase.CALLING or attempt.task is None:
        return
    faults.critical(
        "job %s does not end after its time limit; it keeps its slot:\n%s", attempt.ref, stack_of(attempt.task)
    )
    late = TimeoutError(f"the job did not end after its time limit of {attempt.options.timeout_s} s")
    attempt.ended_ms = timestamp_ms()
    retry = attempt.options.retry
    outcome = Outcome(State.FAILED, late, exhausted=retry is not None and retry.retries(late))
    report(run, attempt, outcome)
    update = update_for(run, attempt, outcome)
    attempt.hand_over()
    if run.on_outcome is not None:
        run.on_outcome(attempt, outcome)
    if update is not None:
        run.outbox.submit(update)
    run.slots.conclude(run.loop.create_task(conclude(run, attempt, outcome)))
    if run.on_stuck is not None:
        run.on_stuck(attempt)


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


# -- what no stage foresaw --------------------------------------------------------------------------------------------


def conclude_unexpected(run: RunContext, attempt: Attempt, error: BaseException) -> None:
    """What no stage foresaw must not keep the slot: Ctrl-C gives the job back, anything else fails it."""
    if attempt.handed_over or isinstance(error, asyncio.CancelledError) or not run.loop.is_running():
        return  # `conclude` goes on by itself, or the worker gives the job back while it stops
    if isinstance(error, Exception):
        faults.exception("running job %s went wrong", attempt.ref)
    outcome = Outcome(State.RELEASED if isinstance(error, KeyboardInterrupt) else State.FAILED, error)
    if attempt.ended is None:
        report_refusal(run, attempt, outcome)
    hand_over(run, attempt, outcome)
