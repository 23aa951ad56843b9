"""The templates, and their filters for numbers, times and sizes. Everything is escaped."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .links import link

__all__ = ("STATE_MARKS", "environment")

_BYTES = ((1024**3, "GB"), (1024**2, "MB"), (1024, "kB"))
_LENGTHS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
# Each state has a mark besides its colour: some people do not see the colours.
STATE_MARKS: Mapping[str, str] = {
    **{"queued": "●", "running": "▶", "deferred": "◷", "held": "‖", "waiting": "…", "complete": "✓", "failed": "✕"},
    **{"retried": "↻", "dead": "☠", "aborted": "⊘", "expired": "◴", "unknown": "?", "ended": "■", "busy": "▶"},
    **{
        "idle": "●",
        "draining": "◐",
        "gone": "✕",
        "silent": "✕",
        "cancelled": "⊘",
        "skipped": "»",
        "paused": "‖",
        "error": "✕",
    },
    **{"warning": "▲", "upstream_failed": "⇡", "dropped": "»", "refused": "⊘", "ok": "✓"},
}


def environment() -> Environment:
    """The templates' environment."""
    made = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "rate": rate,
        "duration": length,
        "ms": milliseconds,
        "size": size,
        "moment": moment,
        "clock": lambda time_ms: moment(time_ms, as_clock=True),
        "percent": percent,
        "mark": lambda state: STATE_MARKS.get(state, "•"),
        "as_json": lambda value: msgspec.json.encode(value).decode(),
        "filter_json": lambda value: msgspec.json.encode(_filter_of(value)).decode(),
    }
    made.globals["link"] = link
    return made


def _filter_of(value: Any) -> dict[str, Any]:
    """The fields of a `JobFilter` that choose something."""
    fields = {name: getattr(value, name) for name in value.__struct_fields__ if name not in ("after", "limit")}
    return {name: each for name, each in fields.items() if each not in ("", None)}


def number(value: float | None) -> str:
    """1,234"""
    return "–" if value is None else f"{value:,.0f}"


def rate(value: float) -> str:
    """A rate per second, with more digits if it is small."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def length(seconds: float | None) -> str:
    """1 h 5 min"""
    if seconds is None:
        return "–"
    if seconds < 1:
        return "0 s" if seconds <= 0 else f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    for unit_s, unit, part_s, part in _LENGTHS:
        if seconds >= unit_s:
            whole, rest = divmod(int(seconds), unit_s)
            return f"{whole} {unit} {rest // part_s} {part}" if rest // part_s else f"{whole} {unit}"
    return "–"


def milliseconds(value: float | None) -> str:
    """A duration given in ms."""
    return "–" if value is None else length(value / 1000)


def size(value: float) -> str:
    """12.3 MB"""
    for unit_bytes, unit in _BYTES:
        if value >= unit_bytes:
            return f"{value / unit_bytes:.1f} {unit}"
    return f"{value:.0f} B"


def percent(share: float) -> str:
    """12 %, or 0.4 % if it is small."""
    return f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"


def moment(time_ms: float | None, *, as_clock: bool = False) -> Markup | str:
    """A time in UTC. Scripts replace it with the time in the reader's zone, or with how long ago that was.

    :param as_clock: always as a time, never as how long ago
    """
    if time_ms is None:
        return "–"
    try:
        at = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return "–"
    text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    shown = f"{at:%Y-%m-%d %H:%M:%S} UTC"
    kind = "clock" if as_clock else "ago"
    return Markup('<time datetime="{}" data-ms="{}" data-as="{}">{}</time>').format(text, int(time_ms), kind, shown)
