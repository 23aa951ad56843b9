"""Starts worker processes: as forks of a process that has imported the settings, or as interpreters of their own."""

import asyncio
import contextlib

from .fork_client import ForkServer, ForkServerLost
from .forkable import platform_can_fork
from .process import Aside, Process, Program, spawn_fresh

__all__ = ("Launcher",)

MAX_SERVERS = 2  # for one start: the second because the first may have been killed


class Launcher:
    """Has one fork server for each settings class, started with the first process, and anew with the code."""

    def __init__(self) -> None:
        self._can_fork = platform_can_fork()
        self._servers: dict[str, ForkServer] = {}  # by settings
        self._running: set[ForkServer] = set()  # those, and others that wait for their last process
        self._stopped = False

    async def start(self, program: Program, since_s: float, aside: Aside) -> Process | None:
        """Start a process.

        :param since_s: when the code was started that it runs, on this machine's monotonic clock
        :param aside: see `Process`
        :returns: None if the launcher was stopped meanwhile
        """
        for _ in range(MAX_SERVERS):
            server = await self._ready_server(program)
            if server is None:
                break
            with contextlib.suppress(ForkServerLost):
                return await Process.start(program, server.fork, since_s, aside)
            self._forget(program, server)
        return None if self._stopped else await Process.start(program, spawn_fresh, since_s, aside)

    def renew(self) -> None:
        """Let processes that are started from here on import anew."""
        for server in self._servers.values():
            server.retire()
        self._servers.clear()

    def stop(self) -> None:
        """Start no more; an import under way is given up."""
        self._stopped = True
        for server in self._servers.values():
            server.give_up_import()

    async def close(self) -> None:
        """End the fork servers, after the last process."""
        for server in self._running:
            server.close()
        await asyncio.gather(*(server.ended() for server in self._running))

    async def _ready_server(self, program: Program) -> ForkServer | None:
        """One that has imported the settings; None: they are not to be forked."""
        if self._stopped or not self._can_fork or program.overrides.get("preload") is False:
            return None
        server = self._servers.get(program.settings)
        if server is None:
            server = self._servers[program.settings] = ForkServer(program)
            self._running = {each for each in self._running if not each.has_ended} | {server}
        try:
            return server if await server.forks() else None
        except ForkServerLost:  # the interpreter that is started instead tells why, if the import fails
            self._forget(program, server)
            return None

    def _forget(self, program: Program, server: ForkServer) -> None:
        if self._servers.get(program.settings) is server:
            del self._servers[program.settings]
