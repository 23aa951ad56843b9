"""A fork server (`fork_server.py`), as the supervisor sees it, and the processes that it forks."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from .ipc import MAX_MESSAGE_BYTES, decoded, encoded
from .process import Handle, Program

__all__ = ("ForkServer", "ForkServerLost")

logger = logging.getLogger("arq.worker")

END_WAIT_S = 5.0
EXIT_UNKNOWN = 255  # of a process that outlived its fork server


class ForkServerLost(Exception):
    """The fork server has ended, or its import has failed."""


class ForkServer:
    """A process that imports the settings of a program, and then forks.

    :param program: with the settings
    """

    def __init__(self, program: Program) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.fork_server", str(theirs.fileno()), program.settings],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._asking = asyncio.Lock()
        self._running = 0
        self._retired = False
        self._importing = asyncio.ensure_future(self._import(program))
        self._ending = asyncio.ensure_future(self._reap(os.pidfd_open(self._process.pid)))

    async def forks(self) -> bool:
        """Whether processes can be forks, once it has imported.

        :raises ForkServerLost: the import failed, or it was killed
        """
        return await asyncio.shield(self._importing)

    async def fork(self, theirs: socket.socket) -> Handle:
        """Start a worker process.

        :param theirs: its end of the line
        :raises ForkServerLost: the server has ended
        :raises OSError: the system refuses
        """
        answer = await self._ask({"do": "fork"}, theirs)
        if "error" in answer:
            raise OSError(f"cannot fork: {answer['error']}")
        self._running += 1
        return ForkedProcess(answer["pid"], self)

    async def exit_code(self, pid: int) -> int:
        """That of a process that has ended; asked once.

        :returns: `EXIT_UNKNOWN` if the server has ended before
        """
        try:
            code: int = (await self._ask({"reap": pid}))["code"]
        except ForkServerLost:
            code = _exit_code_of_orphan(pid)
        self._running -= 1
        if self._retired and self._running == 0:
            self.close()
        return code

    def retire(self) -> None:
        """Fork no more, and end after the last process. An import under way is given up."""
        self._retired = True
        self.give_up_import()
        if self._running == 0:
            self.close()

    def give_up_import(self) -> None:
        """End it if it has not imported yet."""
        if not self._importing.done():
            self._kill()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        asyncio.get_running_loop().call_later(END_WAIT_S, self._kill)  # what runs at its exit may hang

    @property
    def has_ended(self) -> bool:
        return self._ending.done()

    async def ended(self) -> None:
        """Wait for its end."""
        await asyncio.shield(self._ending)

    async def _import(self, program: Program) -> bool:
        reason: str | None = (await self._ask(program.order))["reason"]
        if reason is None:
            logger.info("supervisor: process %d has imported %s, and forks it", self._process.pid, program.settings)
        else:
            logger.info("supervisor: processes of %s are not forked: %s", program.settings, reason)
        return reason is None

    async def _ask(self, message: dict[str, Any], *sent: socket.socket) -> dict[str, Any]:
        async with self._asking:
            try:
                socket.send_fds(self._control, [encoded(message)], [each.fileno() for each in sent])
                answer = await asyncio.get_running_loop().sock_recv(self._control, MAX_MESSAGE_BYTES)
            except OSError:
                answer = b""
        if not answer:
            raise ForkServerLost
        return decoded(answer)

    def _kill(self) -> None:
        self._process.kill()  # does nothing after `_reap`

    async def _reap(self, descriptor: int) -> None:
        await _end_of(descriptor)
        self._process.wait()
        async with self._asking:  # whoever waits for an answer sees the end first
            self._control.close()


class ForkedProcess:
    """A worker process that a fork server has started.

    :param pid: its id. No other process has it before the server was asked for the exit code
    """

    def __init__(self, pid: int, server: ForkServer) -> None:
        self.pid = pid
        self._server = server
        self._ending = asyncio.ensure_future(self._until_ended(os.pidfd_open(pid)))

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return await asyncio.shield(self._ending)

    def kill(self) -> None:
        """End it by force."""
        if not self._ending.done():
            os.kill(self.pid, signal.SIGKILL)

    async def _until_ended(self, descriptor: int) -> int:
        await _end_of(descriptor)
        return await self._server.exit_code(self.pid)


async def _end_of(descriptor: int) -> None:
    """Wait for the end of a process.

    :param descriptor: of `os.pidfd_open`; it is closed
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _exit_code_of_orphan(pid: int) -> int:
    """Of a process whose fork server has ended: we may be its parent now, as process 1 of a container."""
    try:
        _, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return EXIT_UNKNOWN
    return os.waitstatus_to_exitcode(status)
