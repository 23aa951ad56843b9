"""A supervisor over worker processes: it starts, replaces and stops them, and runs no job itself.

Each process is a fork of one that has imported the settings, or an interpreter of its own (`launcher.py`). Each has a
line to the supervisor (`ipc.py`). A *post* is a place for one process: what stood there is replaced when it asks for
it, when it crashes, or when files change. A replacement is up before the old process stops claiming. If the supervisor
dies, the processes see the end of their lines, drain and end.

It serves the metrics of all its processes at one port, if somebody says which: `--metrics-port`, or their settings.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Sequence
from functools import partial

from .ipc import CANNOT_START, STUCK
from .launcher import Launcher
from .process import Process, Program
from .supervisor_metrics import SupervisorMetrics

__all__ = ("Program", "Supervisor")

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py

BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
RAN_WELL_S = 60.0  # a process that ran for that long has not failed to start
MAX_STARTS = 5  # of a post in a row whose process ended before it claimed
REPLACEMENT_WAIT_S = 30.0  # that jobs of a replaced process have at least


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
        self._launcher = Launcher()
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
        await self._launcher.close()
        await self._metrics.stop()
        logger.info("supervisor: all processes have ended")
        return 1 if self._failed else 0

    def stop(self) -> None:
        """Let all processes drain; a second call hurries them."""
        what = "hurry" if self._stopping else "drain"
        logger.info("supervisor: %s", "jobs are given back at once" if self._stopping else "processes drain")
        self._stopping = True
        self._launcher.stop()
        for process in self._processes:
            process.tell(what)

    def restart(self) -> None:
        """Replace all processes, each when its replacement is up."""
        self._generation += 1
        self._since_s = time.monotonic()
        self._launcher.renew()
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
        while process is not None:
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
            process = await self._start(place, program)
        return True

    async def _start(self, place: int, program: Program) -> Process | None:
        """Start a process; None if all are to end."""
        generation = self._generation
        process = await self._launcher.start(program, self._since_s, partial(self._metrics.hear, place))
        if process is None:
            return None
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
        while (new := await self._start(place, program)) is not None and not await self._is_ready(new):
            code = await self._end_of(new)
            if self._stopping:
                return old
            pause_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            failures += 1
            faults.error(
                "supervisor: the replacement ended with %d; %d goes on, next try in %.1f s", code, old.pid, pause_s
            )
            await asyncio.sleep(pause_s)
        if new is None:
            return old
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
