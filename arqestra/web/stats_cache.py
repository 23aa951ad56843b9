"""The workers' counters by minute and by hour. A minute or hour that is over is read from Redis only once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from ..protocol.clock import timestamp_ms
from ..protocol.histogram import percentile_ms
from ..protocol.keys import Keys
from ..store.statistics import RUN_BUCKET, WAIT_BUCKET, Counters, histogram_of, read_hours, read_minutes
from ..store.store import Store

__all__ = ("Bucket", "StatsCache", "Sums", "sums_of")

MAX_MINUTES, MAX_HOURS = 360, 720
FINAL_AFTER = 3  # workers may still write to a minute or an hour until this many more have begun
READ_PER_CALL = 15  # other pages are answered between two calls
QueueFunction = tuple[str, str]
Bucket = Mapping[QueueFunction, Mapping[str, int]]
Read = Callable[[Redis, Keys, int, int], Awaitable[dict[int, Counters]]]


class Sums(NamedTuple):
    """Counters of some functions over some time. Durations are in ms, None if no job was counted."""

    enqueued: int
    complete: int
    failed: int
    retried: int
    aborted: int
    expired: int
    recovered: int
    run_p50: float | None
    run_p95: float | None
    run_p99: float | None
    wait_p50: float | None
    wait_p95: float | None
    wait_p99: float | None

    @property
    def ended(self) -> int:
        """Jobs that ended, with any outcome."""
        return self.complete + self.failed + self.aborted + self.expired


class StatsCache:
    """The counters of the last six hours by minute, and of 30 days by hour."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, dict[int, Bucket]] = {"minute": {}, "hour": {}}

    async def minutes(self, count: int) -> dict[int, Bucket]:
        """The last minutes, with the current one: minute since the epoch -> its counters."""
        return await self._times("minute", timestamp_ms() // 60_000, count, read_minutes)

    async def hours(self, count: int) -> dict[int, Bucket]:
        """The last hours, with the current one: hour since the epoch -> its counters."""
        return await self._times("hour", timestamp_ms() // 3_600_000, count, read_hours)

    async def warm_up(self) -> None:
        """Read everything once at the start, so that no page has to wait for it."""
        await self.minutes(MAX_MINUTES)
        await self.hours(MAX_HOURS)

    async def _times(self, unit: str, last: int, count: int, read: Read) -> dict[int, Bucket]:
        known = self._known[unit]
        wanted = range(last - count + 1, last + 1)
        missing = [time for time in wanted if time not in known or time > last - FINAL_AFTER]
        for newest, length in _ranges(missing):
            found = await read(self._store.redis, self._store.keys, newest, length)
            for time in range(newest - length + 1, newest + 1):
                known[time] = _bucket(found.get(time, {}))
        for time in [time for time in known if time <= last - MAX_HOURS - 1]:
            del known[time]
        return {time: known[time] for time in wanted}


def _ranges(times: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of successive times, each as its last time and its length."""
    ranges: list[tuple[int, int]] = []
    for time in times:
        if ranges and ranges[-1][0] == time - 1 and ranges[-1][1] < READ_PER_CALL:
            ranges[-1] = (time, ranges[-1][1] + 1)
        else:
            ranges.append((time, 1))
    return ranges


def _bucket(counters: Counters) -> Bucket:
    bucket: dict[QueueFunction, dict[str, int]] = {}
    for field, number in counters.items():
        queue, function, name = field.rsplit("|", 2)
        bucket.setdefault((queue, function), {})[name] = number
    return bucket


def sums_of(buckets: Sequence[Bucket], queue: str = "", function: str = "") -> Sums:
    """The counters of a queue and a function, summed over some buckets. "" stands for all queues or functions."""
    sums: dict[str, int] = {}
    for bucket in buckets:
        for (of_queue, of_function), counters in bucket.items():
            if queue in ("", of_queue) and function in ("", of_function):
                for name, number in counters.items():
                    sums[name] = sums.get(name, 0) + number
    run, wait = histogram_of(sums, RUN_BUCKET), histogram_of(sums, WAIT_BUCKET)
    return Sums(
        *(sums.get(name, 0) for name in Sums._fields[:7]),
        *(percentile_ms(run, share) for share in (0.5, 0.95, 0.99)),
        *(percentile_ms(wait, share) for share in (0.5, 0.95, 0.99)),
    )
