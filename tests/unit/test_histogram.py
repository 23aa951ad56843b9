"""Histograms: buckets, and percentiles that lie within one bucket of the truth."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arqestra.protocol.histogram import BOUNDS_MS, BUCKETS, bucket_of, percentile_ms


def counts_of(durations_ms: list[int]) -> list[int]:
    counts = [0] * BUCKETS
    for duration_ms in durations_ms:
        counts[bucket_of(duration_ms)] += 1
    return counts


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    assert [bucket_of(bound) for bound in BOUNDS_MS] == list(range(len(BOUNDS_MS)))
    assert bucket_of(BOUNDS_MS[-1] + 1) == BUCKETS - 1
    assert bucket_of(0) == 0


def test_an_empty_histogram_has_no_percentiles() -> None:
    assert percentile_ms([0] * BUCKETS, 0.5) is None


def test_what_is_longer_than_all_bounds_is_as_long_as_the_longest() -> None:
    assert percentile_ms(counts_of([5_000_000]), 0.5, longest_ms=5_000_000) == 5_000_000


@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))
def test_a_percentile_is_in_the_bucket_of_the_true_one(durations_ms: list[int], share: float) -> None:
    true_ms = sorted(durations_ms)[math.ceil(share * len(durations_ms)) - 1]
    found_ms = percentile_ms(counts_of(durations_ms), share, max(durations_ms))
    assert found_ms is not None
    assert found_ms <= max(durations_ms)
    bucket = bucket_of(true_ms)
    assert found_ms <= (BOUNDS_MS[bucket] if bucket < len(BOUNDS_MS) else max(durations_ms))
    assert found_ms >= min(BOUNDS_MS[bucket - 1] if bucket else 0, max(durations_ms))


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_histograms_of_two_workers_add_up(share: float) -> None:
    one, two = counts_of([3, 40, 900]), counts_of([7, 8, 70_000])
    both = [a + b for a, b in zip(one, two, strict=True)]
    assert percentile_ms(both, share) == percentile_ms(counts_of([3, 40, 900, 7, 8, 70_000]), share)
