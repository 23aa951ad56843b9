"""Child processes of the showcase and the tests, which never outlive the process that started them.

At a normal end `stop` does it. For a SIGKILL the kernel is asked (Linux: PR_SET_PDEATHSIG) to end the child too; that
is set by a few lines of Python that then become the child by exec, since a `preexec_fn` may deadlock in a process with
threads. The kernel sends the signal when the thread that forked ends, so start children from the main thread.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_BECOME = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the process that started this one is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ChildProcess:
    """One running child.

    Parameters:
        name: for messages.
        process: as asyncio started it.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def first_line(self) -> str:
        """Return the first line that the child prints, '' if it ends without one."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def ended(self) -> int:
        """Wait until the child has ended and return its exit code."""
        return await self._process.wait()

    async def stop(self, grace_s: float = 10.0) -> None:
        """Ask the child to end, and end it after `grace_s` seconds. Safe to call twice."""
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


async def start_python(
    name: str, arguments: Sequence[str], log_path: Path, environment: Mapping[str, str] | None = None
) -> ChildProcess:
    """Start this Python with the given arguments; its log goes to a file, its standard output is read by us.

    Parameters:
        name: for messages.
        arguments: such as `["-m", "arq", "worker.WorkerSettings"]`.
        log_path: where its standard error goes, appended.
        environment: variables to add to ours.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), sys.executable, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**os.environ, **(environment or {})},
            # A session of its own: Ctrl-C in a terminal reaches us alone, and we stop our children in order.
            start_new_session=True,
        )
    return ChildProcess(name, process)
