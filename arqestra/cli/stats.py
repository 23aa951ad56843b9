"""`arqestra stats`: what the workers did, by queue and function; with --watch as a live view."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ..client.fleet_views import MAX_HOURS, MINUTES_FOR_HOURS
from ..errors import SettingsError
from ..protocol.clock import timestamp_ms
from ..store.statistics import FIGURES, read_minutes, rows_of
from .arguments import since_ms
from .output import span
from .shell import Shell, command
from .watch import watch_fleet

__all__ = ("add_stats",)

SELDOM = ("retried", "aborted", "expired", "recovered")  # columns that are left out if they are empty
SHARES = ("p50", "p95", "p99")


def add_stats(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "stats")(stats)


async def stats(
    shell: Shell,
    hours: Annotated[int | None, typer.Option(min=1, max=MAX_HOURS, help="how far back (default: 24)")] = None,
    since: Annotated[str | None, typer.Option(help="the same: 15m, 2h, or a time in ISO 8601", metavar="TIME")] = None,
    function: Annotated[str | None, typer.Option(help="name of the function")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="a live view; Ctrl-C or q ends it")] = False,
) -> None:
    """Tell what became of jobs, by queue and function: counts, and percentiles of how long they ran and waited.

    Workers count once a second; up to 25 hours are told to the minute, up to 30 days in whole hours. Waiting is from
    due to start. With --watch and --json: one document a second, each on a line.
    """
    if watch:
        if hours is not None or since is not None or function is not None:
            raise SettingsError(
                "--watch shows the last minutes of all functions: expected no --hours, --since, --function"
            )
        await watch_fleet(shell)
        return
    if hours is not None and since is not None:
        raise SettingsError("expected --hours or --since or neither, got both")
    minutes = _minutes(since) if since is not None else 60 * (hours or 24)
    rows = [
        row
        for row in await _rows(shell, minutes)
        if shell.chosen_queue in (None, row["queue"]) and function in (None, row["function"])
    ]
    shell.out.document({"minutes": minutes, "rows": rows})
    if not rows:
        shell.out.line(f"nothing was counted in the last {span(minutes * 60_000)}")
        return
    _print_rows(shell, rows)
    shell.out.note(f"of the last {span(minutes * 60_000)}")


def _minutes(since: str) -> int:
    """Minutes since a time.

    :raises SettingsError: it is in the future, or more than is kept
    """
    moment_ms = since_ms(since)
    assert moment_ms is not None
    minutes = timestamp_ms() // 60_000 - moment_ms // 60_000 + 1
    if not 0 < minutes <= MAX_HOURS * 60 + 1:
        raise SettingsError(f"--since: expected a time within the last {MAX_HOURS // 24} days, got {since!r}")
    return minutes


async def _rows(shell: Shell, minutes: int) -> list[dict[str, Any]]:
    if minutes > MINUTES_FOR_HOURS * 60:
        return await shell.pool.statistics(min(MAX_HOURS, -(-minutes // 60)))
    return rows_of(await read_minutes(shell.pool.store.redis, shell.pool.store.keys, timestamp_ms() // 60_000, minutes))


def _print_rows(shell: Shell, rows: Sequence[dict[str, Any]]) -> None:
    counts = [
        counter
        for counter in FIGURES
        if not counter.startswith(("run_", "wait_")) and (counter not in SELDOM or any(row[counter] for row in rows))
    ]
    columns = ("queue", "function", *counts, "run p50", "p95", "p99", "wait p50", "p95", "p99")
    table = [
        (
            *(row["queue"], row["function"], *(f"{row[counter]:,}" for counter in counts)),
            *(_length(row[f"{what}_ms_{share}"]) for what in ("run", "wait") for share in SHARES),
        )
        for row in rows
    ]
    if len(rows) > 1:
        sums = (f"{sum(row[counter] for row in rows):,}" for counter in counts)
        table.append(("all", "", *sums, *[""] * 2 * len(SHARES)))
    shell.out.table(columns, table, right=columns[2:])


def _length(length_ms: float | None) -> str:
    if length_ms is None:
        return ""
    return f"{length_ms:.1f} ms" if length_ms < 10 else span(length_ms)
