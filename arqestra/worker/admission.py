"""Whether a job was admitted under the limits that this worker knows for it.

Limits are judged in the claim (`store/lua/_limits.lua`), by the spec that came with the job. A producer that enqueued
by name, or an older deployment, did not know them: then the job goes back with the right spec, without having run and
without an attempt counted, and waits for its turn under it.
"""

from typing import TYPE_CHECKING

from ..errors import ArgumentsError
from ..limits import Entry, is_place_only, queue_entry, spec_with_limits
from ..outcome import Outcome, State
from .attempt import Attempt

if TYPE_CHECKING:
    from .worker import Worker

__all__ = ("admit",)


def admit(worker: "Worker", attempt: Attempt) -> Outcome | None:
    """An outcome that sends the job back to wait for its limits, if it was not admitted under them."""
    leased, terms = attempt.leased, attempt.terms
    if not terms.limited and not worker.options.queue_concurrency and is_place_only(leased.spec):
        return None
    try:
        wanted = spec_with_limits(leased.spec, _limits(worker, attempt))
    except ArgumentsError as error:
        return Outcome(State.FAILED, error)
    return None if wanted == leased.spec else Outcome(State.LIMITED, wanted)


def _limits(worker: "Worker", attempt: Attempt) -> list[Entry]:
    leased, control = attempt.leased, attempt.terms.control
    entries = control.limits(attempt.payload.function, attempt.args, attempt.kwargs) if control is not None else []
    jobs = (worker.options.queue_concurrency or {}).get(leased.queue)
    if jobs is not None:
        entries.append(queue_entry(leased.queue, jobs))
    return entries
