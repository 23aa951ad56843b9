"""Reading what was counted: by the minute for 25 hours, by the hour for 30 days, and in all."""

from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from ..protocol.histogram import BUCKETS, percentile_ms
from ..protocol.keys import Keys

__all__ = (
    "FIGURES",
    "RUN_BUCKET",
    "WAIT_BUCKET",
    "Counters",
    "histogram_of",
    "read_hours",
    "read_minutes",
    "read_queues",
    "read_totals",
    "rows_of",
    "totals_of",
)

FIGURES = (
    "enqueued",
    "complete",
    "failed",
    "retried",
    "aborted",
    "expired",
    "recovered",
    "run_ms_total",
    "wait_ms_total",
    "run_ms_max",
)
PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
RUN_BUCKET, WAIT_BUCKET = "run_le_", "wait_le_"  # then the number of the bucket
Counters = Mapping[str, int]


async def read_minutes(redis: Redis, keys: Keys, last_minute: int, minutes: int) -> dict[int, Counters]:
    """The counters of each minute that has some: minute since the epoch -> field -> number."""
    wanted = range(last_minute - minutes + 1, last_minute + 1)
    return await _read(redis, wanted, [keys.statistics(minute) for minute in wanted])


async def read_hours(redis: Redis, keys: Keys, last_hour: int, hours: int) -> dict[int, Counters]:
    """The counters of each hour that has some: hour since the epoch -> field -> number."""
    wanted = range(last_hour - hours + 1, last_hour + 1)
    return await _read(redis, wanted, [keys.hourly_statistics(hour) for hour in wanted])


async def read_totals(redis: Redis, keys: Keys) -> Counters:
    """All that was ever counted: field -> number. They only grow, as long as something is counted once in 30 days."""
    found: Mapping[bytes, bytes] = await redis.hgetall(keys.totals)  # type: ignore[misc]
    return {field.decode(): int(number) for field, number in found.items()}


async def read_queues(redis: Redis, keys: Keys) -> list[str]:
    """Queues that were used or served in the last 30 days, by name."""
    found: list[bytes] = await redis.zrange(keys.queues, 0, -1)
    return sorted(name.decode() for name in found)


async def _read(redis: Redis, wanted: Sequence[int], keys: Sequence[str]) -> dict[int, Counters]:
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hgetall(key)
        replies: list[Mapping[bytes, bytes]] = await pipe.execute()
    return {
        time: {field.decode(): int(number) for field, number in reply.items()}
        for time, reply in zip(wanted, replies, strict=True)
        if reply
    }


def rows_of(counted: Mapping[int, Counters], *, by: str | None = None) -> list[dict[str, Any]]:
    """Counters summed by queue and function, with percentiles.

    :param counted: time -> field -> number
    :param by: the name under which each time has rows of its own; None for rows over all times
    """
    sums: dict[tuple[Any, ...], dict[str, int]] = {}
    for time, counters in counted.items():
        for field, number in counters.items():
            queue, function, figure = field.rsplit("|", 2)
            key = (queue, function) if by is None else (time, queue, function)
            row = sums.setdefault(key, {})
            known = row.get(figure, 0)
            row[figure] = max(known, number) if figure.endswith("_max") else known + number
    return [_row(key, sums[key], by) for key in sorted(sums)]


def _row(key: tuple[Any, ...], figures: Mapping[str, int], by: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {} if by is None else {by: key[0]}
    row |= {"queue": key[-2], "function": key[-1]} | {figure: figures.get(figure, 0) for figure in FIGURES}
    run = histogram_of(figures, RUN_BUCKET)
    wait = histogram_of(figures, WAIT_BUCKET)
    for name, share in PERCENTILES:
        row[f"run_ms_{name}"] = percentile_ms(run, share, row["run_ms_max"])
        row[f"wait_ms_{name}"] = percentile_ms(wait, share)
    return row


def totals_of(counters: Counters) -> list[dict[str, Any]]:
    """The totals by queue and function, with their histograms."""
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for field, number in counters.items():
        queue, function, figure = field.rsplit("|", 2)
        sums.setdefault((queue, function), {})[figure] = number
    return [
        {"queue": queue, "function": function}
        | {figure: figures.get(figure, 0) for figure in FIGURES if not figure.endswith("_max")}
        | {"run_ms_buckets": histogram_of(figures, RUN_BUCKET), "wait_ms_buckets": histogram_of(figures, WAIT_BUCKET)}
        for (queue, function), figures in sorted(sums.items())
    ]


def histogram_of(figures: Mapping[str, int], bucket: str) -> list[int]:
    """The counts of a histogram's buckets.

    :param bucket: `RUN_BUCKET` or `WAIT_BUCKET`
    """
    return [figures.get(f"{bucket}{number}", 0) for number in range(BUCKETS)]
