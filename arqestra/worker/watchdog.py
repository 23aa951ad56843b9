"""What a supervised worker does about a job that blocks its event loop past its time limit.

The heartbeat's thread asks. The culprit is the job whose task the loop is running, or the one longest past its limit.
It fails, outcomes that wait to be sent are sent, all other jobs are given back, without an attempt counted; then the
process ends, and the supervisor starts another.
"""

import asyncio
import logging
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from arq.utils import to_seconds

from ..clock import timestamp_ms
from ..outcome import Outcome, State
from ..store.records import Ending
from ..store.store import CHUNK, Store
from .attempt import Attempt
from .execute import ending_of

if TYPE_CHECKING:
    from .worker import Worker

__all__ = ("Watchdog",)

logger = logging.getLogger("arq.worker")


class Watchdog:
    """Watches one worker's loop.

    :param worker: the worker
    :param end_process: ends the process, with a reason
    """

    def __init__(self, worker: "Worker", end_process: Callable[[str], None]) -> None:
        self._worker = worker
        self._end_process = end_process

    async def check(self, store: Store, thread_id: int) -> None:
        """Called in the heartbeat's thread while the loop does not answer; does not return if a job is to blame.

        :param store: the heartbeat's
        :param thread_id: of the loop that does not answer
        """
        culprit = self._culprit()
        if culprit is None:
            return
        limit_s = culprit.terms.timeout_s
        reason = f"job {culprit.ref} blocks the event loop past its time limit of {limit_s} s"
        frame = sys._current_frames().get(thread_id)
        logger.critical("%s:\n%s", reason, "".join(traceback.format_stack(frame)) if frame else "(no stack)")
        endings = self._endings(culprit, TimeoutError(f"the job blocked the event loop past its limit of {limit_s} s"))
        try:
            for first in range(0, len(endings), CHUNK):
                await store.turn(endings[first : first + CHUNK], None)
        finally:
            self._end_process(reason)

    def _culprit(self) -> Attempt | None:
        now_ms = timestamp_ms()
        grace_ms = to_seconds(self._worker.options.cancel_grace) * 1000
        late: list[tuple[float, Attempt]] = []
        for attempt in list(self._worker.slots.running.values()):
            if attempt.calling and attempt.terms.timeout_s is not None:
                over_ms = now_ms - attempt.started_ms - attempt.terms.timeout_s * 1000 - grace_ms
                if over_ms > 0:
                    late.append((over_ms, attempt))
        if not late:
            return None
        running_task = asyncio.current_task(self._worker.loop)
        for _, attempt in late:
            if attempt.task is running_task:
                return attempt
        return max(late, key=lambda entry: entry[0])[1]

    def _endings(self, culprit: Attempt, error: BaseException) -> list[Ending]:
        worker = self._worker
        endings = worker.exchange.unwritten()
        settled = {ending.id for ending in endings}
        if culprit.leased.id not in settled:
            failed = ending_of(worker, culprit, Outcome(State.FAILED, error))
            if failed is not None:
                endings.append(failed)
                settled.add(failed.id)
        for leased in list(worker.slots.leases.values()):
            if leased.id not in settled:
                endings.append(Ending(leased.id, leased.queue, leased.token, "release"))
        return endings
