"""What the workers counted, minute by minute and hour by hour, as a dashboard reads it: what is over is read once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from ..protocol.clock import timestamp_ms
from ..protocol.histogram import percentile_ms
from ..protocol.keys import Keys
from ..store.statistics import RUN_BUCKET, WAIT_BUCKET, Counters, histogram_of, read_hours, read_minutes
from ..store.store import Store

__all__ = ("Bucket", "Counted", "Sums", "sums_of")

MAX_MINUTES, MAX_HOURS = 360, 720
SETTLED_AFTER = 3  # a minute or an hour that has been over for so many may still be written to
READ_AT_ONCE = 15  # so that other pages are answered in between
Place = tuple[str, str]  # queue and function
Bucket = Mapping[Place, Mapping[str, int]]
Read = Callable[[Redis, Keys, int, int], Awaitable[dict[int, Counters]]]


class Sums(NamedTuple):
    """What was counted of some functions in some time; durations in ms, None where nothing was counted."""

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
        """Jobs that ended, in whatever way."""
        return self.complete + self.failed + self.aborted + self.expired


class Counted:
    """Counters of the last six hours by the minute, and of 30 days by the hour."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, dict[int, Bucket]] = {"minute": {}, "hour": {}}

    async def minutes(self, count: int) -> dict[int, Bucket]:
        """Of the last minutes, the one that runs included: minute since the epoch -> what was counted."""
        return await self._times("minute", timestamp_ms() // 60_000, count, read_minutes)

    async def hours(self, count: int) -> dict[int, Bucket]:
        """The same of hours."""
        return await self._times("hour", timestamp_ms() // 3_600_000, count, read_hours)

    async def warm_up(self) -> None:
        """Read all of it once, so that no page has to wait for that."""
        await self.minutes(MAX_MINUTES)
        await self.hours(MAX_HOURS)

    async def _times(self, unit: str, last: int, count: int, read: Read) -> dict[int, Bucket]:
        known = self._known[unit]
        wanted = range(last - count + 1, last + 1)
        missing = [time for time in wanted if time not in known or time > last - SETTLED_AFTER]
        for newest, length in _runs(missing):
            found = await read(self._store.redis, self._store.keys, newest, length)
            for time in range(newest - length + 1, newest + 1):
                known[time] = _bucket(found.get(time, {}))
        for time in [time for time in known if time <= last - MAX_HOURS - 1]:
            del known[time]
        return {time: known[time] for time in wanted}


def _runs(times: Sequence[int]) -> list[tuple[int, int]]:
    """Pieces of successive times, each as its last one and its length."""
    pieces: list[tuple[int, int]] = []
    for time in times:
        if pieces and pieces[-1][0] == time - 1 and pieces[-1][1] < READ_AT_ONCE:
            pieces[-1] = (time, pieces[-1][1] + 1)
        else:
            pieces.append((time, 1))
    return pieces


def _bucket(counters: Counters) -> Bucket:
    places: dict[Place, dict[str, int]] = {}
    for field, number in counters.items():
        queue, function, figure = field.rsplit("|", 2)
        places.setdefault((queue, function), {})[figure] = number
    return places


def sums_of(buckets: Sequence[Bucket], queue: str = "", function: str = "") -> Sums:
    """What was counted of a queue and a function, "" for all, in all of some times."""
    sums: dict[str, int] = {}
    for bucket in buckets:
        for place, figures in bucket.items():
            if queue in ("", place[0]) and function in ("", place[1]):
                for figure, number in figures.items():
                    sums[figure] = sums.get(figure, 0) + number
    run, wait = histogram_of(sums, RUN_BUCKET), histogram_of(sums, WAIT_BUCKET)
    return Sums(
        *(sums.get(figure, 0) for figure in Sums._fields[:7]),
        *(percentile_ms(run, share) for share in (0.5, 0.95, 0.99)),
        *(percentile_ms(wait, share) for share in (0.5, 0.95, 0.99)),
    )
