"""The clocks of this process, and the ids of jobs and workers. Due times and leases are judged by Redis' clock instead.

Tests move the time (`arqestra.testing`): then this process' clock goes ahead, and it counts for scripts as well.

A job id is 32 hexadecimal digits, like arq's, but ordered by time: milliseconds, a counter of the process, random
digits. Jobs that become due in the same millisecond have equal scores. Redis orders equal scores by member, so these
jobs stay first in, first out.
"""

import itertools
import os
import random
import time
from datetime import UTC, datetime, timedelta, tzinfo

__all__ = (
    "ahead_ms",
    "new_job_id",
    "new_worker_id",
    "now_in",
    "script_time",
    "set_ahead",
    "steady_s",
    "system_ms",
    "timestamp_ms",
)

# If the system has a clock that goes on while the machine is suspended, use that one.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


_ahead_ms = 0  # of the system's clock


def timestamp_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000) + _ahead_ms


def system_ms() -> int:
    """Milliseconds since the epoch by the system's clock, which tests do not move."""
    return int(time.time() * 1000)


def now_in(zone: tzinfo | None) -> datetime:
    """The time in a zone."""
    now = datetime.now(tz=zone)
    return now if not _ahead_ms else (now.astimezone(UTC) + timedelta(milliseconds=_ahead_ms)).astimezone(zone)


def ahead_ms() -> int:
    """How far tests have moved this process' clock ahead of the system's."""
    return _ahead_ms


def set_ahead(ms: int) -> None:
    """Let this process' clock be so far ahead of the system's, in tests."""
    global _ahead_ms
    _ahead_ms = ms


def script_time() -> str:
    """The time that a script is given: "" for Redis' own; this process' while that is moved."""
    return str(timestamp_ms()) if _ahead_ms else ""


def steady_s() -> float:
    """Seconds since some moment. Nobody sets this clock, and it goes on while the process or the machine sleeps."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


_counter = itertools.count()
_random = random.Random(os.urandom(16))
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(16)))


def new_job_id() -> str:
    """A new job id: 12 digits of time, 5 of a counter, 15 of randomness."""
    return f"{int(time.time() * 1000):012x}{next(_counter) & 0xFFFFF:05x}{_random.getrandbits(60):015x}"


def new_worker_id() -> str:
    """A new worker id; tokens of leases begin with it."""
    return os.urandom(8).hex()
