"""The jobs `generate_report` and `daily_report`."""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime
from typing import Any

from arqestra import SoftTimeLimitExceeded, job

from .clients import Clients, clients_of
from .errors import InvalidInput
from .queues import DEFAULT_QUEUE
from .report_data import Gathered, Gathering, Heading, document_of
from .report_rendering import FontChoice, RenderedReport, render_report
from .settings import ServiceSettings
from .shards import TOTALS_PREFIX

MAX_DATASETS = 20
SOFT_LIMIT_S, HARD_LIMIT_S = 240, 300
_MAX_TOTALS_BYTES = 5_000_000
_REPORT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_logger = logging.getLogger(__name__)


@job(name="generate_report", queue=DEFAULT_QUEUE, soft_timeout=SOFT_LIMIT_S, timeout=HARD_LIMIT_S)
async def generate_report(ctx: dict[str, Any], report_id: str) -> dict[str, Any]:
    """Render a PDF of the queue's last 24 hours and of all merged totals, and store it in S3.

    Parameters:
        report_id: a name of letters, digits, `.`, `_` and `-`; the report goes to `reports/<report_id>.pdf`.

    Returns:
        `{"id", "key", "url", "pages", "size_bytes", "missing_glyphs", "partial"}`; `url` is presigned and works for
        `SERVICE_S3_URL_LIFETIME_S` seconds; `missing_glyphs` lists characters that no font of this machine has, which
        are `?` in the report and listed at its end; `partial` is True if it took longer than 240 s: then the report has
        what was gathered until then, and says so in its title.

    Raises:
        InvalidInput: not such a name.
        ReportFailed: typst refused the document.

    Running it twice is harmless: the second report, with the figures of that moment, replaces the first whole.
    """
    if not _REPORT_ID.fullmatch(report_id):
        raise InvalidInput(f"{report_id!r} is no report id; expected letters, digits, '.', '_' and '-'")
    clients = clients_of(ctx)
    settings = clients.settings
    gathering = Gathering(datetime.now(settings.zone), settings.report_hours)
    try:
        await _gather(ctx, clients, gathering)
        report = await _rendered(clients, report_id, gathering.result())
    except SoftTimeLimitExceeded:
        _logger.warning("report %s takes too long: it is made of what was gathered so far", report_id)
        gathering.partial = True
        report = await _rendered(clients, report_id, gathering.result())
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
        "partial": gathering.partial,
    }


@job(name="daily_report", queue=DEFAULT_QUEUE, soft_timeout=SOFT_LIMIT_S, timeout=HARD_LIMIT_S)
async def daily_report(ctx: dict[str, Any]) -> dict[str, Any]:
    """Make the report of the day.

    Returns:
        What `generate_report` returns; the id is `daily-` and the date in the configured zone.

    Running it twice is harmless: the same day gives the same id, and the later report replaces the earlier.
    """
    today = datetime.now(clients_of(ctx).settings.zone).date()
    return await generate_report(ctx, f"daily-{today.isoformat()}")


async def _gather(ctx: dict[str, Any], clients: Clients, gathering: Gathering) -> None:
    """Read the queue's statistics and every data set's totals, a piece at a time."""
    gathering.by_function = await ctx["redis"].statistics(hours=gathering.hours)
    gathering.by_hour = await ctx["redis"].statistics(hours=gathering.hours, by_hour=True)
    for key in await clients.store.keys(TOTALS_PREFIX, limit=MAX_DATASETS):
        gathering.totals.append(json.loads(await clients.store.read(key, _MAX_TOTALS_BYTES)))


async def _rendered(clients: Clients, report_id: str, gathered: Gathered) -> RenderedReport:
    settings = clients.settings
    document = document_of(Heading(report_id, settings.report_title, settings.report_subtitle), gathered)
    return await clients.in_thread(render_report, document, _font_choice(settings), gathered.at)


def _font_choice(settings: ServiceSettings) -> FontChoice:
    paths = tuple(str(path) for path in settings.report_font_paths)
    return FontChoice(settings.report_fonts, paths, settings.report_system_fonts)
