"""What a worker says of itself, once a second."""

import resource
import sys
from pathlib import Path

__all__ = ("memory_bytes",)

_STATM = Path("/proc/self/statm")


def memory_bytes() -> int:
    """Resident memory of this process; where /proc is not there, the most that it ever was."""
    try:
        return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
