"""When a worker process has run for long enough: by the jobs that it ran, or by the memory that it holds."""

from collections.abc import Callable

from .telemetry.presence import memory_bytes

__all__ = ("REPLACEMENT_WAIT_S", "Recycling")

REPLACEMENT_WAIT_S = 30.0  # that jobs have at least when a worker ends only to be replaced


class Recycling:
    """Asks once for the replacement of a process.

    :param max_jobs: how many jobs it may run; None: any number
    :param max_memory_bytes: how much memory it may hold; None: any amount
    :param ask: called with the reason
    """

    def __init__(self, max_jobs: int | None, max_memory_bytes: int | None, ask: Callable[[str], None]) -> None:
        self._max_jobs = max_jobs
        self._max_memory_bytes = max_memory_bytes
        self._ask = ask
        self._asked = False

    def check(self, jobs: int) -> None:
        """Ask if it is time.

        :param jobs: how many it has run
        """
        if self._asked or (self._max_jobs is None and self._max_memory_bytes is None):
            return
        reason = self._reason(jobs)
        if reason is not None:
            self._asked = True
            self._ask(reason)

    def _reason(self, jobs: int) -> str | None:
        max_jobs, max_bytes = self._max_jobs, self._max_memory_bytes
        if max_jobs is not None and jobs >= max_jobs:
            return f"it has run {jobs} jobs (max_jobs_per_child {max_jobs})"
        if max_bytes is not None and (resident_bytes := memory_bytes()) > max_bytes:
            return f"it holds {resident_bytes / 2**20:.0f} MB (max_memory_per_child {max_bytes / 2**20:.0f} MB)"
        return None
