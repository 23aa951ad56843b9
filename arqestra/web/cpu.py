"""How much of a processor each worker uses, out of the processor time that it tells."""

from typing import NamedTuple

__all__ = ("ProcessorShares",)

MIN_INTERVAL_MS = 1_500  # between two readings
MAX_WORKERS = 10_000


class _Reading(NamedTuple):
    at_ms: int
    cpu_s: float
    share: float


class ProcessorShares:
    """Remembers the reading before."""

    def __init__(self) -> None:
        self._known: dict[str, _Reading] = {}

    def share(self, worker_id: str, started_ms: int, seen_ms: int, cpu_s: float) -> float:
        """Processor time by time since the reading before; since the start of the process if there was none.

        :param seen_ms: when the worker told that it had used `cpu_s`
        """
        if len(self._known) > MAX_WORKERS:
            self._known.clear()
        before = self._known.get(worker_id)
        if before is None:
            before = _Reading(started_ms, 0.0, 0.0)
        elif seen_ms - before.at_ms < MIN_INTERVAL_MS:
            return before.share
        share = max(0.0, (cpu_s - before.cpu_s) / max(0.001, (seen_ms - before.at_ms) / 1000))
        self._known[worker_id] = _Reading(seen_ms, cpu_s, share)
        return share
