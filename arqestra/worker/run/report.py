"""What is told of an attempt: arq's log lines, the worker's counters, and how it ended, for the statistics."""

import asyncio
import logging
from typing import Any

from arq.utils import args_to_string, truncate
from arq.worker import Retry, RetryJob

from ...definitions.redact import clipped, redacted_value
from ...protocol.attempt_errors import text_of
from ...protocol.clock import timestamp_ms
from ...protocol.recent_jobs import Failure, failure_of
from ...protocol.tracebacks import TRACEBACK_LIMIT_CHARS
from .attempt import Attempt
from .context import RunContext
from .observed import faults, was_shown
from .outcome import ABORTED, COMPLETE, DEAD, FAILED, LOST, RELEASED, RETRIED, SNOOZED, Outcome, State, failure_in

__all__ = ("report", "report_refusal", "report_start")

logger = logging.getLogger("arq.worker")
DELAY_WORTH_SAYING_MS = 1200
UNCOUNTED = (LOST, State.LIMITED, State.PARKED, State.CONTINUED_AS_NEW)
AGAIN = (RETRIED, RELEASED, SNOOZED)
INTERRUPTED = (RETRIED, RELEASED, ABORTED, LOST)


def report_start(run: RunContext, attempt: Attempt) -> None:
    """Tell of the start of a job; arq's log line."""
    if attempt.leased.crashes:
        run.counters.recovered(attempt)
    if run.publisher.listened:
        run.publisher.job_started(attempt)
    if not logger.isEnabledFor(logging.INFO):
        return
    payload, started_ms = attempt.payload, attempt.started_ms
    extra = f" try={attempt.job_try}" if attempt.job_try > 1 else ""
    delay_ms = started_ms - attempt.leased.due_ms
    if delay_ms > DELAY_WORTH_SAYING_MS:
        extra += f" delayed={delay_ms / 1000:0.2f}s"
    args, kwargs = payload.args, payload.kwargs
    try:
        if (args or kwargs) and attempt.options.redactor is not None:
            args, kwargs = clipped(args), {name: clipped(value) for name, value in kwargs.items()}
            args, kwargs = attempt.options.redactor.redacted(args, kwargs, len(attempt.input))
        shown = args_to_string(args, kwargs)
    except Exception as error:  # a repr is the user's code
        shown = f"(their repr() failed: {type(error).__name__}: {text_of(error)})"
    logger.info("%6.2fs → %s(%s)%s", (started_ms - payload.enqueued_ms) / 1000, attempt.ref, shown, extra)


def report(run: RunContext, attempt: Attempt, outcome: Outcome) -> None:
    """Count and log the outcome of a job that was called."""
    run_ms = attempt.ended_ms - attempt.started_ms
    state = outcome.state
    _count(run, attempt, outcome)
    if attempt.notes is not None:
        run.reporter.write_notes_soon()
    if state is COMPLETE:
        if logger.isEnabledFor(logging.INFO):
            logger.info("%6.2fs ← %s ● %s", run_ms / 1000, attempt.ref, _shown(run, outcome.value))
    elif state is FAILED:
        unseen = run.observed and not was_shown(attempt, outcome.value)
        _log_failure(faults if unseen else logger, attempt, outcome.value, run_ms / 1000)
    elif state is RETRIED and isinstance(outcome.value, Retry):
        logger.info("%6.2fs ↻ %s retrying job in %0.2fs", run_ms / 1000, attempt.ref, outcome.delay_ms / 1000)
    elif state is RETRIED and not isinstance(outcome.value, RetryJob | asyncio.CancelledError):
        logger.warning(
            "%6.2fs ↻ %s failed, %s: %s; retrying job in %0.2fs",
            run_ms / 1000,
            attempt.ref,
            type(outcome.value).__name__,
            text_of(outcome.value),
            outcome.delay_ms / 1000,
        )
    elif state is SNOOZED:
        logger.info("%6.2fs ↻ %s snoozed for %0.2fs", run_ms / 1000, attempt.ref, outcome.delay_ms / 1000)
    elif state is RETRIED or state is RELEASED:
        logger.info("%6.2fs ↻ %s cancelled, will be run again", run_ms / 1000, attempt.ref)
    elif state is ABORTED:
        logger.info("%6.2fs ⊘ %s aborted", run_ms / 1000, attempt.ref)
    elif state is LOST:
        logger.warning("%6.2fs ! %s lost its lease; another worker has the job", run_ms / 1000, attempt.ref)
    if state in INTERRUPTED:
        _log_interruption(attempt, outcome)


def report_refusal(run: RunContext, attempt: Attempt, outcome: Outcome) -> None:
    """Count and log the outcome of a job that was not called; `decode` and `check` have logged the other reasons."""
    _count(run, attempt, outcome)
    if outcome.state is ABORTED:
        age_s = (timestamp_ms() - attempt.payload.enqueued_ms) / 1000
        logger.info("%6.2fs ⊘ %s aborted before start", age_s, attempt.ref)
    elif outcome.state is DEAD:
        goes_on = "it goes to the dead set" if run.options.keep_dead else "it has failed"
        faults.error("job %s ended its worker %d times, %s", attempt.ref, attempt.leased.crashes, goes_on)


def _count(run: RunContext, attempt: Attempt, outcome: Outcome) -> None:
    state = outcome.state
    if state is COMPLETE:
        run.counts.complete += 1
    elif state in AGAIN:
        run.counts.retried += 1
    elif state not in UNCOUNTED:
        run.counts.failed += 1
    else:
        return
    attempt.ended = (state, None if state is COMPLETE else _failure_of(outcome))


def _failure_of(outcome: Outcome) -> Failure | None:
    """What an attempt failed with; None if it did not fail."""
    error = failure_in(outcome)
    return None if error is None else failure_of(error)


def _shown(run: RunContext, value: Any) -> str:
    if value is None or not run.options.log_results:
        return ""
    try:
        return truncate(repr(redacted_value(clipped(value))))
    except Exception as error:
        return f"(its repr() failed: {type(error).__name__}: {text_of(error)})"


def _log_interruption(attempt: Attempt, outcome: Outcome) -> None:
    """What arq's lines do not say: that nobody had cancelled the job but itself, and what its clean-up raised."""
    error, state = outcome.value, outcome.state
    is_cancelled = isinstance(error, asyncio.CancelledError)
    if state is RETRIED:
        if is_cancelled:
            what = "nobody had cancelled it, and it raised"
        else:
            return
    else:
        what = "it was cancelled, and its clean-up raised"
        if state is ABORTED:
            error = error.__cause__ if is_cancelled else None
        elif is_cancelled:
            error = None
    if isinstance(error, BaseException):
        name, text = type(error).__name__, text_of(error)
        logger.warning("job %s: %s %s: %s", attempt.ref, what, name, text, exc_info=error)


def _log_failure(log: logging.Logger, attempt: Attempt, error: BaseException, run_s: float) -> None:
    extra = getattr(error, "extra", None)
    if callable(extra):
        try:
            extra = extra()
        except Exception as extra_error:
            extra = f"(its extra() failed: {type(extra_error).__name__}: {text_of(extra_error)})"
    if not log.isEnabledFor(logging.ERROR):
        return
    path, line, function, _ = log.findCaller()
    arguments = (run_s, attempt.ref, type(error).__name__, text_of(error))
    raised = (type(error), error, error.__traceback__)
    record = log.makeRecord(
        *(log.name, logging.ERROR, path, line, "%6.2fs ! %s failed, %s: %s", arguments, raised, function),
        {"extra": extra},
    )
    text = attempt.traceback_of(error)
    if len(text) <= TRACEBACK_LIMIT_CHARS and _is_written_as_python_does(log):
        record.exc_text = text.removesuffix("\n")
    log.handle(record)


def _is_written_as_python_does(log: logging.Logger | None) -> bool:
    """Whether all handlers write a traceback as Python does: then its text need not be made for the log once more."""
    while log is not None:
        for handler in log.handlers:
            formatter = type(handler.formatter or logging.Formatter())
            if getattr(formatter, "formatException", None) is not logging.Formatter.formatException:
                return False
        log = log.parent if log.propagate else None
    return True
