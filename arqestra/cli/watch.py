"""`arqestra stats --watch`: reads the fleet once a second and shows it, until it is stopped."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

from redis.exceptions import RedisError
from rich.console import Console
from rich.live import Live

from .fleet import COUNTERS, Fleet, History, read_fleet
from .output import iso
from .screen import Screen
from .shell import USAGE, Shell, Stop, redacted
from .stopping import run_until_stopped
from .worker_view import state_of

__all__ = ("watch_fleet",)

EVERY_S = 1.0
LIMIT_S = 3.0  # show that Redis hangs: counters that stand still would look like an idle queue
QUIT_KEYS = "qQ\x03\x04"


async def watch_fleet(shell: Shell) -> None:
    """Show the fleet in the terminal; with --json print one document a second, each on its own line."""
    if not shell.out.as_json and not sys.stdout.isatty():
        raise Stop("--watch: expected a terminal; --json prints one document a second", USAGE)
    fleet = await read_fleet(shell.pool, shell.chosen_queue)
    history = History(fleet.now_ms / 1000, fleet.counters)
    await history.begin(shell.pool, shell.chosen_queue)
    if shell.out.as_json:
        await run_until_stopped(_stream(shell, fleet, history))
        return
    await run_until_stopped(show(shell, Screen(redacted(shell.url), fleet, history)), keys=QUIT_KEYS)


async def show(shell: Shell, screen: Screen) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    with (
        Live(screen, console=console, screen=True, auto_refresh=False, redirect_stderr=False) as live,
        _resized(live),
    ):
        while True:
            await _next_second()
            try:
                async with asyncio.timeout(LIMIT_S):
                    screen.fleet = await read_fleet(shell.pool, shell.chosen_queue)
                screen.problem = ""
                screen.history.add(screen.fleet.now_ms / 1000, screen.fleet.counters)
            except TimeoutError:
                screen.problem = f"Redis has not answered within {LIMIT_S:g} s"
            except (RedisError, OSError) as error:  # keep the last screen, and try again
                screen.problem = f"Redis does not answer: {error}"
            live.refresh()


async def _stream(shell: Shell, fleet: Fleet, history: History) -> None:
    while True:
        shell.out.stream(_document(fleet, history), "")
        await _next_second()
        fleet = await read_fleet(shell.pool, shell.chosen_queue)
        history.add(fleet.now_ms / 1000, fleet.counters)


async def _next_second() -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(EVERY_S - loop.time() % EVERY_S)


@contextlib.contextmanager
def _resized(live: Live) -> Iterator[None]:
    """Draw again when the size of the terminal changes."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGWINCH, live.refresh)
    except (ValueError, RuntimeError):  # not the main thread
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


def _document(fleet: Fleet, history: History) -> dict[str, Any]:
    return {
        "at": iso(fleet.now_ms),
        "per_second": {counter: round(history.rates(counter, 1).recent, 2) for counter in COUNTERS},
        "queues": [
            {
                "queue": each.name,
                "due": each.due,
                "deferred": each.deferred,
                "running": each.running,
                "held": each.held,
                "waiting": each.waiting,
                "dead": each.dead,
                "oldest_due_age_s": None if each.oldest_due_ms is None else each.oldest_due_age_ms / 1000,
                "paused": each.paused,
            }
            for each in fleet.queues
        ],
        "workers": [
            {
                "id": each.worker_id,
                "state": state_of(each),
                "running": each.presence.running,
                "slots": each.presence.slots,
                "lag_ms": each.presence.lag_ms,
            }
            for each in fleet.workers
        ],
        "running": fleet.running,
        "latest_failure": None if not fleet.failures else iso(fleet.failures[0].ended.timestamp() * 1000),
    }
