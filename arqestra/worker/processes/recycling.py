"""When a worker process has run for long enough: by the jobs that it ran, or by the memory that it holds."""

import resource
import sys
from pathlib import Path

__all__ = ("memory_bytes", "needs_recycling")

_STATM = Path("/proc/self/statm")


def memory_bytes() -> int:
    """Resident memory of this process; where /proc is not there, the most that it ever was."""
    try:
        return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def needs_recycling(jobs: int, max_jobs: int | None, max_memory_bytes: int | None) -> str | None:
    """Why the process should be replaced, or None.

    :param jobs: how many it has run
    :param max_jobs: how many it may run
    :param max_memory_bytes: how much it may hold
    """
    if max_jobs is not None and jobs >= max_jobs:
        return f"it has run {jobs} jobs (max_jobs_per_child {max_jobs})"
    if max_memory_bytes is not None and (held := memory_bytes()) > max_memory_bytes:
        return f"it holds {held / 2**20:.0f} MB (max_memory_per_child {max_memory_bytes / 2**20:.0f} MB)"
    return None
