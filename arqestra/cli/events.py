"""`arqestra events`: prints what happens to jobs and workers, as it happens."""

import asyncio
import contextlib
from typing import Annotated, Any

import msgspec
import typer
from redis.exceptions import RedisError

from ..errors import SettingsError
from ..protocol.events import KINDS, Event
from .output import progress_text, span
from .shell import Shell, command
from .stopping import run_until_stopped

__all__ = ("EventFilter", "add_events")

RETRY_AFTER_S = 1.0
ABOUT_NO_JOB = ("worker-started", "worker-stopped", "dropped")
STYLES = {"failed": "red", "dead": "red", "dropped": "red", "complete": "green", "started": "blue"}
STYLES |= dict.fromkeys(("retried", "aborted", "expired", "released", "snoozed"), "yellow")


def add_events(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "events")(events)


async def events(
    shell: Shell,
    kind: Annotated[list[str] | None, typer.Option("--kind", help="only these: give it several times")] = None,
    function: Annotated[str | None, typer.Option(help="only those of jobs of that function")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="end after so many")] = None,
) -> None:
    """Follow what happens to jobs and workers from now on, until Ctrl-C. With --json one document a line.

    Kinds: started, complete, failed, retried, snoozed, released, aborted, expired, dead, progress, worker-started,
    worker-stopped, and dropped: so many events were too many to be told.

    An enqueue is no event, and of the time before nothing is told: see `stats` and `jobs list --state failed`.
    """
    odd = set(kind or ()) - set(KINDS)
    if odd:
        raise SettingsError(f"--kind: expected one of {', '.join(KINDS)}, got {min(odd)!r}")
    shell.out.note("events from now on; Ctrl-C ends")
    await run_until_stopped(_follow(shell, EventFilter(kind, function, shell.chosen_queue), count))


class EventFilter:
    """Which events are wanted."""

    def __init__(self, kinds: list[str] | None, function: str | None, queue: str | None) -> None:
        self._kinds, self._function, self._queue = kinds, function, queue

    def wants(self, event: Event) -> bool:
        if event.kind == "dropped":
            return True  # wanted events may be among them
        if self._kinds and event.kind not in self._kinds:
            return False
        return self._function in (None, event.function) and self._queue in (None, event.queue)


async def _follow(shell: Shell, wanted: EventFilter, count: int | None) -> None:
    printed = 0
    while True:
        try:
            async with contextlib.aclosing(shell.pool.events()) as events:  # type: ignore[type-var]
                async for event in events:
                    if wanted.wants(event):
                        shell.out.stream(_document(event), _text(event), STYLES.get(event.kind, ""))
                        printed += 1
                        if printed == count:
                            return
        except BrokenPipeError:
            raise
        except (RedisError, OSError) as error:
            shell.out.note(f"Redis does not answer, trying again; events of the meantime are missed: {error}")
            await asyncio.sleep(RETRY_AFTER_S)


def _document(event: Event) -> dict[str, Any]:
    facts = msgspec.to_builtins(event)
    del facts["at_ms"]
    return {"kind": facts.pop("kind"), "at": event.at, **facts}


def _text(event: Event) -> str:
    """One line: time, kind, function, id, and the details of the kind."""
    parts = [f"{event.at.astimezone():%H:%M:%S.%f}"[:-3], f"{event.kind:<9}"]
    if event.kind == "dropped":
        return "  ".join([*parts, f"{event.count:,} events were too many to be told"])
    if event.kind in ABOUT_NO_JOB:
        return "  ".join([*parts, event.worker_id])
    parts += [f"{event.function:<12}", f"{event.job_id:<32}", *_details(event)]
    return "  ".join(part for part in parts if part).rstrip()


def _details(event: Event) -> list[str]:
    details = [f"attempt {event.attempt}"] if event.attempt > 1 else []
    if event.kind == "progress" and event.done is not None:
        return [*details, progress_text(event.done, event.total, event.message)]
    if event.kind not in ("started", "progress"):
        details += [f"ran {span(event.run_ms)}", f"waited {span(event.wait_ms)}", event.error]
    return details
