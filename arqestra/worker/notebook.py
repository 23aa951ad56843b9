"""What the jobs of a worker tell of themselves, gathered for a second: progress and log lines."""

from collections import deque
from collections.abc import Callable

from ..progress import LOG_LINES, encode_progress
from ..store.notes import NewNotes, write_notes
from ..store.store import Store
from .attempt import Attempt

__all__ = ("Notebook",)


class Notebook:
    """Gathers, and writes the latest.

    :param told: called with each attempt whose progress is about to be written
    """

    def __init__(self, told: Callable[[Attempt], None]) -> None:
        self._told = told
        self._noted: deque[Attempt] = deque()  # jobs in threads add to it as well

    def noted(self, attempt: Attempt) -> None:
        """A job has told something."""
        if not self._noted or self._noted[-1] is not attempt:
            self._noted.append(attempt)

    async def flush(self, store: Store) -> None:
        """Write what was told since the last time. It is kept if Redis cannot be reached."""
        taken: dict[Attempt, NewNotes] = {}
        while self._noted:
            attempt = self._noted.popleft()
            if attempt not in taken and (new := self._taken(attempt)) is not None:
                taken[attempt] = new
        if not taken:
            return
        try:
            await write_notes(store, list(taken.values()))
        except BaseException:
            self._put_back(taken)
            raise

    def _taken(self, attempt: Attempt) -> NewNotes | None:
        """What an attempt told, taken from it."""
        notes = attempt.notes
        if notes is None or not (notes.unwritten or notes.lines):
            return None
        progress = b""
        if notes.unwritten and notes.said is not None:
            notes.unwritten = False
            progress = encode_progress(*notes.said, attempt.job_try)
            self._told(attempt)
        lines = [notes.lines.popleft() for _ in range(len(notes.lines))]
        notes.writes += 1
        leased = attempt.leased
        return NewNotes(leased.id, leased.token, notes.writes, attempt.payload.enqueued_ms, progress, lines)

    def _put_back(self, taken: dict[Attempt, NewNotes]) -> None:
        for attempt, new in taken.items():
            notes = attempt.notes
            assert notes is not None
            notes.unwritten = notes.unwritten or bool(new.progress)
            notes.lines.extendleft(reversed(new.lines[len(new.lines) - (LOG_LINES - len(notes.lines)) :]))
            self._noted.append(attempt)
