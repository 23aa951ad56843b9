"""What the jobs of a worker tell of themselves, gathered for a second: progress and log lines.

What was sent and not answered is sent again as it was, under its number, before anything newer of the same attempt: a
line is never written twice. An attempt that has lost its lease writes nothing; one whose outcome Redis has taken may
still write its last lines.
"""

import asyncio
from collections import deque
from itertools import islice

from ...protocol.progress import encode_progress
from ...store.progress import JOBS_PER_CALL, ProgressUpdate, Written, write_progress
from ...store.store import Store
from ..run.attempt import Attempt
from .events import EventPublisher

__all__ = ("ProgressBuffer",)

MAX_ATTEMPTS = 10_000  # whose notes are kept while Redis does not take them


class ProgressBuffer:
    """Gathers, and writes the latest.

    :param publisher: tells those who listen
    """

    def __init__(self, publisher: EventPublisher) -> None:
        self._publisher = publisher
        self._noted: deque[Attempt] = deque(maxlen=MAX_ATTEMPTS)  # jobs in threads add to it as well
        self._unwritten: dict[Attempt, ProgressUpdate] = {}
        self._writing = asyncio.Lock()

    @property
    def waits_for_outcomes(self) -> bool:
        """Jobs have ended before their last notes were written, and the replies that say so are on their way."""
        return any(attempt.handed_over and attempt.resolved is not False for attempt in self._unwritten)

    def noted(self, attempt: Attempt) -> None:
        """A job has told something."""
        notes = attempt.notes
        if notes is not None and not notes.listed:
            notes.listed = True
            self._noted.append(attempt)

    async def flush(self, store: Store) -> None:
        """Write what was told since the last time. It is kept if Redis cannot be reached."""
        async with self._writing:
            self._gather()
            for attempts in _pieces(list(self._unwritten)):
                notes = [self._unwritten[each]._replace(ended=each.resolved is True) for each in attempts]
                for attempt, taken in zip(attempts, await write_progress(store, notes), strict=True):
                    if not _is_for_later(attempt, taken):
                        del self._unwritten[attempt]

    def _gather(self) -> None:
        """Take what attempts have told, but for those that still have something to be written."""
        for _ in range(len(self._noted)):
            attempt = self._noted.popleft()
            assert attempt.notes is not None
            attempt.notes.listed = False  # before a look at what there is: a thread may just be adding to it
            if attempt in self._unwritten:
                self.noted(attempt)
            elif attempt.resolved is not False and (new := self._taken(attempt)) is not None:
                self._unwritten[attempt] = new
        for attempt in list(islice(self._unwritten, max(0, len(self._unwritten) - MAX_ATTEMPTS))):
            del self._unwritten[attempt]

    def _taken(self, attempt: Attempt) -> ProgressUpdate | None:
        """What an attempt told, taken from it."""
        notes = attempt.notes
        if notes is None or not (notes.unwritten or notes.lines):
            return None
        progress = b""
        if notes.unwritten and notes.latest is not None:
            notes.unwritten = False
            progress = encode_progress(*notes.latest, attempt.job_try)
            if self._publisher.listened:
                self._publisher.job_progress(attempt)
        lines = [notes.lines.popleft() for _ in range(len(notes.lines))]
        notes.writes += 1
        leased = attempt.leased
        return ProgressUpdate(
            job_id=leased.id,
            token=leased.token,
            number=notes.writes,
            enqueued_ms=attempt.payload.enqueued_ms,
            progress=progress,
            lines=lines,
        )


def _pieces(attempts: list[Attempt]) -> list[list[Attempt]]:
    return [attempts[first : first + JOBS_PER_CALL] for first in range(0, len(attempts), JOBS_PER_CALL)]


def _is_for_later(attempt: Attempt, taken: Written) -> bool:
    """Nobody holds the job: the reply that tells whether this attempt's outcome was taken is still on its way."""
    return taken == "free" and attempt.resolved is not False
