"""The job `generate_report`."""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime
from typing import Any

from arqestra import job

from .clients import Clients, clients_of
from .errors import InvalidInput
from .queues import DEFAULT_QUEUE
from .report_data import Gathered, Heading, document_of
from .report_rendering import FontChoice, render_report
from .settings import ServiceSettings
from .shards import TOTALS_PREFIX

MAX_DATASETS = 20
_MAX_TOTALS_BYTES = 5_000_000
_REPORT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_logger = logging.getLogger(__name__)


@job(name="generate_report", queue=DEFAULT_QUEUE, timeout=300)
async def generate_report(ctx: dict[str, Any], report_id: str) -> dict[str, Any]:
    """Render a PDF of the queue's last 24 hours and of all merged totals, and store it in S3.

    Parameters:
        report_id: a name of letters, digits, `.`, `_` and `-`; the report goes to `reports/<report_id>.pdf`.

    Returns:
        `{"id", "key", "url", "pages", "size_bytes", "missing_glyphs"}`; `url` is presigned and works for
        `SERVICE_S3_URL_LIFETIME_S` seconds; `missing_glyphs` lists characters that no font of this machine has, which
        are `?` in the report and listed at its end.

    Raises:
        InvalidInput: not such a name.
        ReportFailed: typst refused the document.

    Running it twice is harmless: the second report, with the figures of that moment, replaces the first whole.
    """
    if not _REPORT_ID.fullmatch(report_id):
        raise InvalidInput(f"{report_id!r} is no report id; expected letters, digits, '.', '_' and '-'")
    clients = clients_of(ctx)
    settings = clients.settings
    gathered = await _gather(ctx, clients)
    document = document_of(Heading(report_id, settings.report_title, settings.report_subtitle), gathered)
    report = await clients.in_thread(render_report, document, _font_choice(settings), gathered.at)
    if report.missing_glyphs:
        _logger.warning("report %s: no font has %s", report_id, ", ".join(report.missing_glyphs))

    key = f"reports/{report_id}.pdf"
    await clients.store.write(key, report.pdf, "application/pdf")
    return {
        "id": report_id,
        "key": key,
        "url": await clients.store.presigned_url(key, settings.s3_url_lifetime_s),
        "pages": report.pages,
        "size_bytes": len(report.pdf),
        "missing_glyphs": list(report.missing_glyphs),
    }


async def _gather(ctx: dict[str, Any], clients: Clients) -> Gathered:
    """Read the queue's statistics and every data set's totals."""
    hours = clients.settings.report_hours
    keys = await clients.store.keys(TOTALS_PREFIX, limit=MAX_DATASETS)
    return Gathered(
        by_function=await ctx["redis"].statistics(hours=hours),
        by_hour=await ctx["redis"].statistics(hours=hours, by_hour=True),
        totals=[json.loads(await clients.store.read(key, _MAX_TOTALS_BYTES)) for key in keys],
        at=datetime.now(clients.settings.zone),
        hours=hours,
    )


def _font_choice(settings: ServiceSettings) -> FontChoice:
    paths = tuple(str(path) for path in settings.report_font_paths)
    return FontChoice(settings.report_fonts, paths, settings.report_system_fonts)
