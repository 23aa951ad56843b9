"""Counts of what this worker did, folded in memory and written once a second: no cost in Redis for each job.

A killed worker loses what it had not yet written, at most one second of counts. Jobs themselves never depend on them.
"""

from ..clock import timestamp_ms
from ..outcome import State
from ..store.store import Store

__all__ = ("Tally",)

Key = tuple[str, str, str]

# The figure that a state counts for, where it is not the state's own name.
_COUNTS_AS = {State.DEAD.value: "failed", State.RELEASED.value: "retried", State.SNOOZED.value: "retried"}


class Tally:
    """Counters by queue and function."""

    def __init__(self) -> None:
        self._counts: dict[Key, list[int]] = {}

    def count(self, key: Key, run_ms: int, wait_ms: int) -> None:
        """Take in one attempt.

        :param key: queue, function, value of the `State`
        :param run_ms: ms that it ran
        :param wait_ms: ms from due to start
        """
        entry = self._counts.get(key)
        if entry is None:
            self._counts[key] = [1, run_ms, wait_ms, run_ms]
            return
        entry[0] += 1
        entry[1] += run_ms
        entry[2] += wait_ms
        if run_ms > entry[3]:
            entry[3] = run_ms

    async def flush(self, store: Store) -> None:
        """Write what was counted since the last time. Counts are kept if Redis cannot be reached."""
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        sums: dict[str, int] = {}
        maxima: dict[str, int] = {}
        for (queue, function, state), (number, run_ms, wait_ms, longest_ms) in counts.items():
            name = f"{queue}|{function}|"
            for figure, amount in (
                (_COUNTS_AS.get(state, state), number),
                ("run_ms_total", run_ms),
                ("wait_ms_total", wait_ms),
            ):
                sums[name + figure] = sums.get(name + figure, 0) + amount
            maxima[name + "run_ms_max"] = max(longest_ms, maxima.get(name + "run_ms_max", 0))
        try:
            await store.record(timestamp_ms() // 60_000, sums.items(), maxima.items())
        except BaseException:
            self._restore(counts)
            raise

    def _restore(self, counts: dict[Key, list[int]]) -> None:
        for key, (number, run_ms, wait_ms, longest_ms) in counts.items():
            entry = self._counts.setdefault(key, [0, 0, 0, 0])
            entry[0] += number
            entry[1] += run_ms
            entry[2] += wait_ms
            entry[3] = max(entry[3], longest_ms)
