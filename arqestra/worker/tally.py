"""Counts of what this worker did, folded in memory and written once a second: no cost in Redis for each job."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from ..histogram import BOUNDS_MS, BUCKETS
from ..outcome import State
from ..store.statistics import RUN_BUCKET, WAIT_BUCKET
from ..store.statistics_writer import StatisticsWriter, field_of

__all__ = ("COUNTS_AS", "Tally")

Key = tuple[str, str, str]
RUN, WAIT = 4, 4 + BUCKETS  # where the histograms begin in an entry
WIDTH = 4 + 2 * BUCKETS

# The figure that a state counts for.
COUNTS_AS = {
    **{state.value: state.value for state in (State.COMPLETE, State.FAILED, State.ABORTED, State.EXPIRED)},
    **{State.DEAD.value: "failed", State.RETRIED.value: "retried"},
    **{State.RELEASED.value: "retried", State.SNOOZED.value: "retried"},
}


class Tally:
    """Counters by queue and function."""

    def __init__(self) -> None:
        self._counts: dict[Key, list[int]] = {}  # number, totals of run and wait, longest run; then the two histograms
        self._events: dict[str, int] = {}

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

    def count_event(self, queue: str, function: str, figure: str) -> None:
        """Take in what is no end of an attempt, such as a job that was recovered from a lost worker."""
        field = field_of(queue, function, figure)
        self._events[field] = self._events.get(field, 0) + 1

    async def flush(self, writer: StatisticsWriter) -> None:
        """Write what was counted since the last time. The writer keeps it if Redis cannot be reached."""
        counts, self._counts = self._counts, {}
        sums, self._events = self._events, {}
        maxima: dict[str, int] = {}
        for (queue, function, state), entry in counts.items():
            for figure, amount in _figures(state, entry):
                field = field_of(queue, function, figure)
                sums[field] = sums.get(field, 0) + amount
            longest = field_of(queue, function, "run_ms_max")
            maxima[longest] = max(entry[3], maxima.get(longest, 0))
        await writer.write(sums, maxima)


def _figures(state: str, entry: Sequence[int]) -> Iterator[tuple[str, int]]:
    """What is counted of attempts that ended in a state."""
    yield COUNTS_AS[state], entry[0]
    yield "run_ms_total", entry[1]
    yield "wait_ms_total", entry[2]
    for place in range(BUCKETS):
        if entry[RUN + place]:
            yield f"{RUN_BUCKET}{place}", entry[RUN + place]
        if entry[WAIT + place]:
            yield f"{WAIT_BUCKET}{place}", entry[WAIT + place]
