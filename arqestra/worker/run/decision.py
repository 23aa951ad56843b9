"""What becomes of an attempt that raised: the same for its outcome and for what others' wrappers are shown of it."""

from arq.worker import JobExecutionFailed

from .attempt import Attempt
from .context import RunContext
from .outcome import FAILED, RELEASED, SHUTDOWN, Outcome, classify, exhausted_by_cancellation, retried_by

__all__ = ("decide",)


def decide(run: RunContext, attempt: Attempt, error: BaseException) -> Outcome:
    """What becomes of an attempt that raised, by the reason of its cancellation and the function's options."""
    options = attempt.options
    reason = attempt.reason or (SHUTDOWN if run.is_stopping() else None)
    outcome = classify(error, reason, retry_jobs=run.retry_jobs, timeout_s=options.timeout_s)
    outcome = exhausted_by_cancellation(outcome, attempt.job_try, options.max_tries)
    if options.early and outcome.state is RELEASED:
        stopped = JobExecutionFailed("the worker stopped; acks='early' runs a job at most once")
        return Outcome(FAILED, stopped)
    if options.retry is not None and run.retry_jobs:
        return retried_by(options.retry, outcome, attempt.job_try, options.max_tries)
    return outcome
