"""Totals against the standard library's statistics, and merged parts against one pass."""

import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.aggregates import MAX_YEARS, ColumnTotals, Totals, merge_totals, number_of
from jobs.errors import InvalidInput, InvalidRecords

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def totals_of(*records: dict[str, Any]) -> Totals:
    totals = Totals()
    for record in records:
        totals.add(record, max_columns=10)
    return totals


def column_of(numbers: list[float]) -> ColumnTotals:
    column = ColumnTotals()
    for number in numbers:
        column.add(number)
    return column


def assert_describes(column: ColumnTotals, numbers: list[float]) -> None:
    assert column.count == len(numbers)
    assert column.total == pytest.approx(math.fsum(numbers), abs=1e-6)
    assert column.mean == pytest.approx(statistics.fmean(numbers), abs=1e-6)
    assert column.deviation == pytest.approx(statistics.pstdev(numbers), rel=1e-6, abs=1e-5)
    assert (column.minimum, column.maximum) == (min(numbers), max(numbers))


@given(NUMBERS)
def test_one_pass_describes_its_numbers(numbers: list[float]) -> None:
    assert_describes(column_of(numbers), numbers)


@given(NUMBERS, NUMBERS)
def test_merged_parts_describe_all_numbers(first: list[float], second: list[float]) -> None:
    merged = column_of(first)
    merged.merge(column_of(second))
    assert_describes(merged, first + second)


def test_large_means_lose_no_digits() -> None:
    assert column_of([1e9 + 1, 1e9 + 2, 1e9 + 3]).deviation == pytest.approx(math.sqrt(2 / 3))


def test_missing_text_and_years_are_told_apart() -> None:
    totals = totals_of(
        {"Date": "2024-01-05", "price": "2.5"},
        {"Date": "2024-02-05", "price": ""},
        {"Date": "2025-01-05T10:00:00Z", "price": 7},
        {"Date": "soon", "price": "n/a"},
    )
    price = totals.columns["price"]
    assert (price.count, price.missing, price.texts, totals.rows) == (2, 1, 1, 4)
    assert totals.years["2024"] == {"price": (1, 2.5)}
    assert totals.years["2025"] == {"price": (1, 7.0)}


@pytest.mark.parametrize(("value", "number"), [("1.5", 1.5), (3, 3.0), ("-2e3", -2000.0), (" 7 ", 7.0)])
def test_numbers(value: Any, number: float) -> None:
    assert number_of(value) == number


@pytest.mark.parametrize("value", ["", "x", "nan", "inf", "1_000", True, None, [1], 10**400, float("inf")])
def test_no_numbers(value: Any) -> None:
    assert number_of(value) is None


def test_totals_survive_the_journey_as_plain_values() -> None:
    totals = totals_of({"date": "2024-01-01", "a": 1, "b": ""}, {"date": "2025-01-01", "a": 4, "b": "x"})
    assert Totals.from_dict(totals.as_dict()) == totals


def test_the_order_of_parts_does_not_matter() -> None:
    parts = [{"shard": f"s{n}", **totals_of({"date": f"20{n}-01-01", "a": n / 7}).as_dict()} for n in range(10, 19)]
    assert merge_totals(parts).as_dict() == merge_totals(parts[::-1]).as_dict()


@pytest.mark.parametrize("parts", [[], [{"rows": 1}], ["x"], [{"shard": "a", "rows": 1}], [{"shard": None}]])
def test_what_is_no_part_is_refused(parts: Any) -> None:
    with pytest.raises(InvalidInput):
        merge_totals(parts)


def test_the_same_shard_twice_is_refused() -> None:
    part = {"shard": "a", **totals_of({"a": 1}).as_dict()}
    with pytest.raises(InvalidInput, match="different shards"):
        merge_totals([part, part])


def test_columns_and_years_are_bounded() -> None:
    with pytest.raises(InvalidRecords):
        totals_of({f"c{n}": 1 for n in range(11)})
    with pytest.raises(InvalidRecords):
        totals_of(*({"date": f"{1000 + n}-01-01", "a": 1} for n in range(MAX_YEARS + 1)))
