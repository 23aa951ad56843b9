"""What a report says: the queue's statistics and the merged totals, as plain values that the template prints.

Everything here is a pure function of what was gathered, so that a test can check each figure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .report_charts import line_chart, stacked_bars

MAX_TABLE_COLUMNS = 40
PARTIAL_MARK = "partial: not all data was gathered in time"
_HOUR_S = 3600
_ENDINGS = ("complete", "failed", "aborted", "expired")
Row = dict[str, Any]


@dataclass(frozen=True)
class Gathered:
    """The raw material of a report.

    Attributes:
        by_function: the pool's statistics, a row for each queue and function.
        by_hour: the same, for each hour.
        totals: what `merge_results` stored, an object for each data set.
        at: when it was gathered, in the zone that the report shows.
        hours: how far the statistics go back.
        partial: there was no time for all of it.
    """

    by_function: Sequence[Row]
    by_hour: Sequence[Row]
    totals: Sequence[Row]
    at: datetime
    hours: int
    partial: bool = False


@dataclass
class Gathering:
    """The raw material as far as it has come in; see `Gathered` for the fields."""

    at: datetime
    hours: int
    by_function: list[Row] = field(default_factory=list)
    by_hour: list[Row] = field(default_factory=list)
    totals: list[Row] = field(default_factory=list)
    partial: bool = False

    def result(self) -> Gathered:
        """Return what there is."""
        return Gathered(self.by_function, self.by_hour, self.totals, self.at, self.hours, self.partial)


@dataclass(frozen=True)
class Heading:
    """What stands at the top of a report."""

    report_id: str
    title: str
    subtitle: str


def document_of(heading: Heading, gathered: Gathered) -> dict[str, Any]:
    """Return the document that `report_template.typ` renders."""
    return {
        "title": f"{heading.title} ({PARTIAL_MARK})" if gathered.partial else heading.title,
        "subtitle": heading.subtitle,
        "report_id": heading.report_id,
        "generated": gathered.at.strftime("%Y-%m-%d %H:%M %Z"),
        "hours": gathered.hours,
        "figures": key_figures(gathered.by_function),
        "functions": function_rows(gathered.by_function),
        "hourly": hourly_chart(gathered),
        "datasets": [dataset_section(totals) for totals in gathered.totals],
        "missing": [],
    }


def key_figures(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the four figures at the top: jobs, success, mean run, mean wait."""
    ended = sum(row[ending] for row in rows for ending in _ENDINGS)
    complete = sum(row["complete"] for row in rows)
    ran = sum(row["complete"] + row["failed"] for row in rows)
    run_ms = sum(row["run_ms_total"] for row in rows)
    wait_ms = sum(row["wait_ms_total"] for row in rows)
    return [
        {"label": "jobs ended", "value": f"{ended:,}"},
        {"label": "succeeded", "value": f"{complete / ended:.1%}" if ended else "–"},
        {"label": "mean run", "value": duration_text(run_ms / ran) if ran else "–"},
        {"label": "mean wait", "value": duration_text(wait_ms / ran) if ran else "–"},
    ]


def function_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the table of functions, the busiest first."""
    cells = []
    for row in sorted(rows, key=lambda row: (-row["run_ms_total"], row["queue"], row["function"])):
        ran = row["complete"] + row["failed"]
        counts = [f"{row[name]:,}" for name in ("complete", "failed", "retried")]
        times = [duration_text(row[name] / ran) if ran else "–" for name in ("run_ms_total", "wait_ms_total")]
        cells.append([row["function"], row["queue"], *counts, times[0], duration_text(row["run_ms_max"]), times[1]])
    return cells


def hourly_chart(gathered: Gathered) -> dict[str, Any]:
    """Return the bars of jobs by hour: complete below, everything else above."""
    complete: dict[int, int] = defaultdict(int)
    other: dict[int, int] = defaultdict(int)
    for row in gathered.by_hour:
        hour = int(row["hour"]) // _HOUR_S
        complete[hour] += row["complete"]
        other[hour] += sum(row[ending] for ending in _ENDINGS if ending != "complete")
    last = int(gathered.at.timestamp()) // _HOUR_S
    hours = range(last - gathered.hours + 1, last + 1)
    starts = [gathered.at - timedelta(hours=last - hour) for hour in hours]
    return stacked_bars(
        labels=[start.strftime("%H") for start in starts],
        lower=[complete[hour] for hour in hours],
        upper=[other[hour] for hour in hours],
    )


def dataset_section(totals: Row) -> dict[str, Any]:
    """Return the table and chart of one data set's totals."""
    columns = {name: values for name, values in totals["columns"].items() if values["count"]}
    shown = dict(list(columns.items())[:MAX_TABLE_COLUMNS])
    years = totals["years"]
    series = {
        name: [_yearly_mean(years[year].get(name)) for year in years] for name in shown if _has_yearly(years, name)
    }
    return {
        "name": totals["dataset"],
        "rows": f"{totals['rows']:,}",
        "shards": f"{totals['shards']:,}",
        "rejected": f"{totals['rejected']:,}",
        "left_out": len(columns) - len(shown),
        "columns": [[name, *_column_cells(values)] for name, values in shown.items()],
        "chart": line_chart([int(year) for year in years], series) if len(years) > 1 and series else None,
    }


def _column_cells(values: Row) -> list[str]:
    numbers = [values[name] for name in ("mean", "deviation", "minimum", "maximum")]
    return [f"{values['count']:,}", f"{values['missing']:,}", *(number_text(number) for number in numbers)]


def _has_yearly(years: dict[str, Any], name: str) -> bool:
    return sum(name in columns for columns in years.values()) > 1


def _yearly_mean(pair: Sequence[float] | None) -> float | None:
    return pair[1] / pair[0] if pair and pair[0] else None


def number_text(number: float) -> str:
    """Return a number with about four significant digits, and no exponent unless it is very large."""
    size = abs(number)
    if size >= 1e9 or 0 < size < 1e-4:
        return f"{number:.3e}"
    decimals = 0 if size >= 10_000 else 1 if size >= 1_000 else 2 if size >= 10 else 3
    return f"{number:,.{decimals}f}"


def duration_text(duration_ms: float) -> str:
    """Return a duration in the unit that suits it."""
    if duration_ms < 1_000:
        return f"{duration_ms:.1f} ms" if duration_ms < 100 else f"{duration_ms:.0f} ms"
    if duration_ms < 60_000:
        return f"{duration_ms / 1_000:.1f} s"
    return f"{duration_ms / 60_000:.1f} min"
