"""The table of the README, to be pasted there: ratios lead, figures follow."""

from .bars import redis_us
from .catalogue import ARQ, ARQ_TUNED, BULLMQ, LEVELS, OURS, PEERS
from .figures import Figures, ratio
from .rows import at

QUEUES = (OURS, ARQ, ARQ_TUNED, "saq", "taskiq", "streaq", "huey", "celery", BULLMQ)
DASH = "—"
LEGEND = "In each cell: how many times better arqestra is, and in brackets the figure of the queue itself."


def readme_table(figures: Figures) -> str:
    """Markdown, with a line below it that says what a cell is."""
    titles = {peer.key: peer.title for peer in PEERS}
    columns = [key for key in QUEUES if figures.median(at(LEVELS[-1]), key, "jobs_per_s") is not None]
    lines = [
        "| | " + " | ".join(titles[key] for key in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for level in LEVELS:
        rates = {key: figures.median(at(level), key, "jobs_per_s") for key in columns}
        lines.append(_line(f"no-op jobs per second, {level} at a time", rates, "{:,.0f}", ours_by_theirs=True))
    for level in LEVELS:
        costs = {key: redis_us(figures, key, level) for key in columns}
        lines.append(_line(f"Redis processor time a job, µs, {level} at a time", costs, "{:,.0f}"))
    for name, about in (("start", "start of a job on an idle queue"), ("result", "enqueue and wait for the result")):
        waits = {key: figures.median("latency", key, f"{name}_p50_ms") for key in columns}
        lines.append(_line(f"{about}, p50, ms", waits, "{:.2g}"))
    lines += ["", LEGEND]
    return "\n".join(lines) + "\n"


def _line(about: str, values: dict[str, float | None], form: str, *, ours_by_theirs: bool = False) -> str:
    """A row. The ratio is ours to theirs where more is better, theirs to ours where less is: above 1, ours is ahead."""
    cells = []
    for key, value in values.items():
        if value is None:
            cells.append(DASH)
        elif key == OURS:
            cells.append(f"**{_number(value, form)}**")
        else:
            ours = values[OURS]
            ahead = ratio(ours, value) if ours_by_theirs else ratio(value, ours)
            cells.append(
                _number(value, form) if ahead is None else f"{_number(ahead, '{:.2g}')}x ({_number(value, form)})"
            )
    return f"| {about} | " + " | ".join(cells) + " |"


def _number(value: float, form: str) -> str:
    # 3.2e+02 is no figure for a reader.
    return f"{value:,.0f}" if value >= 10 else form.format(value)
