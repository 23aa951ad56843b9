"""A supervisor over worker processes: it starts, replaces and stops them, and runs no job itself.

Each process is an interpreter of its own (no fork of a process with threads), with a line to the supervisor
(`ipc.py`). A *post* is a place for one process: what stood there is replaced when it asks for it, when it
crashes, or when files change. A replacement is up before the old process stops claiming. If the supervisor dies, the
processes see the end of their lines, drain and end.

It serves the metrics of all its processes at one port, if somebody says which: `--metrics-port`, or their settings.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .ipc import CANNOT_START, STUCK, decoded, encoded
from .supervisor_metrics import SupervisorMetrics

__all__ = ("Program", "Supervisor")

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py

BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
RAN_WELL_S = 60.0  # a process that ran for that long has not failed to start
MAX_STARTS = 5  # of a post in a row whose process ended before it claimed
REPLACEMENT_WAIT_S = 30.0  # that jobs of a replaced process have at least
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


Aside = Callable[[int, dict[str, Any]], None]


class Process:
    """One worker process and the line to it.

    :param aside: called with the process id and each message that does not concern the process's life
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        aside: Aside,
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
    async def start(cls, program: Program, since_s: float, aside: Aside) -> "Process":
        """Start an interpreter and tell it what to run.

        :param since_s: when the code was started that it runs, on this machine's monotonic clock
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"{__package__}.child", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the supervisor, which tells its processes
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        lines = program.logging if isinstance(program.logging, str) else dict(program.logging)
        order = {"run": program.settings, "with": dict(program.overrides), "logging": lines}
        writer.write(encoded({**order, "since": since_s}))
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


class Supervisor:
    """Keeps a number of processes running.

    :param posts: one program for each process
    :param burst: the processes end by themselves when the queues are empty; so do those whose settings say so
    :param metrics: port and host at which the metrics of all processes are served; default those of their settings
    """

    def __init__(
        self, posts: Sequence[Program], *, burst: bool = False, metrics: tuple[int, str] | None = None
    ) -> None:
        self._posts = tuple(posts)
        self._burst = burst
        self._processes: set[Process] = set()
        self._retiring: set[asyncio.Task[int]] = set()
        self._stopping = False
        self._failed = False
        self._restart = asyncio.Event()
        self._generation = 0  # of the code: grows with each restart that somebody asks for
        self._since_s = time.monotonic()  # of the generation
        self._metrics = SupervisorMetrics(len(self._posts), metrics, self._want_figures)

    async def run(self) -> int:
        """Run until a signal, or until all processes of a burst have ended; returns the exit code.

        :raises SettingsError: the metrics cannot be served where they were to be
        """
        await self._metrics.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.restart)
        await asyncio.gather(*(self._keep(place, program) for place, program in enumerate(self._posts)))
        while self._retiring:
            await asyncio.wait(self._retiring)
        await self._metrics.stop()
        logger.info("supervisor: all processes have ended")
        return 1 if self._failed else 0

    def stop(self) -> None:
        """Let all processes drain; a second call hurries them."""
        what = "hurry" if self._stopping else "drain"
        logger.info("supervisor: %s", "jobs are given back at once" if self._stopping else "processes drain")
        self._stopping = True
        for process in self._processes:
            process.tell(what)

    def restart(self) -> None:
        """Replace all processes, each when its replacement is up."""
        self._generation += 1
        self._since_s = time.monotonic()
        restart, self._restart = self._restart, asyncio.Event()
        restart.set()

    def _want_figures(self) -> None:
        for process in self._processes:
            process.want_figures()

    async def _keep(self, place: int, program: Program) -> None:
        """Keep one post manned, until it is to be given up or cannot be manned."""
        if await self._manned(place, program):
            self._metrics.stopped(place)

    async def _manned(self, place: int, program: Program) -> bool:
        """Man one post again and again; whether that has ended as it should."""
        failures = failed_starts = 0
        process = await self._start(place, program)
        while True:
            why = await self._until_something_happens(process)
            if why is not None and not self._stopping:
                logger.info("supervisor: process %d is replaced: %s", process.pid, why)
                process = await self._relieve(place, program, process)
                continue
            code = await self._end_of(process)
            if self._stopping or ((self._burst or process.is_burst) and code == 0):
                return True
            failed_starts = 0 if process.was_ready else failed_starts + 1
            if code == CANNOT_START or failed_starts >= MAX_STARTS:
                faults.error("supervisor: %s cannot be started", program.settings)
                self._failed = True
                if not self._stopping:
                    self.stop()
                return False
            ran_s = asyncio.get_running_loop().time() - process.started_s
            failures = 0 if ran_s > RAN_WELL_S or code in (0, STUCK) else failures + 1
            pause_s = 0.0 if failures == 0 else BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
            logger.warning("supervisor: process %d ended with %d, another starts in %.1f s", process.pid, code, pause_s)
            await asyncio.sleep(pause_s)
            if self._stopping:
                return True
            process = await self._start(place, program)

    async def _start(self, place: int, program: Program) -> Process:
        generation = self._generation
        aside = partial(self._metrics.hear, place)
        process = await Process.start(program, self._since_s, aside)
        process.generation = generation
        logger.info("supervisor: process %d runs %s", process.pid, program.settings)
        self._processes.add(process)
        if self._metrics.wanted:
            process.want_figures()
        if self._stopping:
            process.tell("drain")
        return process

    async def _until_something_happens(self, process: Process) -> str | None:
        """Why a process is to be replaced while it runs; None if it has ended."""
        if process.generation != self._generation:
            return "restart"
        restart = asyncio.ensure_future(self._restart.wait())
        heard = asyncio.ensure_future(self._request_of(process))
        try:
            await asyncio.wait([restart, heard], return_when=asyncio.FIRST_COMPLETED)
            return heard.result() if heard.done() else "restart"
        finally:
            restart.cancel()
            if not heard.done():
                heard.cancel()
                await asyncio.wait([heard])

    @staticmethod
    async def _request_of(process: Process) -> str | None:
        async for message in process.messages():
            if "recycle" in message:
                return str(message["recycle"])
            if "stuck" in message:
                faults.error("supervisor: process %d is stuck: %s", process.pid, message["stuck"])
        return None

    async def _relieve(self, place: int, program: Program, old: Process) -> Process:
        """Start a process, and let the old one drain once it is claiming; until then it goes on."""
        failures = 0
        while not await self._is_ready(new := await self._start(place, program)):
            code = await self._end_of(new)
            if self._stopping:
                return old
            pause_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            failures += 1
            faults.error(
                "supervisor: the replacement ended with %d; %d goes on, next try in %.1f s", code, old.pid, pause_s
            )
            await asyncio.sleep(pause_s)
        old.tell("drain", REPLACEMENT_WAIT_S)
        end = asyncio.ensure_future(self._end_of(old))
        self._retiring.add(end)
        end.add_done_callback(self._retiring.discard)
        return new

    @staticmethod
    async def _is_ready(process: Process) -> bool:
        """Wait until it is claiming; False if it has ended instead."""
        async for message in process.messages():
            if "ready" in message:
                return True
        return False

    async def _end_of(self, process: Process) -> int:
        code = await process.ended()
        self._processes.discard(process)
        self._metrics.ended(process.pid)
        logger.info("supervisor: process %d has ended with %d", process.pid, code)
        return code
