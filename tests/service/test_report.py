"""The report's figures, its charts' geometry, and the PDF itself, read back by what poppler or typst say of it."""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
import typst

from jobs.errors import ReportFailed
from jobs.report_charts import MAX_SERIES, decade_ticks, even_ticks, line_chart, stacked_bars, whole_ticks
from jobs.report_data import (
    Gathered,
    Heading,
    document_of,
    duration_text,
    function_rows,
    hourly_chart,
    key_figures,
    number_text,
)
from jobs.report_rendering import FontChoice, RenderedReport, find_missing, name_of, render_report

AT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
HOUR_S = 3600
NO_SYSTEM_FONTS = FontChoice(families=("DejaVu Sans",), system=False)
LATIN_ONLY = typst.Fonts(include_system_fonts=False, include_embedded_fonts=True)


def row(function: str = "f", **figures: Any) -> dict[str, Any]:
    names = ("complete", "failed", "retried", "aborted", "expired", "run_ms_total", "wait_ms_total", "run_ms_max")
    return {"queue": "default", "function": function} | dict.fromkeys(names, 0) | figures


def totals(**more: Any) -> dict[str, Any]:
    column = {"count": 2, "missing": 1, "mean": 1.5, "deviation": 0.5, "minimum": 1.0, "maximum": 2.0}
    years = {"2024": {"price": [1, 1.0]}, "2025": {"price": [1, 2.0]}}
    return {
        "dataset": "stocks",
        "shards": 8,
        "rows": 3,
        "rejected": 0,
        "columns": {"price": column},
        "years": years,
    } | more


def gathered(*rows: dict[str, Any], by_hour: tuple[dict[str, Any], ...] = (), data: Any = ()) -> Gathered:
    return Gathered(rows, by_hour, data, AT, 24)


def rendered(title: str = "Daily report", subtitle: str = "", choice: FontChoice = NO_SYSTEM_FONTS) -> RenderedReport:
    given = gathered(row(complete=3), by_hour=(row(complete=3, hour=int(AT.timestamp())),), data=[totals()])
    return render_report(document_of(Heading("r-1", title, subtitle), given), choice, AT)


def test_key_figures() -> None:
    rows = [
        row(complete=7, failed=1, expired=2, run_ms_total=800, wait_ms_total=80),
        row(complete=0, failed=2, run_ms_total=200, wait_ms_total=20),
    ]
    assert [figure["value"] for figure in key_figures(rows)] == ["12", "58.3%", "100 ms", "10.0 ms"]


def test_figures_of_an_idle_day_divide_by_nothing() -> None:
    assert [figure["value"] for figure in key_figures([])] == ["0", "–", "–", "–"]
    assert function_rows([row(expired=1)])[0][5:] == ["–", "0.0 ms", "–"]


def test_function_rows_put_the_busiest_first() -> None:
    rows = function_rows(
        [
            row("small", complete=1, run_ms_total=5),
            row("large", complete=4, run_ms_total=9_000, wait_ms_total=80, run_ms_max=61_000, retried=1_000),
        ]
    )
    assert rows[0] == ["large", "default", "4", "0", "1,000", "2.2 s", "1.0 min", "20.0 ms"]
    assert rows[1][0] == "small"


def test_hours_end_with_the_present_one_and_carry_local_labels() -> None:
    this_hour = int(AT.timestamp()) // HOUR_S * HOUR_S
    by_hour = (
        row(complete=4, failed=1, aborted=1, hour=this_hour),
        row("g", complete=2, hour=this_hour),
        row(complete=1, hour=this_hour - 23 * HOUR_S),
        row(complete=99, hour=this_hour - 24 * HOUR_S),
    )
    bars = hourly_chart(gathered(by_hour=by_hour))["bars"]
    assert [bar["label"] for bar in bars][-2:] == ["08", "09"]
    assert len(bars) == 24
    assert (bars[-1]["lower"], bars[-1]["upper"], bars[0]["lower"]) == (6 / 8, 2 / 8, 1 / 8)


def test_bars_of_nothing_are_empty() -> None:
    chart = stacked_bars(["a"], [0], [0])
    assert chart["empty"]
    assert chart["bars"] == [{"label": "a", "lower": 0, "upper": 0}]


@pytest.mark.parametrize(
    ("highest", "ticks"), [(0, [0, 1]), (1, [0, 1]), (4, [0, 1, 2, 3, 4]), (9, [0, 5, 10]), (46, [0, 20, 40, 60])]
)
def test_whole_ticks(highest: int, ticks: list[int]) -> None:
    assert whole_ticks(highest) == ticks


@pytest.mark.parametrize(
    ("lowest", "highest"), [(0, 1), (-3, 7), (5, 5), (0, 0), (1e-9, 2e-9), (-1e12, 1e12), (99.9, 100.1)]
)
def test_even_ticks_enclose_the_range_in_a_few_steps(lowest: float, highest: float) -> None:
    ticks = even_ticks(lowest, highest)
    assert ticks[0] <= lowest
    assert ticks[-1] >= highest
    assert 2 <= len(ticks) <= 7


def test_decade_ticks() -> None:
    assert decade_ticks(0.3, 200) == [0.1, 1.0, 10.0, 100.0, 1000.0]


def test_lines_skip_years_without_a_value_and_stay_inside() -> None:
    chart = line_chart([2000, 2001, 2003], {"a": [1.0, None, 900.0], "b": [None, 20.0, 30.0]})
    assert chart["scale"] == "logarithmic"
    assert [len(line["points"]) for line in chart["lines"]] == [2, 2]
    positions = [position for line in chart["lines"] for point in line["points"] for position in point]
    assert min(positions) >= 0
    assert max(positions) <= 1


def test_lines_with_negative_values_are_linear_and_at_most_ten() -> None:
    chart = line_chart([2000, 2001], {f"s{n}": [-1.0, 500.0 * n] for n in range(MAX_SERIES + 3)})
    assert (chart["scale"], len(chart["lines"]), chart["left_out"]) == ("linear", MAX_SERIES, 3)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0.000"), (1.23456, "1.235"), (-12.345, "-12.35"), (12345.6, "12,346"), (2e12, "2.000e+12")],
)
def test_number_text(number: float, text: str) -> None:
    assert number_text(number) == text


@pytest.mark.parametrize(("ms", "text"), [(0.04, "0.0 ms"), (250, "250 ms"), (1500, "1.5 s"), (90_000, "1.5 min")])
def test_duration_text(ms: float, text: str) -> None:
    assert duration_text(ms) == text


def test_report_is_a_pdf_with_pages() -> None:
    report = rendered()
    assert report.pdf.startswith(b"%PDF-")
    assert report.pages == len(re.findall(rb"/Type\s*/Page\b", report.pdf + decompressed(report.pdf)))
    assert report.missing_glyphs == ()


def test_the_same_document_gives_the_same_bytes() -> None:
    assert rendered().pdf == rendered().pdf


def test_missing_glyphs_are_reported_and_no_box_is_printed() -> None:
    # PDF/A-2b forbids the box of a missing glyph, so that there is a PDF at all says that there is none.
    report = rendered(title="보고 R", subtitle="日報")
    assert report.missing_glyphs == tuple(name_of(character) for character in sorted("보고日報"))
    assert name_of("보") == "U+BCF4 HANGUL SYLLABLE BO"


def test_thousands_of_missing_glyphs_end_soon() -> None:
    hangul = [chr(0xAC00 + number) for number in range(3_000)]
    missing = find_missing([*hangul, "é"], LATIN_ONLY, '["Libertinus Serif"]')
    assert missing == hangul


def test_korean_renders_where_a_font_has_it() -> None:
    choice = FontChoice(("DejaVu Sans", "NanumGothic", "Noto Sans CJK KR"))
    hangul = [chr(0xC77C), chr(0xBCF4)]
    if find_missing(hangul, typst.Fonts(), '["DejaVu Sans"]'):
        pytest.skip("no font of this machine has Hangul")
    assert rendered(title="일일 보고서", choice=choice).missing_glyphs == ()


def test_text_is_data_and_never_markup() -> None:
    hostile = '#panic("x") = *bold* $x$ @ref <label> \\ " ]'
    report = rendered(title=hostile)
    assert report.pages >= 1


def test_document_that_typst_refuses_is_a_clear_error() -> None:
    document = document_of(Heading("r-1", "x", ""), gathered())
    del document["figures"]
    with pytest.raises(ReportFailed, match="typst could not render the report"):
        render_report(document, NO_SYSTEM_FONTS, AT)


def test_long_tables_flow_over_pages() -> None:
    document = document_of(Heading("r-1", "x", ""), gathered(*(row(f"function_{n}", complete=1) for n in range(200))))
    assert render_report(document, NO_SYSTEM_FONTS, AT).pages > 3


def decompressed(pdf: bytes) -> bytes:
    """Return the text of all compressed streams of a PDF."""
    found = b""
    for part in pdf.split(b"stream\n")[1:]:
        try:
            found += zlib.decompressobj().decompress(part)
        except zlib.error:
            continue
    return found
