"""One worker process, as its supervisor sees it: the process, and the line to it (`ipc.py`)."""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .ipc import decoded, encoded

__all__ = ("Aside", "Handle", "Process", "Program", "spawn_fresh")

faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py

MERCY_S = 20.0  # beyond the time that jobs have to end, until a process is killed
LAST_WORDS_WAIT_S = 1.0
MAX_LINE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Program:
    """What a process runs.

    :ivar settings: import string of a settings class
    :ivar overrides: settings in place of the class's
    :ivar logging: for `logging.config.dictConfig`, or its import string
    """

    settings: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    logging: Mapping[str, Any] | str = field(default_factory=dict)

    @property
    def order(self) -> dict[str, Any]:
        """The first message to whoever imports the settings."""
        lines = self.logging if isinstance(self.logging, str) else dict(self.logging)
        return {"run": self.settings, "with": dict(self.overrides), "logging": lines}


class Handle(Protocol):
    """A process of the operating system; `asyncio.subprocess.Process` is one."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int:
        """Its exit code, once it has ended."""

    def kill(self) -> None:
        """End it by force."""


Aside = Callable[[int, dict[str, Any]], None]
Spawn = Callable[[socket.socket], Awaitable[Handle]]


async def spawn_fresh(theirs: socket.socket) -> Handle:
    """Start an interpreter of its own.

    :param theirs: its end of the line
    """
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"{__package__}.child", str(theirs.fileno())),
        pass_fds=(theirs.fileno(),),
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the supervisor, which tells its processes
    )


class Process:
    """One worker process and the line to it.

    :param aside: called with the process id and each message that does not concern the process's life
    """

    def __init__(
        self, process: Handle, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, aside: Aside
    ) -> None:
        self._process = process
        self._writer = writer
        self.started_s = asyncio.get_running_loop().time()
        self.was_ready = False
        self.is_burst = False
        self.generation = 0
        self._heard: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()  # None: it has ended
        self._reading = asyncio.create_task(self._read(reader, aside))
        self._wait_s = 0.0
        self._kill: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, program: Program, spawn: Spawn, since_s: float, aside: Aside) -> "Process":
        """Start a process and tell it what to run.

        :param spawn: starts it, with its end of the line
        :param since_s: when the code was started that it runs, on this machine's monotonic clock
        """
        ours, theirs = socket.socketpair()
        try:
            process = await spawn(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        writer.write(encoded({**program.order, "since": since_s}))
        return cls(process, reader, writer, aside)

    async def _read(self, reader: asyncio.StreamReader, aside: Aside) -> None:
        """Read all that it says, to the end: also of a process that nobody waits for any more."""
        try:
            while line := await reader.readline():
                message = decoded(line)
                if "figures" in message or "serve" in message:
                    aside(self.pid, message)
                    continue
                if "ready" in message:
                    self.was_ready, self._wait_s, self.is_burst = True, message["wait"], message["burst"]
                self._heard.put_nowait(message)
        except (OSError, ValueError):
            pass  # it was killed, in the midst of a message
        finally:
            self._heard.put_nowait(None)

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the process says of its life, until it has ended."""
        while (message := await self._heard.get()) is not None:
            yield message
        self._heard.put_nowait(None)  # for whoever asks again

    def want_figures(self) -> None:
        """Have it tell its figures from now on."""
        with contextlib.suppress(OSError):
            self._writer.write(encoded({"do": "tell"}))

    def tell(self, what: str, within_s: float = 0.0) -> None:
        """Tell it to `drain` or to `hurry`, and see to it that it ends.

        :param within_s: seconds that its jobs have at least to end in
        """
        with contextlib.suppress(OSError):
            self._writer.write(encoded({"do": what, "within": within_s}))
        if self._kill is None:
            limit_s = max(self._wait_s, within_s) + MERCY_S
            self._kill = asyncio.get_running_loop().call_later(limit_s, self._end_by_force)

    def _end_by_force(self) -> None:
        faults.error("supervisor: process %d does not end, it is killed", self.pid)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        code = await self._process.wait()
        if self._kill is not None:
            self._kill.cancel()
        # Its last words. A process that it started may hold the line open.
        await asyncio.wait([self._reading], timeout=LAST_WORDS_WAIT_S)
        self._reading.cancel()
        self._writer.close()
        return code
