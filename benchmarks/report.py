"""The run's results as tables on the terminal: the bars first, then ratios, with the figures behind them."""

import statistics

from rich.console import Console
from rich.table import Table

from .bars import Bar, redis_us
from .catalogue import LEVELS, OURS, PEERS, PeerFacts
from .figures import Figures, ratio
from .rows import at
from .rows.features import FEATURES
from .rows.fleets import FLEETS
from .session import SessionResults

DASH = "—"
COST_LEVEL = 100
KIB = 1024


def print_report(console: Console, results: SessionResults, bars: list[Bar]) -> None:
    """The bars, all tables that have something in them, and what was left out."""
    figures = results.figures
    peers = [peer for peer in PEERS if peer.key in results.versions]
    if any(bar.held is not None for bar in bars):
        console.print(_bars_table(bars))
    if any(at(level) in figures.values for level in LEVELS):
        _print_throughput(console, results, peers)
    for row, make in (("latency", _latency_table), ("producing", _producing_table), ("chord", _chord_table)):
        if row in figures.values:
            console.print(make(figures, peers))
    for line in _our_lines(figures):
        console.print(line, highlight=False)
    for failure in results.failures:
        console.print(f"not measured: {failure}", style="red", highlight=False, markup=False)


def _print_throughput(console: Console, results: SessionResults, peers: list[PeerFacts]) -> None:
    figures = results.figures
    console.print(_throughput_table(results, peers))
    if any(peer.is_sequential for peer in peers):
        console.print("* runs one job at a time in a process", style="dim")
    if busy := figures.every("other_processors"):
        told = f"other processes kept {statistics.mean(busy):.2f} processors busy meanwhile, at most {max(busy):.2f}"
        console.print(told, style="dim", highlight=False)
    console.print(_redis_time_table(figures, peers))
    if at(COST_LEVEL) in figures.values:
        console.print(_memory_table(figures, peers))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _number(value: float | None, form: str = "{:,.0f}") -> str:
    return DASH if value is None else form.format(value)


def _throughput_table(results: SessionResults, peers: list[PeerFacts]) -> Table:
    figures = results.figures
    ratios = [f"ours ÷ it, at {level}" for level in LEVELS]
    title = "No-op jobs per second, one worker process, results kept (median)"
    table = _table(title, "queue", "version", "concurrency is", *ratios, *(f"jobs/s at {level}" for level in LEVELS))
    for peer in peers:
        rates = [figures.median(at(level), peer.key, "jobs_per_s") for level in LEVELS]
        ours = [figures.median(at(level), OURS, "jobs_per_s") for level in LEVELS]
        shares = [
            DASH if peer.key == OURS else _number(ratio(our, rate), "{:,.2f}x")
            for our, rate in zip(ours, rates, strict=True)
        ]
        title = peer.title + ("*" if peer.is_sequential else "")
        table.add_row(title, results.versions[peer.key], peer.unit, *shares, *(_number(rate) for rate in rates))
    return table


def _redis_time_table(figures: Figures, peers: list[PeerFacts]) -> Table:
    """Enqueue and run apart and together, in microseconds; the ratio is of both together."""
    columns = [column for level in LEVELS for column in (f"ours ÷ it, at {level}", "µs to enqueue", "to run", "both")]
    table = _table("Processor time of Redis a job (median)", "queue", *columns)
    for peer in peers:
        cells = []
        for level in LEVELS:
            both = redis_us(figures, peer.key, level)
            share = ratio(redis_us(figures, OURS, level), both)
            parts = [figures.median(at(level), peer.key, name) for name in ("enqueue_us", "run_us")]
            cells.append(DASH if peer.key == OURS else _number(share, "{:,.2f}x"))
            cells.extend(_number(value, "{:,.1f}") for value in (*parts, both))
        table.add_row(peer.title, *cells)
    return table


def _memory_table(figures: Figures, peers: list[PeerFacts]) -> Table:
    columns = ("bytes queued", "bytes a result", "worker RSS MiB")
    table = _table(f"Memory, at concurrency {COST_LEVEL} (median)", "queue", *columns)
    for peer in peers:
        queued, kept, rss = (
            figures.median(at(COST_LEVEL), peer.key, name) for name in ("queued_bytes", "kept_bytes", "rss_bytes")
        )
        table.add_row(peer.title, _number(queued), _number(kept), _number(rss and rss / KIB / KIB))
    return table


def _latency_table(figures: Figures, peers: list[PeerFacts]) -> Table:
    """In units of an idle PING of our client in the same run, one round trip with nothing in it."""
    columns = ("start ÷ PING", "result ÷ PING", "start p50", "start p99", "result p50", "result p99", "samples")
    table = _table("Latency on an idle queue, milliseconds", "queue", *columns)

    def of(key: str, name: str) -> float | None:
        return figures.median("latency", key, name)

    ping = of(OURS, "ping_p50_ms")
    for peer in peers:
        shares = [_number(ratio(of(peer.key, f"{name}_p50_ms"), ping), "{:,.2f}x") for name in ("start", "result")]
        names = ("start_p50_ms", "start_p99_ms", "result_p50_ms", "result_p99_ms")
        samples = " / ".join(_number(of(peer.key, f"{name}_samples")) for name in ("start", "result"))
        table.add_row(peer.title, *shares, *(_number(of(peer.key, name), "{:,.2f}") for name in names), samples)
    if ping is not None:
        times = [_number(of(OURS, name), "{:,.2f}") for name in ("ping_p50_ms", "ping_p99_ms")]
        table.add_row("(idle PING)", "1.00x", DASH, *times, DASH, DASH, _number(of(OURS, "ping_samples")))
    return table


def _producing_table(figures: Figures, peers: list[PeerFacts]) -> Table:
    ways = {"one after the other": "sequential", "concurrently": "gather", "in bulk": "bulk"}
    ways |= {"(without asyncio)": "sync", "(PING)": "ping"}
    table = _table("Enqueued per second by one producer (median)", "queue", *ways)
    for peer in peers:
        rates = (figures.median("producing", peer.key, f"{way}_per_s") for way in ways.values())
        table.add_row(peer.title, *(_number(rate) for rate in rates))
    return table


def _chord_table(figures: Figures, peers: list[PeerFacts]) -> Table:
    """Of those that have chords: from the call to the body's result in hand."""
    title = "A chord (BullMQ: a flow) of no-op jobs, enqueued and run at concurrency 100 (median)"
    table = _table(title, "queue", "ours ÷ it", "members per second", "without a chord")
    ours = figures.median("chord", OURS, "jobs_per_s")
    for peer in peers:
        rate = figures.median("chord", peer.key, "jobs_per_s")
        if rate is not None:
            share = DASH if peer.key == OURS else _number(ratio(ours, rate), "{:,.1f}x")
            table.add_row(peer.title, share, _number(rate), _number(figures.median("batch", peer.key, "jobs_per_s")))
    return table


def _our_lines(figures: Figures) -> list[str]:
    """What has one row: units, fleets, idle workers."""

    def ours(row: str, name: str) -> float | None:
        return figures.median(row, OURS, name)

    lines = []
    if "units" in figures.values:
        calls = {"PING": "ping", "EVALSHA of `return 1`": "return_1"}
        told = "; ".join(
            f"{call} {_number(ours('units', f'{name}_us'), '{:.2f}')} µs in a pipeline,"
            f" {_number(ours('units', f'lone_{name}_us'), '{:.1f}')} µs alone"
            for call, name in calls.items()
        )
        lines.append(f"units of this run, processor time of Redis: {told}")
    for row, about in (("fleets", "a short queue refilled by bursts"), ("trickle", "500 jobs/s in bursts of 5")):
        if row in figures.values:
            told = "; ".join(
                f"{workers} workers {_number(ours(row, f'jobs_per_s_{workers}'))} jobs/s,"
                f" {_number(ours(row, f'redis_us_{workers}'))} µs of Redis a job"
                for workers in FLEETS
            )
            lines.append(f"workers of 10 slots, {about}: {told}")
    if "features" in figures.values:
        plain = ours("features", "plain_us")
        told = "; ".join(
            f"{feature} {_number(ratio(ours('features', f'{feature}_us'), plain), '{:.2f}')}x"
            f" ({_number(ours('features', f'{feature}_us'))} µs)"
            for feature in FEATURES
        )
        lines.append(f"Redis time a job at concurrency 10 against a plain one ({_number(plain)} µs): {told}")
    if "idle" in figures.values:
        lines.append(
            f"100 idle workers: {_number(ours('idle', 'commands_per_min'))} commands a minute; one of them costs Redis"
            f" {_number(ours('idle', 'redis_share_of_worker'), '{:.4%}')} of a core, the process of all"
            f" {_number(ours('idle', 'fleet_share'), '{:.2%}')}"
        )
    return lines


def _bars_table(bars: list[Bar]) -> Table:
    table = _table("Bars", "what", "bar", "measured", "figures", "")
    for bar in bars:
        verdict = {True: "[green]held[/]", False: "[red]not held[/]", None: "[dim]not measured[/]"}[bar.held]
        table.add_row(bar.what, bar.limit, bar.measured, bar.figures, verdict)
    return table
