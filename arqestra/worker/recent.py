"""Attempts that have ended, gathered for a second, for the lists of recent jobs.

Of a function that ends thousands of times a second the newest are kept: no more than a list holds, and of what went
well no more than a reader can want to see of a second.
"""

from collections import deque
from typing import NamedTuple

from ..ended import ENDED_STATES, Failure, encode_ended
from ..store.recent import EndedList, write_recent
from ..store.store import Store

__all__ = ("RecentJobs",)

MOST_COMPLETE = 100  # of a function in a second

ListName = tuple[str, str, str]  # queue, state, function


class _Entry(NamedTuple):
    ended_ms: int
    job_id: str
    attempt: int
    enqueued_ms: int
    started_ms: int
    function: str
    failure: Failure | None


class RecentJobs:
    """The newest ended attempts by queue, state and function.

    :param worker_id: on which worker
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._lists: dict[ListName, deque[_Entry]] = {}

    def add(self, name: ListName, entry: tuple[int, str, int, int, int, str, Failure | None]) -> None:
        """An attempt has ended.

        :param name: queue, state and function of the list
        :param entry: when it ended (ms), job id, attempt, when it was enqueued and started (ms; 0 if it was not),
            function, failure
        """
        found = self._lists.get(name)
        if found is None:
            most = MOST_COMPLETE if name[1] == "complete" else ENDED_STATES[name[1]]
            found = self._lists[name] = deque(maxlen=most)
        found.append(entry)  # type: ignore[arg-type] # made a named tuple only when it is written

    async def flush(self, store: Store) -> None:
        """Write what was gathered since the last time. It is kept if Redis cannot be reached."""
        if not self._lists:
            return
        lists, self._lists = self._lists, {}
        by_queue: dict[str, list[EndedList]] = {}
        for (queue, state, function), entries in lists.items():
            encoded = [self._encoded(_Entry(*entry)) for entry in entries]
            by_queue.setdefault(queue, []).append(EndedList(state, function, encoded))
        try:
            for queue, ended in by_queue.items():
                await write_recent(store, queue, ended)
        except BaseException:
            for name, entries in lists.items():
                for entry in [*entries, *self._lists.pop(name, ())]:
                    self.add(name, entry)
            raise

    def _encoded(self, entry: _Entry) -> tuple[int, bytes]:
        data = encode_ended(
            entry.job_id,
            entry.attempt,
            entry.enqueued_ms,
            entry.started_ms,
            self._worker_id,
            entry.function,
            entry.failure,
        )
        return entry.ended_ms, data
