"""What commands print: tables and lines for people, or one JSON document."""

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

__all__ = ("Output", "ago", "compact", "first_line", "iso", "megabytes", "printable", "span", "style_of", "when")

MAX_WORD = 20  # from which on words are broken
BETWEEN_COLUMNS = 3
WIDTH_OF_A_FILE = 200  # where no terminal says how wide it is: ids must not be broken
_COLOURS = {
    **{"running": "blue", "complete": "green", "ok": "green", "failed": "red", "dead": "red", "problem": "red"},
    **{"warning": "yellow", "paused": "yellow", "aborted": "yellow", "expired": "yellow", "held": "yellow"},
    **{"cancelled": "yellow", "upstream_failed": "red", "deferred": "cyan"},
    **{"working": "green", "draining": "yellow", "gone": "red", "silent": "red", "not kept": "yellow"},
}


class Output:
    """Standard output. A command gives what it has to say in both forms and does not ask which is wanted.

    :param as_json: the document alone
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        is_terminal = sys.stdout.isatty()
        self._console = Console(
            file=sys.stdout, width=None if is_terminal else WIDTH_OF_A_FILE, highlight=False, markup=False, emoji=False
        )
        self._width = self._console.width

    def document(self, value: Any) -> None:
        """The JSON document, if that is what is wanted."""
        if self.as_json:
            sys.stdout.write(msgspec.json.format(_encoded(value), indent=2).decode() + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """A line for people."""
        if not self.as_json:
            self._console.print(Text(printable(text, lines=True), style=style), soft_wrap=True)

    def tell(self, value: Any, text: str, style: str = "") -> None:
        """One of many things that are said as they come: a JSON document on a line of its own, or a line for people.

        :raises BrokenPipeError: nobody reads it any more
        """
        if self.as_json:
            sys.stdout.write(_encoded(value).decode() + "\n")
        else:
            self.line(text, style)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """A remark for people that is not part of the result: on stderr."""
        if not self.as_json:
            print(printable(text), file=sys.stderr)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
        """A table for people.

        :param columns: headings; the first one's cells are not broken
        :param right: headings of columns with numbers, which are not broken either: 1,2 above 34 reads as two numbers
        """
        if self.as_json:
            return
        cells = [[_cell(value) for value in row] for row in rows]
        whole = {place for place, column in enumerate(columns) if place == 0 or column in right}
        widths = [
            least_width([column, *(row[place].plain for row in cells)], whole=place in whole)
            for place, column in enumerate(columns)
        ]
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for place, column in enumerate(columns):
            table.add_column(
                column,
                justify="right" if column in right else "left",
                overflow="fold",
                no_wrap=place in whole,
                min_width=widths[place],
            )
        for row in cells:
            table.add_row(*row)
        # What is wider than the terminal is broken by that: a line in two is read more easily than a number in two.
        needed = sum(widths) + BETWEEN_COLUMNS * (len(columns) - 1)
        self._console.width = max(needed, self._width)
        self._console.print(table)
        self._console.width = self._width

    def fields(self, fields: Iterable[tuple[str, Any]]) -> None:
        """Names and values for people, one a line; those without a value are left out."""
        if self.as_json:
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for name, value in fields:
            if value not in (None, "", [], {}):
                table.add_row(name, _cell(value))
        self._console.print(table)


def least_width(texts: Iterable[str], *, whole: bool) -> int:
    """Of a column, that its texts are still read.

    :param whole: they are on one line; else broken between words
    """
    if whole:
        return max(map(cell_len, texts))
    return max(min(cell_len(word), MAX_WORD) for text in texts for word in (text.split() or [""]))


def _cell(value: Any) -> Text:
    text = "" if value is None else printable(str(value))
    return Text(text, style=style_of(text))


def style_of(word: str) -> str:
    """The colour of a state."""
    return _COLOURS.get(word, "")


def printable(text: str, *, lines: bool = False) -> str:
    """The text with escapes for control characters: what jobs carry must not command the terminal.

    :param lines: leave line feeds and tabs as they are
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(char if char.isprintable() or char in kept else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _encoded(value: Any) -> bytes:
    """JSON of a value; what JSON has no form for is given as text."""
    try:
        return msgspec.json.encode(value, enc_hook=_as_text)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return msgspec.json.encode(_without_oddities(value))


def _as_text(value: Any) -> Any:
    return compact(value)


def _without_oddities(value: Any) -> Any:
    """The same with text for keys that are none, and for text that UTF-8 has no bytes for."""
    if isinstance(value, Mapping):
        return {
            _encodable(key if isinstance(key, str) else repr(key)): _without_oddities(each)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_oddities(each) for each in value]
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
    """The first line of what may be a long text: for a table, where many have to fit.

    :param limit: characters at most
    """
    line, _, rest = text.partition("\n")
    return line if len(line) <= limit and not rest else line[: limit - 1] + "…"


def iso(moment_ms: float | None) -> str | None:
    """ISO 8601 of a time, in UTC."""
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
    """A length of time in its greatest unit or two: "250 ms", "59 s", "3 min", "2 h 5 min", "4 d"."""
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
    """Memory for people."""
    return f"{size_bytes / 2**20:,.0f} MB"
