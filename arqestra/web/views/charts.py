"""The series of the charts: throughput, failures and durations, over 15 minutes to 30 days."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ...protocol.clock import timestamp_ms
from ..app_state import AppState
from ..stats_cache import Bucket, Sums, sums_of

__all__ = ("RANGES", "Charts", "ChartsQuery", "FunctionRow", "Range", "functions_of", "latest", "read_charts")

Range = Literal["15m", "1h", "6h", "24h", "7d", "30d"]
# Range -> the unit of its counters, how many of them it has, and how many make one point.
RANGES: Mapping[Range, tuple[str, int, int]] = {
    "15m": ("minute", 15, 1),
    "1h": ("minute", 60, 1),
    "6h": ("minute", 360, 5),
    "24h": ("hour", 24, 1),
    "7d": ("hour", 168, 2),
    "30d": ("hour", 720, 6),
}
UNIT_S = {"minute": 60, "hour": 3600}


class ChartsQuery(Struct, frozen=True, rename={"range_": "range"}):
    """Which time, and of what."""

    range_: Range = "1h"
    queue: Annotated[str, Meta(max_length=1000)] = ""
    function: Annotated[str, Meta(max_length=1000)] = ""


class Charts(Struct, frozen=True):
    """Series over one axis of time: `at` is the start of each point in seconds since the epoch.

    Counts are by second, durations in ms; None where nothing was counted.

    :ivar step_s: length of a point; the last one has not ended
    """

    range: Range
    step_s: int
    at: list[int]
    enqueued: list[float]
    ended: list[float]
    complete: list[float]
    failed: list[float]
    retried: list[float]
    run_p50: list[float | None]
    run_p95: list[float | None]
    run_p99: list[float | None]
    wait_p50: list[float | None]
    wait_p95: list[float | None]
    wait_p99: list[float | None]


class FunctionRow(Struct, frozen=True):
    """What a function did in some time."""

    name: str
    queue: str
    ended: int
    complete: int
    failed: int
    retried: int
    run_p50: float | None
    run_p95: float | None
    wait_p95: float | None

    @property
    def failure_share(self) -> float:
        """From 0 to 1."""
        return self.failed / self.ended if self.ended else 0.0


async def read_charts(app_state: AppState, query: ChartsQuery) -> Charts:
    """The series of a range."""
    unit, _, step = RANGES[query.range_]
    buckets = await buckets_of(app_state, query.range_)
    points: dict[int, list[Bucket]] = {}
    for time, bucket in buckets.items():
        points.setdefault(time - time % step, []).append(bucket)
    step_s = UNIT_S[unit] * step
    now_s = timestamp_ms() / 1000
    sums = {at * UNIT_S[unit]: sums_of(found, query.queue, query.function) for at, found in points.items()}
    return _charts(query.range_, step_s, sums, now_s)


async def buckets_of(app_state: AppState, chosen: Range) -> dict[int, Bucket]:
    """The counters of a range."""
    unit, count, _ = RANGES[chosen]
    read = app_state.stats.minutes if unit == "minute" else app_state.stats.hours
    return await app_state.cache.get(("buckets", chosen), lambda: read(count))


def _charts(chosen: Range, step_s: int, sums: Mapping[int, Sums], now_s: float) -> Charts:
    # The last point is not complete: its rates are over the part of it that has passed.
    lengths_s = {at: min(step_s, max(1.0, now_s - at)) for at in sums}

    def rate(counter: str) -> list[float]:
        return [round(getattr(each, counter) / lengths_s[at], 3) for at, each in sums.items()]

    def duration(percentile: str) -> list[float | None]:
        return [
            None if getattr(each, percentile) is None else round(getattr(each, percentile), 1) for each in sums.values()
        ]

    return Charts(
        range=chosen,
        step_s=step_s,
        at=list(sums),
        enqueued=rate("enqueued"),
        ended=rate("ended"),
        complete=rate("complete"),
        failed=rate("failed"),
        retried=rate("retried"),
        run_p50=duration("run_p50"),
        run_p95=duration("run_p95"),
        run_p99=duration("run_p99"),
        wait_p50=duration("wait_p50"),
        wait_p95=duration("wait_p95"),
        wait_p99=duration("wait_p99"),
    )


async def latest(app_state: AppState) -> Charts:
    """The last two minutes of all queues, which a live chart gets once a second."""
    minutes = await app_state.stats.minutes(2)
    sums = {minute * 60: sums_of([bucket]) for minute, bucket in minutes.items()}
    return _charts("15m", 60, sums, timestamp_ms() / 1000)


def functions_of(buckets: Mapping[int, Bucket]) -> list[FunctionRow]:
    """What each function did: first those with most failures, then those that ran most."""
    functions = sorted({key for bucket in buckets.values() for key in bucket})
    found = list(buckets.values())
    rows = []
    for queue, function in functions:
        sums = sums_of(
            [{(queue, function): bucket[queue, function]} for bucket in found if (queue, function) in bucket]
        )
        if sums.ended or sums.retried:
            rows.append(
                FunctionRow(
                    name=function,
                    queue=queue,
                    ended=sums.ended,
                    complete=sums.complete,
                    failed=sums.failed,
                    retried=sums.retried,
                    run_p50=sums.run_p50,
                    run_p95=sums.run_p95,
                    wait_p95=sums.wait_p95,
                )
            )
    return sorted(rows, key=lambda row: (-row.failed, -row.ended, row.name))
