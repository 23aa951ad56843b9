"""The clocks of this process. Due times and leases are judged by Redis' clock instead."""

import time

__all__ = ("steady_s", "timestamp_ms")

# It goes on while the machine is suspended, where the system has such a clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def timestamp_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def steady_s() -> float:
    """Seconds since some moment: never set to another time, and counted while this process or its machine sleeps."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
