"""Totals over records: per column count, sum, mean, spread and extremes, and yearly sums where there is a date.

A part's totals are plain dicts, so that they travel as job results, and merging parts gives what one pass over all
records would have given: mean and variance are combined by Chan, Golub and LeVeque's formula (Updating Formulae and a
Pairwise Algorithm for Computing Sample Variances, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from .errors import InvalidInput, InvalidRecords

DATE_COLUMNS = ("date", "day", "time", "timestamp", "at")
MAX_YEARS = 300


@dataclass
class ColumnTotals:
    """The numbers of one column, by Welford's method: one pass, and no loss of digits for large means.

    Attributes:
        count: numbers seen.
        missing: empty fields seen.
        texts: fields that are no finite number.
        squares: sum of squared distances from the mean.
    """

    count: int = 0
    missing: int = 0
    texts: int = 0
    total: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf

    def add(self, number: float) -> None:
        """Take in one number."""
        self.count += 1
        self.total += number
        distance = number - self.mean
        self.mean += distance / self.count
        self.squares += distance * (number - self.mean)
        self.minimum = min(self.minimum, number)
        self.maximum = max(self.maximum, number)

    def merge(self, other: ColumnTotals) -> None:
        """Take in another part's totals of the same column."""
        self.missing += other.missing
        self.texts += other.texts
        if other.count == 0:
            return
        count = self.count + other.count
        distance = other.mean - self.mean
        self.squares += other.squares + distance * distance * self.count * other.count / count
        self.mean += distance * other.count / count
        self.total += other.total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.count = count

    @property
    def deviation(self) -> float:
        """The standard deviation of the numbers as a whole population."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; a column without numbers has no minimum and maximum."""
        values = asdict(self)
        if not self.count:
            values["minimum"] = values["maximum"] = None
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ColumnTotals:
        """Rebuild what `as_dict` returned."""
        numbers = {name: value for name, value in values.items() if value is not None and name in cls.__annotations__}
        return cls(**numbers)


@dataclass
class Totals:
    """The totals of one shard, or of several merged ones.

    Attributes:
        rows: records seen.
        rejected: what was no record.
        columns: totals by column.
        years: by year, by column, the count and sum of the numbers; empty without a date column.
    """

    rows: int = 0
    rejected: int = 0
    columns: dict[str, ColumnTotals] = field(default_factory=dict)
    years: dict[str, dict[str, tuple[int, float]]] = field(default_factory=dict)

    def add(self, record: dict[str, Any], max_columns: int) -> None:
        """Take in one record.

        Raises:
            InvalidRecords: more than `max_columns` different columns, or 300 different years, came together.
        """
        self.rows += 1
        year = _year_of(record)
        yearly = self.years.setdefault(year, {}) if year else {}
        for name, value in record.items():
            column = self.columns.setdefault(name, ColumnTotals())
            number = number_of(value)
            if number is not None:
                column.add(number)
                count, total = yearly.get(name, (0, 0.0))
                yearly[name] = (count + 1, total + number)
            elif value in (None, ""):
                column.missing += 1
            else:
                column.texts += 1
        if len(self.columns) > max_columns or len(self.years) > MAX_YEARS:
            raise InvalidRecords(
                f"more than {max_columns} columns or {MAX_YEARS} years; are these records of one kind?"
            )

    def merge(self, other: Totals) -> None:
        """Take in another part."""
        self.rows += other.rows
        self.rejected += other.rejected
        for name, column in other.columns.items():
            self.columns.setdefault(name, ColumnTotals()).merge(column)
        for year, columns in other.years.items():
            mine = self.years.setdefault(year, {})
            for name, (count, total) in columns.items():
                own_count, own_total = mine.get(name, (0, 0.0))
                mine[name] = (own_count + count, own_total + total)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for a job result or a JSON object."""
        columns = {name: {**column.as_dict(), "deviation": column.deviation} for name, column in self.columns.items()}
        years = {year: {name: list(pair) for name, pair in self.years[year].items()} for year in sorted(self.years)}
        return {"rows": self.rows, "rejected": self.rejected, "columns": columns, "years": years}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Totals:
        """Rebuild what `as_dict` returned.

        Raises:
            InvalidInput: it is something else.
        """
        try:
            columns = {name: ColumnTotals.from_dict(column) for name, column in values["columns"].items()}
            years = {
                year: {name: (int(count), float(total)) for name, (count, total) in pairs.items()}
                for year, pairs in values["years"].items()
            }
            return cls(int(values["rows"]), int(values["rejected"]), columns, years)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"these are no totals of fetch_partial_data: {error!r}") from error


def merge_totals(parts: Sequence[dict[str, Any]]) -> Totals:
    """Merge the results of several shards.

    The order of the parts does not matter to the last digit: they are merged by name.

    Raises:
        InvalidInput: no part, or one shard twice, which would count its records twice.
    """
    names = [str(part.get("shard")) if isinstance(part, dict) else "" for part in parts]
    if not parts or not all(names) or len(set(names)) != len(names):
        raise InvalidInput(f"expected the results of different shards, got {names}")
    merged = Totals()
    for _, part in sorted(zip(names, parts, strict=True), key=lambda named: named[0]):
        merged.merge(Totals.from_dict(part))
    return merged


def number_of(value: Any) -> float | None:
    """Return a value as a finite number, or None. Text such as `1_000`, which Python alone reads, is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, str) and "_" in value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _year_of(record: dict[str, Any]) -> str | None:
    for name, value in record.items():
        if name.lower() in DATE_COLUMNS and isinstance(value, str):
            try:
                return str(date.fromisoformat(value[:10]).year)
            except ValueError:
                return None
    return None
