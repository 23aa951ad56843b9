"""The log of runs, outside Redis: which job started and ended where, whatever became of the process or the server.

A line is one write with O_APPEND, so the lines of all processes stand in the order in which they were written, and what
a process wrote before a SIGKILL stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from arqestra.definitions.context import running_attempt
from arqestra.worker.run.attempt import Attempt

__all__ = ("PATH_VARIABLE", "Event", "RunLog", "Summary", "note_claim", "noted")

PATH_VARIABLE = "CHAOS_RUN_LOG"


class Event(NamedTuple):
    """One line of the log.

    :ivar kind: `start` | `end` | `raised` | `cancelled`
    :ivar at_ns: wall clock
    """

    kind: str
    job_id: str
    job_try: int
    pid: int
    at_ns: int


@contextlib.contextmanager
def noted(ctx: dict[Any, Any]) -> Iterator[None]:
    """Write the start of a run and how it ended; a process that dies writes no end."""
    _note("start", ctx)
    try:
        yield
    except asyncio.CancelledError:
        _note("cancelled", ctx)
        raise
    except BaseException:
        _note("raised", ctx)
        raise
    _note("end", ctx)


def note_claim(ctx: dict[Any, Any]) -> None:
    """Write when the running job was claimed, by Redis' clock: what a limit lets start is judged then."""
    attempt = running_attempt.get()
    assert isinstance(attempt, Attempt)
    _note("claim", ctx, attempt.leased.claimed_ms * 1_000_000)


def _note(kind: str, ctx: dict[Any, Any], at_ns: int | None = None) -> None:
    log = os.open(os.environ[PATH_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, f"{kind} {ctx['job_id']} {ctx['job_try']} {os.getpid()} {at_ns or time.time_ns()}\n".encode())
    finally:
        os.close(log)


@dataclass(frozen=True)
class Summary:
    """What the log says about a set of jobs.

    :ivar lost: jobs without any run to the end
    :ivar duplicated: jobs that started more than once
    :ivar starts: runs in all
    """

    lost: tuple[str, ...]
    duplicated: tuple[str, ...]
    starts: int


class RunLog:
    """Reads the log while it is written.

    :param path: the file; it need not exist yet
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        """All events so far, in the order in which they were written."""
        if self.path.exists():
            with self.path.open("rb") as log:
                log.seek(self._offset)
                data = log.read()
            complete = data[: data.rfind(b"\n") + 1]
            self._offset += len(complete)
            for line in complete.decode().splitlines():
                kind, job_id, job_try, pid, at_ns = line.split()
                self._events.append(Event(kind, job_id, int(job_try), int(pid), int(at_ns)))
        return self._events

    def of(self, kind: str, *, pid: int | None = None) -> list[Event]:
        """The events of one kind, of one process if it is given."""
        return [event for event in self.events if event.kind == kind and pid in (None, event.pid)]

    def started(self, pid: int | None = None) -> set[str]:
        """Ids of the jobs that have started."""
        return {event.job_id for event in self.of("start", pid=pid)}

    def summary(self, job_ids: Iterable[str]) -> Summary:
        """Lost and duplicated jobs among these."""
        starts = Counter(event.job_id for event in self.of("start"))
        ended = {event.job_id for event in self.of("end")}
        wanted = list(job_ids)
        return Summary(
            tuple(job_id for job_id in wanted if job_id not in ended),
            tuple(job_id for job_id in wanted if starts[job_id] > 1),
            sum(starts[job_id] for job_id in wanted),
        )
