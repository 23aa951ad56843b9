"""Reads records out of a JSON or CSV object while it arrives, holding one piece and one record at a time.

- `.csv`: UTF-8, a header line, RFC 4180 quoting (line breaks inside quotes too); empty lines and `#` lines above the
  header are skipped; a row with another number of fields than the header is counted as rejected.
- `.json`: an array of objects. `.ndjson`, `.jsonl`: one object a line. Array elements that are no objects are rejected.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import PurePosixPath
from typing import Any

from .errors import InvalidRecords

Record = dict[str, Any]
_JSON_SPACE = " \t\r\n"


class RecordReader:
    """Turns the bytes of one object into records, and counts what is not one.

    Parameters:
        name: the object's key; its suffix tells the format, and messages name it.
        max_record_bytes: the longest record that is accepted, which bounds the memory (counted in characters).

    Attributes:
        rejected: rows of the wrong length and elements that are no objects, so far.
    """

    def __init__(self, name: str, max_record_bytes: int) -> None:
        self._name = name
        self._max_record = max_record_bytes
        self.rejected = 0
        formats = {".csv": self._csv, ".json": self._array, ".ndjson": self._lines, ".jsonl": self._lines}
        suffix = PurePosixPath(name).suffix.lower()
        if suffix not in formats:
            raise InvalidRecords(f"{name!r} has no known format; expected a key that ends in {', '.join(formats)}")
        self._parse = formats[suffix]

    async def records(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Record]:
        """Yield the records of an object.

        Parameters:
            chunks: its bytes, cut anywhere.

        Raises:
            InvalidRecords: not UTF-8, not JSON or CSV, or a record that is too long.
        """
        try:
            async for value in self._parse(self._text(chunks)):
                if isinstance(value, dict):
                    yield value
                else:
                    self.rejected += 1
        except (csv.Error, ValueError, RecursionError) as error:
            raise InvalidRecords(f"{self._name!r} cannot be read: {error}") from error

    async def _text(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
        """Decode, also when a chunk ends in the middle of a character."""
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        async for chunk in chunks:
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)

    def _bounded(self, pending: str) -> str:
        if len(pending) > self._max_record:
            raise ValueError(f"a record is longer than {self._max_record:,} bytes")
        return pending

    async def _csv(self, texts: AsyncIterator[str]) -> AsyncIterator[Record | None]:
        header: list[str] | None = None
        pending = ""
        async for text in texts:
            pending += text
            if header is None:
                pending = _without_preamble(pending)
            end = _end_of_complete_rows(pending)
            complete, pending = pending[:end], self._bounded(pending[end:])
            for row in _csv_rows(complete):
                if header is None:
                    header = _checked_header(row)
                else:
                    yield _row_record(header, row)
        for row in _csv_rows(_without_preamble(pending) if header is None else pending):
            if header is not None:
                yield _row_record(header, row)

    async def _lines(self, texts: AsyncIterator[str]) -> AsyncIterator[Any]:
        pending = ""
        async for text in texts:
            *lines, pending = (pending + text).split("\n")
            for line in lines:
                if line.strip():
                    yield _loads(self._bounded(line))
            self._bounded(pending)
        if pending.strip():
            yield _loads(pending)

    async def _array(self, texts: AsyncIterator[str]) -> AsyncIterator[Any]:
        """Take one element after the other from the front of what has arrived."""
        elements = _ArrayElements()
        async for text in texts:
            for value in elements.feed(text):
                yield value
            self._bounded(elements.pending)
        elements.finish()


class _ArrayElements:
    """The elements of one JSON array that arrives in pieces."""

    def __init__(self) -> None:
        self.pending = ""
        self._expected = "["
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def feed(self, text: str) -> Iterator[Any]:
        """Yield the elements that are complete, and keep the rest."""
        self.pending += text
        at = 0
        while True:
            at = _skip_space(self.pending, at)
            if at >= len(self.pending):
                break
            if self._expected in ("[", ","):
                at = self._punctuation(at)
            elif self._expected == "element]" and self.pending[at] == "]":
                self._expected, at = "end", at + 1
            elif self._expected == "end":
                raise ValueError("there is something after the end of the array")
            else:
                found = self._element(at)
                if found is None:
                    break
                value, at = found
                self._expected = ","
                yield value
        self.pending = self.pending[at:]

    def finish(self) -> None:
        """Raise ValueError if the array did not end."""
        if self._expected != "end" or self.pending.strip():
            raise ValueError(f"the JSON array is cut off or malformed near {self.pending[:40]!r}")

    def _punctuation(self, at: int) -> int:
        character = self.pending[at]
        if self._expected == "[" and character == "[":
            self._expected = "element]"
        elif self._expected == "," and character == ",":
            self._expected = "element"
        elif self._expected == "," and character == "]":
            self._expected = "end"
        else:
            raise ValueError(f"expected {self._expected!r} and found {character!r}; is this an array of objects?")
        return at + 1

    def _element(self, at: int) -> tuple[Any, int] | None:
        """Return an element and where it ends, or None while it is incomplete."""
        try:
            value, end = self._decoder.raw_decode(self.pending, at)
        except json.JSONDecodeError:
            return None
        # `12` at the end of a piece may go on as `123`: an element counts once something follows it.
        return (value, end) if _skip_space(self.pending, end) < len(self.pending) else None


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _JSON_SPACE:
        at += 1
    return at


def _loads(line: str) -> Any:
    return json.loads(line, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _without_preamble(text: str) -> str:
    """Drop whole empty lines and comment lines from the front."""
    while text.startswith(("#", "\n", "\r\n")) and "\n" in text:
        text = text.partition("\n")[2]
    return text


def _end_of_complete_rows(text: str) -> int:
    """Return where the last row ends whose line break is not inside quotes; 0 if there is none.

    Cut at the quotes, every second piece lies outside them; an escaped quote (`""`) is an empty piece between.
    """
    pieces = text.split('"')
    end = len(text)
    for index in range(len(pieces) - 1, -1, -1):
        start = end - len(pieces[index])
        line_break = pieces[index].rfind("\n")
        if index % 2 == 0 and line_break >= 0:
            return start + line_break + 1
        end = start - 1
    return 0


def _csv_rows(text: str) -> Iterator[list[str]]:
    return (row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row)


def _checked_header(row: list[str]) -> list[str]:
    if len(set(row)) != len(row):
        raise ValueError(f"the header names a column twice: {row}")
    return row


def _row_record(header: list[str], row: list[str]) -> Record | None:
    return dict(zip(header, row, strict=True)) if len(row) == len(header) else None
