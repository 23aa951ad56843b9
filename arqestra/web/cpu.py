"""How much of a processor each worker uses, computed from the processor time that it reports."""

from typing import NamedTuple

__all__ = ("CpuShares",)

MIN_INTERVAL_MS = 1_500  # a shorter time between two reports gives no useful share
MAX_WORKERS = 10_000


class _Report(NamedTuple):
    at_ms: int
    cpu_s: float
    share: float


class CpuShares:
    """The last report of each worker, to compute the share from the difference."""

    def __init__(self) -> None:
        self._known: dict[str, _Report] = {}

    def share(self, worker_id: str, started_ms: int, seen_ms: int, cpu_s: float) -> float:
        """The share of a processor since the last report; since the start of the process for the first one.

        :param started_ms: when the process started
        :param seen_ms: when the worker reported `cpu_s`
        :param cpu_s: processor time that it has used since its start
        :returns: 1.0 is one whole processor
        """
        if len(self._known) > MAX_WORKERS:
            self._known.clear()
        before = self._known.get(worker_id)
        if before is None:
            before = _Report(started_ms, 0.0, 0.0)
        elif seen_ms - before.at_ms < MIN_INTERVAL_MS:
            return before.share
        share = max(0.0, (cpu_s - before.cpu_s) / max(0.001, (seen_ms - before.at_ms) / 1000))
        self._known[worker_id] = _Report(seen_ms, cpu_s, share)
        return share
