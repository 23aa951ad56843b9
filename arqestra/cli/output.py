"""What commands print: tables, lines, times and bars for people, or one JSON document."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = (
    "Output",
    "ago",
    "compact",
    "count_of",
    "first_line",
    "iso",
    "megabytes",
    "printable",
    "progress_text",
    "span",
    "sparkline",
    "style_of",
    "when",
)

MAX_WORD = 20  # a longer word is broken
BETWEEN_COLUMNS = 3
_BLOCKS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = " ▁▂▃▄▅▆▇█"
WIDTH_OF_A_FILE = 200  # wide enough for ids, where no terminal says how wide it is
_COLOURS = {
    **{"running": "blue", "complete": "green", "ok": "green", "failed": "red", "dead": "red", "problem": "red"},
    **{"warning": "yellow", "paused": "yellow", "aborted": "yellow", "expired": "yellow", "held": "yellow"},
    **{"cancelled": "yellow", "upstream_failed": "red", "deferred": "cyan"},
    **{"working": "green", "draining": "yellow", "gone": "red", "silent": "red", "not kept": "yellow"},
}


class Output:
    """Standard output. A command gives its output in both forms: it does not ask which one is wanted.

    :param as_json: print only the JSON document
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        is_terminal = sys.stdout.isatty()
        self._console = Console(
            file=sys.stdout, width=None if is_terminal else WIDTH_OF_A_FILE, highlight=False, markup=False, emoji=False
        )
        self._width = self._console.width

    def document(self, value: Any) -> None:
        """Print the JSON document, if JSON is wanted."""
        if self.as_json:
            sys.stdout.write(msgspec.json.format(_encoded(value), indent=2).decode() + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line for people."""
        if not self.as_json:
            self._console.print(Text(printable(text, lines=True), style=style), soft_wrap=True)

    def stream(self, value: Any, text: str, style: str = "") -> None:
        """Print one of many things at once: a JSON document on its own line, or a line for people.

        :raises BrokenPipeError: the reader has closed the pipe
        """
        if self.as_json:
            sys.stdout.write(_encoded(value).decode() + "\n")
        else:
            self.line(text, style)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print a remark for people on stderr. It is not a part of the result."""
        if not self.as_json:
            print(printable(text), file=sys.stderr)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
        """Print a table for people.

        :param columns: headings; cells of the first column are never broken
        :param right: headings of the columns with numbers. They are never broken: 1,2 above 34 reads as two numbers
        """
        if self.as_json:
            return
        cells = [[_cell(value) for value in row] for row in rows]
        unbroken = {index for index, column in enumerate(columns) if index == 0 or column in right}
        widths = [
            min_width([column, *(row[index].plain for row in cells)], unbroken=index in unbroken)
            for index, column in enumerate(columns)
        ]
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for index, column in enumerate(columns):
            table.add_column(
                column,
                justify="right" if column in right else "left",
                overflow="fold",
                no_wrap=index in unbroken,
                min_width=widths[index],
            )
        for row in cells:
            table.add_row(*row)
        # The terminal itself breaks lines that are too long: a broken line is easier to read than a broken number.
        needed = sum(widths) + BETWEEN_COLUMNS * (len(columns) - 1)
        self._console.width = max(needed, self._width)
        self._console.print(table)
        self._console.width = self._width

    def fields(self, fields: Iterable[tuple[str, Any]]) -> None:
        """Print names and values for people, one on each line, without those that have no value."""
        if self.as_json:
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for name, value in fields:
            if value not in (None, "", [], {}):
                table.add_row(name, _cell(value))
        self._console.print(table)


def min_width(texts: Iterable[str], *, unbroken: bool) -> int:
    """The width that a column needs for its texts.

    :param unbroken: each text is on one line; else texts are broken between words
    """
    if unbroken:
        return max(map(cell_len, texts))
    return max(min(cell_len(word), MAX_WORD) for text in texts for word in (text.split() or [""]))


def _cell(value: Any) -> Text:
    text = "" if value is None else printable(str(value))
    return Text(text, style=style_of(text))


def style_of(word: str) -> str:
    """The colour of a state."""
    return _COLOURS.get(word, "")


def printable(text: str, *, lines: bool = False) -> str:
    """The text with control characters escaped: text from jobs must not control the terminal.

    :param lines: keep line feeds and tabs
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(char if char.isprintable() or char in kept else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _encoded(value: Any) -> bytes:
    """A value as JSON, with text in place of what JSON cannot hold."""
    try:
        return msgspec.json.encode(value, enc_hook=_as_text)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return msgspec.json.encode(_json_safe(value))


def _as_text(value: Any) -> Any:
    return compact(value)


def _json_safe(value: Any) -> Any:
    """The value with text in place of keys that are no text, and with escapes for what UTF-8 cannot encode."""
    if isinstance(value, Mapping):
        return {_encodable(key if isinstance(key, str) else repr(key)): _json_safe(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json_safe(each) for each in value]
    if value is None or isinstance(value, bool | int | float | datetime):
        return value
    return _encodable(value if isinstance(value, str) else compact(value))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def compact(value: Any, limit: int | None = None) -> str:
    """`repr()` of a value on one line.

    :param limit: characters at most
    """
    try:
        text = repr(value)
    except Exception as error:
        text = f"<its repr() failed: {type(error).__name__}>"
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def first_line(text: str, limit: int = 200) -> str:
    """The first line of a text, for a table.

    :param limit: characters at most
    """
    line, _, rest = text.partition("\n")
    return line if len(line) <= limit and not rest else line[: limit - 1] + "…"


def count_of(number: int, name: str) -> str:
    """A number of things: "1 job", "2,000 jobs"."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def iso(moment_ms: float | None) -> str | None:
    """A time in ISO 8601, in UTC."""
    if moment_ms is None:
        return None
    try:
        return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return None


def when(moment_ms: float | None, now_ms: float) -> str:
    """A time for people: "2026-11-26 12:30:05 (in 59 s)", in the local time zone."""
    if moment_ms is None:
        return ""
    try:
        local = datetime.fromtimestamp(moment_ms / 1000).astimezone()
    except (OverflowError, ValueError, OSError):
        return "never"
    return f"{local:%Y-%m-%d %H:%M:%S} ({ago(moment_ms, now_ms)})"


def ago(moment_ms: float | None, now_ms: float) -> str:
    """A time as people say it: "3 min ago", "in 59 s"."""
    if moment_ms is None:
        return ""
    text = span(abs(moment_ms - now_ms))
    return f"in {text}" if moment_ms > now_ms else f"{text} ago"


def span(length_ms: float) -> str:
    """A length of time in its one or two greatest units: "250 ms", "59 s", "3 min", "2 h 5 min", "4 d"."""
    if length_ms < 1000:
        return f"{length_ms:.0f} ms"
    seconds = round(length_ms / 1000)
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d"


def megabytes(size_bytes: int) -> str:
    """An amount of memory: "12 MB"."""
    return f"{size_bytes / 2**20:,.0f} MB"


def progress_text(done: float, total: float | None, message: str, width: int = 10) -> str:
    """A bar with a percentage and the message: `████▌      45% page 9`. Without a total: how much is done.

    :param width: of the bar
    """
    if total is None:
        text = f"{done:g} done"
    else:
        share = 1.0 if total <= 0 else min(1.0, max(0.0, done / total))
        text = f"{_bar(share, width)} {share:4.0%}"
    return f"{text} {message}".rstrip() if message else text


def _bar(share: float, width: int) -> str:
    eighths = int(share * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BLOCKS[rest] if rest else "")).ljust(width, "░")


def sparkline(values: Sequence[float], highest: float) -> str:
    """One character for each value. Every value above 0 is visible.

    :param highest: the value of the full height
    """
    return "".join(_HEIGHTS[_height(value, highest)] for value in values)


def _height(value: float, highest: float) -> int:
    if value <= 0 or highest <= 0:
        return 0
    return max(1, min(8, round(value / highest * 8)))
