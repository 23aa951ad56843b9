"""The jobs `fetch_partial_data` and `merge_results`: totals over a data set that is cut into shards."""

from __future__ import annotations

import json
import re
from typing import Any

from arqestra import job

from .aggregates import Totals, merge_totals
from .clients import clients_of
from .errors import InvalidInput
from .queues import DEFAULT_QUEUE
from .record_stream import RecordReader

TOTALS_PREFIX = "totals/"
_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@job(name="fetch_partial_data", queue=DEFAULT_QUEUE, timeout=300)
async def fetch_partial_data(ctx: dict[str, Any], shard: str) -> dict[str, Any]:
    """Read one shard from S3 as a stream and return its totals.

    Parameters:
        shard: the S3 key (or `s3://` location) of a `.csv`, `.json`, `.ndjson` or `.jsonl` object.

    Returns:
        `{"shard", "rows", "rejected", "columns": {name: {count, total, mean, minimum, maximum, deviation, ...}},
        "years": {year: {name: [count, sum]}}}`.

    Raises:
        ObjectMissing: no such key.
        InvalidRecords: not what its suffix says, or a record longer than `SERVICE_DATA_MAX_RECORD_BYTES`.

    Running it twice is harmless: it only reads, and the same object gives the same totals.
    """
    clients = clients_of(ctx)
    settings = clients.settings
    key = clients.store.key_of(shard)
    reader = RecordReader(key, settings.data_max_record_bytes)
    totals = Totals()
    async for record in reader.records(clients.store.chunks(key)):
        totals.add(record, settings.data_max_columns)
    totals.rejected = reader.rejected
    return {"shard": key, **totals.as_dict()}


@job(name="merge_results", queue=DEFAULT_QUEUE, timeout=60)
async def merge_results(ctx: dict[str, Any], parts: list[dict[str, Any]], dataset: str = "default") -> dict[str, Any]:
    """Merge the totals of several shards and store them in S3, where `generate_report` finds them.

    Parameters:
        parts: results of `fetch_partial_data`, each shard once.
        dataset: a name; the totals go to `totals/<dataset>.json`.

    Returns:
        The merged totals as `fetch_partial_data` returns them, with `"dataset"`, `"key"` and `"shards"`.

    Raises:
        InvalidInput: no part, a shard twice, something that is no part, or a name that is no plain name.

    Running it twice is harmless: the parts are merged in the order of their names, so the same parts give the same
    bytes, and they replace the object whole.
    """
    if not _DATASET.fullmatch(dataset):
        raise InvalidInput(f"{dataset!r} is no data set name; expected letters, digits, '.', '_' and '-'")
    store = clients_of(ctx).store
    merged = {"dataset": dataset, "shards": len(parts), **merge_totals(parts).as_dict()}
    data = json.dumps(merged, ensure_ascii=False).encode()
    key = f"{TOTALS_PREFIX}{dataset}.json"
    await store.write(key, data, "application/json")
    return {**merged, "key": key}
