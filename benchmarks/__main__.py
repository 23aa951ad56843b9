"""Command line of the benchmarks."""

import argparse
import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from .bars import Bar, all_bars
from .catalogue import PEERS, peers_named
from .chart import draw_chart
from .readme_table import readme_table
from .report import print_report
from .rows import ROWS, rows_named
from .session import Plan, Session, SessionResults

OUTPUT_FOLDER = Path(__file__).parent / "out"
PUBLISHED_CHART = Path(__file__).parent.parent / "docs" / "benchmark.png"
REPORT_WIDTH = 150
INTERRUPTED = 130


def main() -> int:
    """Measure, print, write; returns the exit code."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else REPORT_WIDTH)
    # Both unwind the run, so that everything started is stopped; a shell's background job ignores SIGINT otherwise.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    session = Session(_plan(options), console)
    try:
        session.run()
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started is stopped")
        return INTERRUPTED
    bars = all_bars(session.results.figures)
    _write(session.results, bars, session.plan)
    if options.publish:
        shutil.copy(OUTPUT_FOLDER / "benchmark.png", PUBLISHED_CHART)
    console.print(f"\n{_machine(session.results)}", highlight=False)
    print_report(console, session.results, bars)
    console.print(
        f"written: results.json, table.md for the README, and benchmark.png in {OUTPUT_FOLDER}", highlight=False
    )
    return 1 if options.strict and not all(bar.held for bar in bars) else 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    rows = "\n".join(f"  {row.name:<10} {row.about}{' (--full)' if row.large else ''}" for row in ROWS)
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description="arqestra and its peers, in one run",
        epilog=f"rows:\n{rows}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    keys = ",".join(peer.key for peer in PEERS)
    parser.add_argument("--only", type=_names(rows_named), metavar="ROW,...", help="these rows alone")
    parser.add_argument(
        "--peers", type=_names(peers_named), default=list(PEERS), metavar="KEY,...", help=f"some of {keys}"
    )
    parser.add_argument("--server", type=_program, metavar="PATH", help="a redis-server or valkey-server to measure on")
    parser.add_argument("--repeat", type=int, help="runs of each measurement, of which the median counts (3; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the jobs, one run of each")
    parser.add_argument("--full", action="store_true", help="large loads on our own engine too; takes minutes more")
    parser.add_argument("--publish", action="store_true", help="copy the chart to docs/benchmark.png")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bar is not held or not measured")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> Plan:
    rows = options.only or [row for row in ROWS if options.full or not row.large]
    return Plan(rows, options.peers, options.repeat or (1 if options.quick else 3), options.quick, options.server)


def _names(find: Callable[[list[str]], list[Any]]) -> Callable[[str], list[Any]]:
    """A type for argparse: names with commas between them."""

    def found(text: str) -> list[Any]:
        try:
            return find([name for name in text.split(",") if name])
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return found


def _program(path: str) -> Path:
    if not os.access(path, os.X_OK) or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"expected a program, got {path}")
    return Path(path)


def _machine(results: SessionResults) -> str:
    return f"{os.cpu_count()} cores, {results.server} on the same machine, Python {platform.python_version()}"


def _write(results: SessionResults, bars: list[Bar], plan: Plan) -> None:
    OUTPUT_FOLDER.mkdir(exist_ok=True)
    content = {
        "machine": _machine(results),
        "repeat": plan.repeat,
        "quick": plan.quick,
        "versions": results.versions,
        "rows": results.figures.values,
        "failures": results.failures,
        "bars": [asdict(bar) for bar in bars],
    }
    (OUTPUT_FOLDER / "results.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    (OUTPUT_FOLDER / "table.md").write_text(readme_table(results.figures))
    draw_chart(results.figures, _machine(results), OUTPUT_FOLDER / "benchmark.png")


if __name__ == "__main__":
    sys.exit(main())
