"""What a supervised worker does about a job that blocks its event loop past its time limit.

The thread of the lease renewer asks. The culprit is the job whose task the loop is running, or the one longest past its
limit. It fails. Outcomes that wait to be sent are sent, and all other jobs are given back; their attempts do not count.
Then the process ends, and the supervisor starts another.
"""

import asyncio
import logging
import sys
import traceback
from collections.abc import Callable

from arq.utils import to_seconds

from ...protocol.clock import timestamp_ms
from ...protocol.constants import BATCH
from ...store.store import Store
from ...store.updates import AcknowledgeEarly, Update
from ..run.attempt import Attempt
from ..run.context import RunContext
from ..run.outcome import Outcome, State
from ..run.updates import release_of, update_for
from .slots import Slots

__all__ = ("Watchdog",)

faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py


class Watchdog:
    """Watches one worker's loop.

    :param run: of the worker
    :param slots: of the worker
    :param unwritten: the outcomes that Redis may not have
    :param end_process: ends the process, with a reason
    """

    def __init__(
        self,
        run: RunContext,
        slots: Slots,
        unwritten: Callable[[], list[Update]],
        end_process: Callable[[str], None],
    ) -> None:
        self._run = run
        self._slots = slots
        self._unwritten = unwritten
        self._end_process = end_process

    async def check(self, store: Store, thread_id: int, blocked_s: float) -> None:
        """Called by the lease renewer's thread while the loop does not answer. Does not return if a job is to blame.

        :param store: the lease renewer's
        :param thread_id: of the loop that does not answer
        :param blocked_s: seconds since it last did
        """
        culprit = self._culprit()
        if culprit is not None:
            reason = f"job {culprit.ref} blocks the event loop past its time limit of {culprit.options.timeout_s} s"
        elif blocked_s > self._run.options.stuck_after_s:
            reason = f"the event loop has been blocked for {blocked_s:.0f} s"
        else:
            return
        frame = sys._current_frames().get(thread_id)
        faults.critical("%s:\n%s", reason, "".join(traceback.format_stack(frame)) if frame else "(no stack)")
        updates = self._updates(culprit)
        try:
            for first in range(0, len(updates), BATCH):
                await store.turn(updates[first : first + BATCH], None)
        finally:
            self._end_process(reason)

    def _culprit(self) -> Attempt | None:
        now_ms = timestamp_ms()
        grace_ms = to_seconds(self._run.options.cancel_grace) * 1000
        late: list[tuple[float, Attempt]] = []
        for attempt in list(self._slots.running.values()):
            if attempt.in_call and attempt.options.timeout_s is not None:
                over_ms = now_ms - attempt.started_ms - attempt.options.timeout_s * 1000 - grace_ms
                if over_ms > 0:
                    late.append((over_ms, attempt))
        running = self._running()
        if running is not None:  # within its limit: it is not to blame, and its neighbours cannot help being late
            return running if any(attempt is running for _, attempt in late) else None
        return max(late, key=lambda entry: entry[0])[1] if late else None

    def _running(self) -> Attempt | None:
        """The job that the loop is in; None if it is in a task that a job started, or in none."""
        task = asyncio.current_task(self._run.loop)
        return next((attempt for attempt in list(self._slots.running.values()) if attempt.task is task), None)

    def _updates(self, culprit: Attempt | None) -> list[Update]:
        """The culprit's end, and what is given back. A job that blocks and has no time limit is left to its lease: that
        counts a crash, so that it does not go round for ever.
        """
        updates = self._unwritten()
        # An early acknowledgement ends nothing; and an outcome is of one lease, not of the job's next one.
        ends = [update for update in updates if not isinstance(update, AcknowledgeEarly)]
        ended = {(update.lease.id, update.lease.token) for update in ends}
        if culprit is not None and _lease(culprit) not in ended:
            error = TimeoutError(f"the job blocked the event loop past its limit of {culprit.options.timeout_s} s")
            failed = update_for(self._run, culprit, Outcome(State.FAILED, error))
            if failed is not None:
                updates.append(failed)
                ended.add(_lease(culprit))
        elif culprit is None and (running := self._running()) is not None:
            ended.add(_lease(running))
        for attempt in list(self._slots.leases.values()):
            if _lease(attempt) not in ended:
                updates.append(release_of(attempt)(attempt.leased))
        return updates


def _lease(attempt: Attempt) -> tuple[str, str]:
    return attempt.leased.id, attempt.leased.token
