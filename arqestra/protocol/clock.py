"""The clocks of this process. Due times and leases are judged by Redis' clock instead."""

import time

__all__ = ("steady_s", "timestamp_ms")

# If the system has a clock that goes on while the machine is suspended, use that one.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def timestamp_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def steady_s() -> float:
    """Seconds since some moment. Nobody sets this clock, and it goes on while the process or the machine sleeps."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
