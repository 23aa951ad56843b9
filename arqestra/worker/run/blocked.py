"""A workflow that is blocked by code: this worker's does not fit its history, mostly because of a deploy.

It asks for something else than in the run before, raises or returns where it waited then, or cannot be called any more.
None of that is its end: it is tried again, later each time, for three quarters of an hour in all, which is time to roll
the deploy back or to correct it. A try is one that comes when its pause is over: an event or a step that ends
meanwhile wakes the workflow, and costs none. Then it fails with `NondeterminismError`, and keeps its history:
`FlowHandle.resume()` goes on where it stood.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from ...errors import NondeterminismError
from ...store.workflows import Blocked, note_blocked
from .attempt import Attempt
from .context import RunContext
from .outcome import Outcome, State

__all__ = ("Patience", "blocked", "does_not_fit")

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py


class Patience(NamedTuple):
    """How long a workflow is tried again.

    :ivar pause_ms: until the second try; doubled with each try
    :ivar most_ms: the longest pause
    :ivar tries: in all
    """

    pause_ms: int
    most_ms: int
    tries: int

    def left_s(self, tries: int, delay_ms: int) -> float:
        """Seconds until it fails, after so many tries, if nothing changes."""
        pauses_ms = [min(self.pause_ms << place, self.most_ms) for place in range(tries, self.tries - 1)]
        return (delay_ms + sum(pauses_ms)) / 1000


def does_not_fit(flow_id: str, error: BaseException) -> NondeterminismError:
    """Of a workflow that has begun and cannot be called any more.

    :param error: why not
    """
    misfit = NondeterminismError(
        f"workflow {flow_id}: expected its function to take the arguments that it was begun with, got "
        f"{type(error).__name__}: {error}"
    )
    misfit.__cause__ = error
    return misfit


async def blocked(
    run: RunContext, attempt: Attempt, error: BaseException, patience: Patience, events: Sequence[tuple[bytes, object]]
) -> Outcome:
    """What becomes of a workflow that is blocked.

    :param error: what does not fit
    :param events: of its history that it has not taken in
    """
    leased = attempt.leased
    noted = await note_blocked(
        run.store,
        *(leased.id, leased.queue, leased.token, str(error)),
        pause_ms=patience.pause_ms,
        most_ms=patience.most_ms,
    )
    if noted == "lost":
        return Outcome(State.LOST)
    if noted == "new":
        return Outcome(State.FAILED, error.__cause__ or error)
    assert isinstance(noted, Blocked)
    if noted.early:
        return Outcome(State.RELEASED, error, noted.delay_ms)
    if noted.tries < patience.tries:
        faults.critical(
            "workflow %s is blocked by code: %s; it is tried again in %.0f s and fails in %.0f s: roll the code back",
            attempt.ref,
            error,
            noted.delay_ms / 1000,
            patience.left_s(noted.tries, noted.delay_ms),
            exc_info=error.__cause__,
        )
        return Outcome(State.RETRIED, error, noted.delay_ms)
    logger.critical("workflow %s was blocked by code for %.0f s: it fails", attempt.ref, noted.since_ms / 1000)
    if any(event.startswith(b"x ") for event, _ in events):  # somebody has asked for that meanwhile
        return Outcome(State.ABORTED, asyncio.CancelledError())
    return Outcome(State.FAILED, error)
