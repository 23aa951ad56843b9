"""Whether a job was admitted under the limits that this worker knows for it.

Limits are judged in the claim (`store/lua/_limits.lua`), by the spec that came with the job. A producer that enqueued
by name, or an older deployment, did not know them: then the job goes back with the right spec, without having run and
without an attempt counted, and waits for its turn under it. A key function that gives another value at each call would
send it back for ever: then the job fails.
"""

import logging

from ...definitions.limits import Entry, is_position_only, limit_changes_of, limit_spec_with, queue_entry
from ...errors import ArgumentsError, SettingsError
from .attempt import Attempt
from .context import RunContext
from .outcome import Outcome, State

__all__ = ("admit",)

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py
MAX_CHANGES = 100  # of the limits of one job: far more than deployments that differ can make of it


def admit(run: RunContext, attempt: Attempt) -> Outcome | None:
    """An outcome that sends the job back to wait for its limits, if it was not admitted under them."""
    leased, options = attempt.leased, attempt.options
    if not options.limited and not run.options.queue_concurrency and is_position_only(leased.spec):
        return None
    try:
        limits = _limits(run, attempt)
        wanted = limit_spec_with(leased.spec, limits)
        if wanted == leased.spec:
            return None
        if limits != _limits(run, attempt) or limit_changes_of(wanted) > MAX_CHANGES:
            raise SettingsError(
                f"limits of {attempt.payload.function}: expected key functions that give the same for the same "
                "arguments, got another value at each call"
            )
    except (ArgumentsError, SettingsError) as error:
        # No wrapper of the function sees this failure.
        log = faults.error if run.observed else logger.warning
        log("job %s: %s", attempt.ref, error)
        return Outcome(State.FAILED, error)
    return Outcome(State.LIMITED, wanted)


def _limits(run: RunContext, attempt: Attempt) -> list[Entry]:
    leased, job_options = attempt.leased, attempt.options.job_options
    entries: list[Entry] = []
    if job_options is not None:
        entries = job_options.limits(attempt.payload.function, attempt.args, attempt.own_kwargs)
    jobs = (run.options.queue_concurrency or {}).get(leased.queue)
    if jobs is not None:
        entries.append(queue_entry(leased.queue, jobs))
    return entries
