"""The run's results as tables on the terminal."""

import statistics

from rich.console import Console
from rich.table import Table

from .bars import Bar, ratio
from .catalogue import LEVELS, OURS
from .measurements import Latency, PeerResults
from .session import SessionResults

DASH = "—"
RATIO_LEVEL = 100
COST_LEVEL = 100
KIB = 1024


def print_report(console: Console, results: SessionResults, bars: list[Bar]) -> None:
    """All tables, what was left out, and the bars."""
    peers = sorted(results.peers.values(), key=lambda peer: -(peer.median_at(RATIO_LEVEL, "jobs_per_s") or 0))
    console.print(_throughput_table(peers, results.peers.get(OURS)))
    if any(len({run.concurrency for run in peer.throughput}) == 1 for peer in peers):
        console.print("* runs one job at a time in a process; the same figure in every column", style="dim")
    if runs := [run.other_processors for peer in peers for run in peer.throughput]:
        told = f"other processes kept {statistics.mean(runs):.2f} processors busy meanwhile, at most {max(runs):.2f}"
        console.print(told, style="dim", highlight=False)
    console.print(_latency_table(peers))
    if (found := results.peers.get(OURS)) and found.ping_latency:
        told = (
            f"a PING at the same idle gaps, one round trip with nothing in it: p50 {found.ping_latency.p50_ms:.2f} ms"
        )
        console.print(told, style="dim", highlight=False)
    console.print(_enqueue_table(peers))
    console.print(_chord_table(peers))
    console.print(_cost_table(peers))
    console.print(_bars_table(bars))
    for failure in results.failures:
        console.print(f"not measured: {failure}", style="red", highlight=False, markup=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _number(value: float | None, form: str = "{:,.0f}") -> str:
    return DASH if value is None else form.format(value)


def _throughput_table(peers: list[PeerResults], ours: PeerResults | None) -> Table:
    levels = [f"at {level}" for level in LEVELS]
    title = "No-op jobs per second, one worker process, results kept (median)"
    table = _table(
        title, "queue", "version", "concurrency is", *levels, *(f"ours ÷ it, at {level}" for level in LEVELS)
    )
    for peer in peers:
        star = "*" if len({run.concurrency for run in peer.throughput}) == 1 else ""
        rates = [peer.median_at(level, "jobs_per_s") for level in LEVELS]
        ratios = [
            ratio(ours.median_at(level, "jobs_per_s") if ours else None, rate)
            for level, rate in zip(LEVELS, rates, strict=True)
        ]
        cells = [_number(rate) + (star if rate is not None else "") for rate in rates]
        shares = [DASH if peer is ours else _number(share, "{:,.1f}x") for share in ratios]
        table.add_row(peer.title, peer.version, peer.unit, *cells, *shares)
    return table


def _latency_table(peers: list[PeerResults]) -> Table:
    columns = ("start p50", "start p99", "result p50", "result p99", "samples")
    table = _table("Latency on an idle queue, milliseconds", "queue", *columns)
    for peer in peers:
        cells = [*_percentile_cells(peer.start_latency), *_percentile_cells(peer.result_latency)]
        counts = [str(found.samples) if found else DASH for found in (peer.start_latency, peer.result_latency)]
        table.add_row(peer.title, *cells, " / ".join(counts))
    return table


def _percentile_cells(latency: Latency | None) -> list[str]:
    return [DASH, DASH] if latency is None else [f"{latency.p50_ms:,.2f}", f"{latency.p99_ms:,.2f}"]


def _enqueue_table(peers: list[PeerResults]) -> Table:
    ways = {"one after the other": "sequential", "concurrently": "gather", "in bulk": "bulk", "(PING)": "ping"}
    table = _table("Enqueued per second by one producer (median)", "queue", *ways)
    for peer in peers:
        table.add_row(peer.title, *(_number(peer.rate(way)) for way in ways.values()))
    return table


def _chord_table(peers: list[PeerResults]) -> Table:
    """Of those that have chords: from the call to the body's result in hand."""
    columns = ("members per second", "without a chord", "ours ÷ it")
    table = _table(
        "A chord (BullMQ: a flow) of no-op jobs, enqueued and run at concurrency 100 (median)", "queue", *columns
    )
    ours = next((peer.rate("chord") for peer in peers if peer.key == OURS), None)
    for peer in peers:
        if peer.rate("chord") is not None:
            share = DASH if peer.key == OURS else _number(ratio(ours, peer.rate("chord")), "{:,.1f}x")
            table.add_row(peer.title, _number(peer.rate("chord")), _number(peer.rate("batch")), share)
    return table


def _cost_table(peers: list[PeerResults]) -> Table:
    columns = ("Redis µs to enqueue", "to run", "both", "bytes queued", "bytes a result", "worker RSS MiB")
    table = _table(f"Costs a job, at concurrency {COST_LEVEL} (median)", "queue", *columns)
    for peer in peers:
        enqueue, run, queued, kept, rss = (
            peer.median_at(COST_LEVEL, figure)
            for figure in ("enqueue_cpu_us", "run_cpu_us", "queued_bytes", "kept_bytes", "worker_rss_bytes")
        )
        both = None if enqueue is None or run is None else enqueue + run
        times = [_number(value, "{:,.1f}") for value in (enqueue, run, both)]
        sizes = [_number(queued), _number(kept), _number(rss and rss / KIB / KIB)]
        table.add_row(peer.title, *times, *sizes)
    return table


def _bars_table(bars: list[Bar]) -> Table:
    table = _table("Bars", "what", "bar", "measured", "")
    for bar in bars:
        verdict = {True: "[green]held[/]", False: "[red]not held[/]", None: "[dim]not measured[/]"}[bar.held]
        table.add_row(bar.what, bar.limit, bar.measured, verdict)
    return table
