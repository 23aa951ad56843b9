"""The geometry of a report's charts: everything between 0 and 1, which the template scales and draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MAX_SERIES = 10
_MAX_YEAR_LABELS = 9


def stacked_bars(labels: Sequence[str], lower: Sequence[int], upper: Sequence[int]) -> dict[str, Any]:
    """Return bars of two stacked counts.

    Parameters:
        labels: one for each bar.
        lower: the lower count of each bar.
        upper: the count on top of it.

    Returns:
        `{"bars": [{label, lower, upper}], "ticks": [{at, label}], "empty"}`, heights as shares of the plot's height.
    """
    highest = max((low + high for low, high in zip(lower, upper, strict=True)), default=0)
    ticks = whole_ticks(highest)
    top = ticks[-1] or 1
    bars = [
        {"label": label, "lower": low / top, "upper": high / top}
        for label, low, high in zip(labels, lower, upper, strict=True)
    ]
    return {"bars": bars, "ticks": [{"at": tick / top, "label": f"{tick:,}"} for tick in ticks], "empty": highest == 0}


def line_chart(years: Sequence[int], series: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    """Return lines over years, on a logarithmic scale where all values are positive and span more than two decades.

    Parameters:
        years: ascending; the horizontal axis.
        series: by name, a value for each year, or None where there is none; the first ten are drawn.

    Returns:
        `{"lines": [{name, points: [[x, y], ...]}], "y_ticks", "x_ticks", "scale", "left_out"}`.
    """
    drawn = dict(list(series.items())[:MAX_SERIES])
    values = [value for line in drawn.values() for value in line if value is not None]
    logarithmic = min(values) > 0 and max(values) / min(values) > 100
    ticks = decade_ticks(min(values), max(values)) if logarithmic else even_ticks(min(values), max(values))
    position = math.log10 if logarithmic else float
    low, high = position(ticks[0]), position(ticks[-1])
    first, span = years[0], max(1, years[-1] - years[0])
    lines = [
        {
            "name": name,
            "points": [
                [(year - first) / span, (position(value) - low) / (high - low)]
                for year, value in zip(years, line, strict=True)
                if value is not None
            ],
        }
        for name, line in drawn.items()
    ]
    return {
        "lines": lines,
        "y_ticks": [{"at": (position(tick) - low) / (high - low), "label": f"{tick:,.10g}"} for tick in ticks],
        "x_ticks": [{"at": (year - first) / span, "label": str(year)} for year in _labelled(years)],
        "scale": "logarithmic" if logarithmic else "linear",
        "left_out": len(series) - len(drawn),
    }


def whole_ticks(highest: int) -> list[int]:
    """Return about four whole numbers from 0 to at least `highest`."""
    step = 1
    for candidate in _round_steps():
        step = candidate
        if candidate * 4 >= highest:
            break
    count = max(1, math.ceil(highest / step))
    return [step * index for index in range(count + 1)]


def even_ticks(lowest: float, highest: float) -> list[float]:
    """Return about five evenly spaced round numbers around a range."""
    span = (highest - lowest) or abs(highest) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / 4))
    step = next(magnitude * factor for factor in (1, 2, 5, 10) if magnitude * factor * 4 >= span)
    first, last = math.floor(lowest / step), math.ceil(highest / step)
    return [step * index for index in range(first, max(last, first + 1) + 1)]


def decade_ticks(lowest: float, highest: float) -> list[float]:
    """Return the powers of ten around a range of positive numbers."""
    first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    return [10.0**exponent for exponent in range(first, max(last, first + 1) + 1)]


def _round_steps() -> Sequence[int]:
    return [factor * 10**exponent for exponent in range(12) for factor in (1, 2, 5)]


def _labelled(years: Sequence[int]) -> Sequence[int]:
    """Pick the years that get a label, evenly, so that labels do not touch."""
    step = math.ceil(len(years) / _MAX_YEAR_LABELS)
    return years[::step]
