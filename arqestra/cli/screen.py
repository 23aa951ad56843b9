"""The screen of `stats --watch`: draws a `Fleet` into the lines and columns of the terminal."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..protocol.presence import JobOnWorker, WorkerInfo
from ..store.queues import QueueSurvey
from .fleet import Fleet, History
from .output import ago, count_of, megabytes, printable, progress_text, span, sparkline, style_of
from .worker_view import state_of

__all__ = ("Screen", "share_lines")

ROOMY_LINES = 32  # with this many lines there are empty lines between the parts
WIDE_COLUMNS = 110  # with this many columns jobs have their ids
NARROW_COLUMNS = 64  # with fewer columns queues have fewer numbers
LAG_HIGH_MS = 100
CURVES = (("complete", "green"), ("failed", "red"), ("enqueued", "blue"), ("retried", "yellow"))


class Part(NamedTuple):
    """A part of the screen: a table with a title.

    :ivar columns: headings; ">" begins those of columns with numbers. The last column takes the room that is left
    :ivar total: how many rows there would be, to say how many of them are shown; else 0
    :ivar nothing: the text if there are no rows
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    total: int
    nothing: str


class Screen:
    """The screen; its owner replaces `fleet` and `problem` once a second.

    :param url: of the Redis, without its password
    :ivar problem: why `fleet` is old; "" if it is not
    """

    def __init__(self, url: str, fleet: Fleet, history: History) -> None:
        self.url = url
        self.fleet = fleet
        self.history = history
        self.problem = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = console.size
        lines: list[Text | Table] = [self._head(width), *self._curves(width, height)]
        parts = [
            _queues(self.fleet, narrow=width < NARROW_COLUMNS),
            _workers(self.fleet),
            _running(self.fleet, wide=width >= WIDE_COLUMNS),
            _failures(self.fleet, wide=width >= WIDE_COLUMNS),
        ]
        wanted = [max(1, len(part.rows)) for part in parts]
        room = height - len(lines) - len(parts)
        gap = 1 if height >= ROOMY_LINES or room - len(parts) >= sum(wanted) else 0
        for part, rows in zip(parts, share_lines(room - gap * len(parts), wanted), strict=True):
            if gap:
                lines.append(Text())
            lines.append(_table(part, rows))
        drawn = [
            line for each in lines for line in console.render_lines(each, options.update(width=width, height=None))
        ]
        for index, line in enumerate(drawn[:height]):
            yield from line
            if index < min(len(drawn), height) - 1:
                yield Segment.line()

    def _head(self, width: int) -> Text:
        fleet = self.fleet
        alive = sum(worker.alive for worker in fleet.workers)
        left = f"arqestra  {self.url}  {count_of(fleet.queue_count, 'queue')}  {count_of(alive, 'worker')}"
        if self.problem:
            text = Text(_fitted(f"arqestra  {self.problem}", width), style="white on red")
        else:
            right = "q ends"
            text = Text(_fitted(left, width - len(right) - 1).ljust(width - len(right)) + right, style="reverse")
        text.truncate(width, pad=True)
        return text

    def _curves(self, width: int, height: int) -> list[Text]:
        """The last five minutes: the rates per second, and a curve of each."""
        cells = max(10, width - 36)
        lines = []
        for counter, style in CURVES[: 4 if height >= ROOMY_LINES else 3]:
            rates = self.history.rates(counter, cells)
            highest = max(rates.recent, *rates.series)
            text = Text(f"{counter:<9}", style="bold")
            text.append(f"{_rate(rates.recent):>8}/s ", style=style if rates.recent else "dim")
            text.append(sparkline(rates.series, highest), style=style)
            text.append(f" most {_rate(highest)}/s" if highest else " 5 minutes", style="dim")
            text.truncate(width)
            lines.append(text)
        return lines


def share_lines(room: int, wanted: Sequence[int]) -> list[int]:
    """Lines for each part: as many as it wants, or an equal share of what the smaller parts leave."""
    given = [0] * len(wanted)
    left = max(0, room)
    while left and any(has < wants for has, wants in zip(given, wanted, strict=True)):
        for index, wants in enumerate(wanted):
            if left and given[index] < wants:
                given[index] += 1
                left -= 1
    return given


def _table(part: Part, rows: int) -> Table:
    cut = part.total > min(rows, len(part.rows))
    columns = list(part.columns)
    if cut:
        columns[0] = f"{columns[0]} ({min(rows, len(part.rows))} of {part.total:,})"
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    for index, column in enumerate(columns):
        table.add_column(
            column.lstrip(">"),
            justify="right" if column.startswith(">") else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if index == len(columns) - 1 else None,
        )
    for row in part.rows[:rows]:
        table.add_row(*(each if isinstance(each, Text) else _cell(each) for each in row))
    if not part.rows and rows:
        table.add_row(Text(part.nothing, style="dim"))
    return table


def _queues(fleet: Fleet, *, narrow: bool) -> Part:
    busiest = sorted(fleet.queues, key=lambda each: (-(each.due + each.running), -each.entries, each.name))
    columns: dict[str, Callable[[QueueSurvey], Any]] = {
        "queue": lambda each: each.name,
        ">due": lambda each: _number(each.due),
        ">deferred": lambda each: _number(each.deferred),
        ">running": lambda each: _number(each.running),
        ">held": lambda each: _number(each.held),
        ">dead": lambda each: _number(each.dead, "red"),
        ">oldest due": lambda each: "" if each.oldest_due_ms is None else span(each.oldest_due_age_ms),
        "state": lambda each: "paused" if each.paused else "",
    }
    if narrow:
        for column in (">deferred", ">held", "state"):
            del columns[column]
    rows = [[cell(each) for cell in columns.values()] for each in busiest]
    return Part(tuple(columns), rows, fleet.queue_count, "no queue was used")


def _workers(fleet: Fleet) -> Part:
    columns = ("worker", ">running", ">lag", ">memory", ">started", "state", "queues")
    rows = [_worker(each, fleet.now_ms) for each in sorted(fleet.workers, key=_troubled)]
    return Part(columns, rows, len(fleet.workers), "no worker was heard of")


def _troubled(worker: WorkerInfo) -> tuple[bool, bool]:
    """A sort key: workers with a problem come first."""
    return worker.alive and worker.presence.lag_ms < LAG_HIGH_MS, not worker.presence.draining


def _worker(each: WorkerInfo, now_ms: int) -> tuple[Any, ...]:
    presence = each.presence
    lag = Text(span(presence.lag_ms), style="red" if presence.lag_ms >= LAG_HIGH_MS else "")
    state = state_of(each) if each.alive else f"{each.absence} {ago(each.seen.timestamp() * 1000, now_ms)}"
    return (
        *(
            f"{presence.host}:{presence.pid}",
            f"{presence.running}/{presence.slots}",
            lag,
            megabytes(presence.rss_bytes),
        ),
        *(ago(presence.started_ms, now_ms), Text(state, style=style_of(state_of(each))), ", ".join(presence.queues)),
    )


def _running(fleet: Fleet, *, wide: bool) -> Part:
    rows = [
        (job.function, span(max(0, fleet.now_ms - job.since_ms)), *((job.id,) if wide else ()), _progress(job, wide))
        for job in fleet.jobs
    ]
    columns = ("running", ">for", *(("job",) if wide else ()), "progress" if wide else "progress, or job")
    return Part(columns, rows, fleet.running, "nothing runs")


def _progress(job: JobOnWorker, wide: bool) -> str:
    if job.done is None:
        return "" if wide else job.id
    return progress_text(job.done, job.total, job.message, width=20 if wide else 10)


def _failures(fleet: Fleet, *, wide: bool) -> Part:
    rows = [
        (
            *(each.function, ago(each.ended.timestamp() * 1000, fleet.now_ms), *((each.job_id,) if wide else ())),
            "" if each.failure is None else f"{each.failure.type}: {each.failure.message}",
        )
        for each in fleet.failures
    ]
    return Part(("failed", ">", *(("job",) if wide else ()), "error"), rows, 0, "no job failed")


def _cell(value: Any) -> Text:
    text = printable(str(value))
    return Text(text, style=style_of(text))


def _number(value: int, style: str = "") -> Text:
    return Text(f"{value:,}", style=style if value else "dim")


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 or per_s == 0 else f"{per_s:.1f}" if per_s >= 0.1 else f"{per_s:.2f}"


def _fitted(text: str, width: int) -> str:
    text = printable(text)
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
