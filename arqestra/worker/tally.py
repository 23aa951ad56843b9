"""Counts of what this worker did, folded in memory and written once a second: no cost in Redis for each job.

A killed worker loses what it had not yet written, at most one second of counts. Jobs themselves never depend on them.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import add

from ..clock import timestamp_ms
from ..histogram import BOUNDS_MS, BUCKETS
from ..outcome import State
from ..store.statistics import RUN_BUCKET, WAIT_BUCKET
from ..store.store import Store

__all__ = ("Tally",)

Key = tuple[str, str, str]
RUN, WAIT = 4, 4 + BUCKETS  # where the histograms begin in an entry
WIDTH = 4 + 2 * BUCKETS

# The figure that a state counts for, where it is not the state's own name.
_COUNTS_AS = {State.DEAD.value: "failed", State.RELEASED.value: "retried", State.SNOOZED.value: "retried"}


class Tally:
    """Counters by queue and function."""

    def __init__(self) -> None:
        self._counts: dict[Key, list[int]] = {}  # number, totals of run and wait, longest run; then the two histograms

    def count(self, key: Key, run_ms: int, wait_ms: int) -> None:
        """Take in one attempt.

        :param key: queue, function, value of the `State`
        :param run_ms: ms that it ran
        :param wait_ms: ms from due to start
        """
        entry = self._counts.get(key)
        if entry is None:
            entry = self._counts[key] = [0] * WIDTH
        entry[0] += 1
        entry[1] += run_ms
        entry[2] += wait_ms
        if run_ms > entry[3]:
            entry[3] = run_ms
        entry[RUN + bisect_left(BOUNDS_MS, run_ms)] += 1
        entry[WAIT + bisect_left(BOUNDS_MS, wait_ms)] += 1

    async def flush(self, store: Store) -> None:
        """Write what was counted since the last time. Counts are kept if Redis cannot be reached."""
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        sums: dict[str, int] = {}
        maxima: dict[str, int] = {}
        for (queue, function, state), entry in counts.items():
            name = f"{queue}|{function}|"
            for figure, amount in _figures(state, entry):
                sums[name + figure] = sums.get(name + figure, 0) + amount
            maxima[name + "run_ms_max"] = max(entry[3], maxima.get(name + "run_ms_max", 0))
        try:
            await store.record(timestamp_ms() // 60_000, sums.items(), maxima.items())
        except BaseException:
            self._restore(counts)
            raise

    def _restore(self, counts: dict[Key, list[int]]) -> None:
        for key, kept in counts.items():
            entry = self._counts.setdefault(key, [0] * WIDTH)
            longest_ms = max(entry[3], kept[3])
            entry[:] = map(add, entry, kept)
            entry[3] = longest_ms


def _figures(state: str, entry: Sequence[int]) -> Iterator[tuple[str, int]]:
    """What is counted of attempts that ended in a state."""
    figure = _COUNTS_AS.get(state, state)
    yield figure, entry[0]
    yield "run_ms_total", entry[1]
    yield "wait_ms_total", entry[2]
    for place in range(BUCKETS):
        if entry[RUN + place]:
            yield f"{RUN_BUCKET}{place}", entry[RUN + place]
        if entry[WAIT + place]:
            yield f"{WAIT_BUCKET}{place}", entry[WAIT + place]
