"""Records are the same wherever the pieces of an object are cut, and damage is an error, never silence."""

import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import InvalidRecords
from jobs.record_stream import Record, RecordReader

LIMIT = 10_000
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
JSON_VALUES = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | CELLS


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(name: str, data: bytes, size: int = 7, limit: int = LIMIT) -> tuple[list[Record], int]:
    reader = RecordReader(name, limit)
    return [record async for record in reader.records(pieces(data, size))], reader.rejected


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
async def test_csv_with_preamble_quotes_and_line_breaks(size: int) -> None:
    data = '\ufeff# source "x\n\n# more\r\nname,note\r\n한글,"a, ""b""\r\nc"\nshort\n\nlast,1'.encode()
    records, rejected = await read("a.csv", data, size)
    assert records == [{"name": "한글", "note": 'a, "b"\r\nc'}, {"name": "last", "note": "1"}]
    assert rejected == 1


@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2).filter(any), max_size=12),
    size=st.integers(1, 40),
    line_break=st.sampled_from(["\n", "\r\n"]),
)
async def test_csv_reads_whatever_was_written(rows: list[list[str]], size: int, line_break: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=line_break).writerows([["a", "b"], *rows])
    records, rejected = await read("a.csv", text.getvalue().encode(), size)
    assert [[record["a"], record["b"]] for record in records] == rows
    assert rejected == 0


@given(
    values=st.lists(st.dictionaries(CELLS, JSON_VALUES, max_size=4), max_size=8),
    size=st.integers(1, 40),
    indent=st.sampled_from([None, 2]),
)
async def test_json_array_reads_whatever_was_written(values: list[Any], size: int, indent: int | None) -> None:
    data = json.dumps(values, ensure_ascii=False, indent=indent).encode()
    assert await read("a.json", data, size) == (values, 0)


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_json_elements_that_are_no_objects_are_rejected(size: int) -> None:
    assert await read("a.json", b' [ {"a": 12} , 12, "x", null, [1] ] ', size) == ([{"a": 12}], 4)


@pytest.mark.parametrize("name", ["a.ndjson", "a.jsonl"])
async def test_json_lines(name: str) -> None:
    assert await read(name, b'{"a": 1}\n\n{"a": 2}\r\n3') == ([{"a": 1}, {"a": 2}], 1)


@pytest.mark.parametrize("data", [b"[]", b" [ ] \n"])
async def test_empty_array_has_no_records(data: bytes) -> None:
    assert await read("a.json", data) == ([], 0)


@pytest.mark.parametrize("data", [b"", b"a,b\n", b"a,b", b"# only a comment\n"])
async def test_csv_without_rows_has_no_records(data: bytes) -> None:
    assert await read("a.csv", data) == ([], 0)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", b'[{"a": 1}'),
        ("a.json", b'[{"a": 1},'),
        ("a.json", b'[{"a": 1} {"a": 2}]'),
        ("a.json", b'[{"a": 1}] x'),
        ("a.json", b'{"a": 1}'),
        ("a.json", b""),
        ("a.json", b"[{]"),
        ("a.json", b'[{"a": NaN}]'),
        ("a.json", b"[" * 9_000),
        ("a.ndjson", b'{"a": 1\n{"a": 2}'),
        ("a.csv", b'a,b\n"x" y,2\n'),
        ("a.csv", b"a,a\n1,2\n"),
        ("a.csv", b"a,b\n\xff,2\n"),
        ("a.csv", b"a,b\n\xed\x95"),
        ("a.csv", b'a,b\n"' + b"x" * 20_000),
        ("a.json", b'["' + b"x" * 20_000),
        ("a.ndjson", b"x" * 20_000),
    ],
)
@pytest.mark.parametrize("size", [5, 30_000])
async def test_damage_is_an_error(name: str, data: bytes, size: int) -> None:
    with pytest.raises(InvalidRecords, match=r"'a.*' cannot be read"):
        await read(name, data, size)


def test_unknown_format_is_refused() -> None:
    with pytest.raises(InvalidRecords, match=r"expected a key that ends in \.csv, \.json, \.ndjson, \.jsonl"):
        RecordReader("a.parquet", LIMIT)
