"""The clock of this process. Due times and leases are judged by Redis' clock instead."""

import time

__all__ = ("timestamp_ms",)


def timestamp_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)
