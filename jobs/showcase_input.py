"""What the showcase works on: the user's photographs and table, or those that matplotlib ships as sample data."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .aggregates import DATE_COLUMNS, number_of

SHARDS = 8
MAX_SHARD_BYTES = 8_000_000
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".heic"}
_MAX_ORDERS = 200
_ORDER_ITEMS = 5
Row = list[str]


class NoInput(Exception):
    """There is nothing to work on where the user pointed."""


@dataclass(frozen=True)
class ShowcaseInput:
    """Photographs below one folder, and one CSV file.

    Attributes:
        image_root: the folder.
        images: names of the files below it.
        table: the CSV file.
    """

    image_root: Path
    images: tuple[str, ...]
    table: Path


@dataclass(frozen=True)
class Shard:
    """One piece of the table, as an object for S3."""

    key: str
    data: bytes
    content_type: str
    rows: int


def find_input(images: str, table: str) -> ShowcaseInput:
    """Find what to work on.

    Parameters:
        images: a folder of the user's, or '' for matplotlib's photograph of Grace Hopper.
        table: a CSV file of the user's, or '' for matplotlib's Stocks.csv.

    Raises:
        NoInput: no images in that folder, or no such file.
    """
    if images:
        root = Path(images).resolve()
        names = tuple(sorted(path.name for path in root.glob("*") if path.suffix.lower() in _IMAGE_SUFFIXES))
    else:
        root, names = _sample_folder(), ("grace_hopper.jpg",)
    table_path = Path(table).resolve() if table else _sample_folder() / "Stocks.csv"
    if not names or not all((root / name).is_file() for name in names):
        raise NoInput(f"there are no images in {root}; expected files such as {', '.join(sorted(_IMAGE_SUFFIXES))}")
    if not table_path.is_file():
        raise NoInput(f"there is no file {table_path}; expected a CSV file with a header line")
    return ShowcaseInput(root, names, table_path)


def cut_into_shards(table: Path, prefix: str) -> Iterator[Shard]:
    """Cut a CSV file into about eight pieces, every second one as JSON, so that both formats are read.

    Parameters:
        table: the file; it is read as a stream.
        prefix: what the keys begin with.
    """
    target_bytes = min(MAX_SHARD_BYTES, math.ceil(table.stat().st_size / SHARDS))
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = _rows(file)
        header = next(rows, None)
        if header is None:
            raise NoInput(f"{table} is empty; expected a CSV file with a header line")
        number, piece, size_bytes = 0, [], 0
        for row in rows:
            piece.append(row)
            size_bytes += sum(map(len, row)) + len(row)
            if size_bytes >= target_bytes:
                yield _shard(f"{prefix}{number:03}", header, piece, as_json=number % 2 == 1)
                number, piece, size_bytes = number + 1, [], 0
        if piece:
            yield _shard(f"{prefix}{number:03}", header, piece, as_json=number % 2 == 1)


def orders_of(table: Path) -> list[dict[str, Any]]:
    """Make a user's orders out of the table: a purchase of each of the first columns at the price of some days."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = _rows(file)
        header = next(rows, [])
        dates = [index for index, name in enumerate(header) if name.lower() in DATE_COLUMNS]
        orders: list[dict[str, Any]] = []
        for number, row in enumerate(rows):
            date = row[dates[0]] if dates else f"row {number:06}"
            prices = [(name, number_of(value)) for name, value in zip(header, row, strict=False)]
            bought = [(name, price) for name, price in prices if price is not None][:_ORDER_ITEMS]
            orders += [{"date": date, "item": name, "amount": round(price, 2)} for name, price in bought]
            if len(orders) >= _MAX_ORDERS:
                break
    return orders[:_MAX_ORDERS]


def _sample_folder() -> Path:
    from matplotlib import get_data_path

    return Path(get_data_path()) / "sample_data"


def _rows(file: Iterator[str]) -> Iterator[Row]:
    """Yield the rows of a CSV file, without the comment lines that may stand above its header."""
    line = next(file, "")
    while line.startswith("#") or line.strip() == "":
        if line == "":
            return
        line = next(file, "")
    yield from (row for row in csv.reader(_with_first(line, file)) if row)


def _with_first(line: str, rest: Iterator[str]) -> Iterator[str]:
    yield line
    yield from rest


def _shard(stem: str, header: Row, rows: Sequence[Row], as_json: bool) -> Shard:
    if as_json:
        records = [dict(zip(header, row, strict=True)) if len(row) == len(header) else None for row in rows]
        data = json.dumps(records, ensure_ascii=False).encode()
        return Shard(f"{stem}.json", data, "application/json", len(rows))
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    return Shard(f"{stem}.csv", text.getvalue().encode(), "text/csv", len(rows))
