"""Histograms of durations: counts in buckets with fixed bounds, so that the counts of many workers add up."""

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ("BOUNDS_MS", "BUCKETS", "bucket_of", "percentile_ms")

# Upper bounds (ms, inclusive); one more bucket holds what is longer than the last.
BOUNDS_MS = (
    *(1, 2, 5, 10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 1_800_000),
)
BUCKETS = len(BOUNDS_MS) + 1


def bucket_of(duration_ms: int) -> int:
    """The index of the bucket of a duration."""
    return bisect_left(BOUNDS_MS, duration_ms)


def percentile_ms(counts: Sequence[int], share: float, longest_ms: int | None = None) -> float | None:
    """A percentile, by interpolation within its bucket as Prometheus' `histogram_quantile` does it.

    :param counts: of each bucket
    :param share: from 0 to 1
    :param longest_ms: the longest duration, where it is known: no percentile is greater
    :returns: None of an empty histogram
    """
    total = sum(counts)
    if not total:
        return None
    wanted, passed = share * total, 0
    for index, count in enumerate(counts):
        if count and passed + count >= wanted:
            low_ms = BOUNDS_MS[index - 1] if index else 0
            if index == len(BOUNDS_MS):
                return float(longest_ms or low_ms)
            found_ms = low_ms + (BOUNDS_MS[index] - low_ms) * (wanted - passed) / count
            return found_ms if longest_ms is None else min(found_ms, float(longest_ms))
        passed += count
    return float(BOUNDS_MS[-1])
