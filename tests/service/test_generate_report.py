"""generate_report against real S3 and the queue's real statistics."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any
from urllib.request import urlopen

import pytest

from arqestra import Pool, Worker
from jobs.clients import Clients
from jobs.errors import InvalidInput
from jobs.reports import generate_report

Ctx = dict[str, Any]


def get(url: str) -> bytes:
    with urlopen(url, timeout=10) as response:
        return response.read()


async def test_report_without_any_data_is_still_a_report(ctx: Ctx, clients: Clients) -> None:
    result = await generate_report(ctx, "empty")
    pdf = await asyncio.to_thread(get, result["url"])
    assert pdf.startswith(b"%PDF-")
    assert (result["id"], result["key"], result["size_bytes"]) == ("empty", "reports/empty.pdf", len(pdf))
    assert "X-Amz-Expires=86400" in result["url"]
    assert (result["pages"], result["partial"]) == (1, False)


async def test_totals_are_in_the_report(ctx: Ctx, clients: Clients) -> None:
    before = (await generate_report(ctx, "r"))["size_bytes"]
    column = {"count": 1, "missing": 0, "mean": 1, "deviation": 0, "minimum": 1, "maximum": 1}
    totals = {"dataset": "d", "shards": 1, "rows": 1, "rejected": 0, "columns": {"a": column}, "years": {}}
    await clients.store.write("totals/d.json", json.dumps(totals).encode(), "application/json")
    assert (await generate_report(ctx, "r"))["size_bytes"] > before


async def test_what_was_gathered_within_the_soft_limit_becomes_a_partial_report(
    ctx: Ctx, clients: Clients, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a worker, with a short soft limit and a store that does not answer."""

    async def never(*_: Any, **__: Any) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(clients.store, "keys", never)
    job_options = dataclasses.replace(generate_report.job_options, soft_timeout_s=0.2)
    hasty = dataclasses.replace(generate_report, job_options=job_options)
    worker = Worker(
        [hasty],
        queue_name=generate_report.queue,
        redis_pool=pool,
        ctx={"clients": clients},
        burst=True,
        poll_delay=0.05,
        handle_signals=False,
    )
    job = await pool.enqueue(generate_report, "late")
    assert job is not None
    await worker.async_run()
    result = await job.result(timeout=5)
    assert (result["partial"], result["pages"]) == (True, 1)
    pdf = await asyncio.to_thread(get, result["url"])
    assert pdf.startswith(b"%PDF-")


async def test_a_second_run_replaces_the_report(ctx: Ctx, clients: Clients) -> None:
    first, second = [await generate_report(ctx, "again") for _ in range(2)]
    assert first["key"] == second["key"]
    assert await clients.store.keys("reports/", 10) == ["reports/again.pdf"]


async def test_missing_glyphs_are_in_the_result_and_the_log(
    ctx: Ctx, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"report_title": "보고", "report_system_fonts": False}
    settings = clients.settings.model_copy(update=changes)
    ctx["clients"] = Clients(settings, clients.mail, clients.store, clients.threads)
    result = await generate_report(ctx, "korean")
    assert "U+BCF4 HANGUL SYLLABLE BO" in result["missing_glyphs"]
    assert "no font has" in caplog.text


@pytest.mark.parametrize("report_id", ["", "../x", "a/b", ".hidden", "a\n", "x" * 81])
async def test_a_report_id_is_a_plain_name(ctx: Ctx, report_id: str) -> None:
    with pytest.raises(InvalidInput, match="is no report id"):
        await generate_report(ctx, report_id)
