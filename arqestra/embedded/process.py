"""The process of a server that is started here: it ends with the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from ..errors import EmbeddedRedisError

__all__ = ("ServerProcess",)

# The wheel's server uses libc's malloc. There, each long block (a script's reply is one) makes malloc merge all the
# short blocks that Lua has just freed: 20% of the server's time under load. With room in the thread's cache the short
# blocks never get that far. A server with jemalloc does not have this cost.
# Large pages, where the system has some, make a job a fifth cheaper: about as cheap as with jemalloc.
_MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=20000:glibc.malloc.hugetlb=1"}

# Runs in the child before it becomes the server: argv is the expected parent, then the server's command line.
# If the parent died before prctl took effect, no signal comes any more: hence the check of the parent's id.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the process that asked for this server is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerProcess:
    """A server process and the thread that forked it, which stays until the process has ended."""

    def __init__(self, command: list[str], folder: Path, log_path: Path) -> None:
        self.command = command
        self.ended = threading.Event()
        self.returncode: int | None = None
        self._failure: OSError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        forked = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(folder, log_path, forked), name="arqestra-embedded-redis", daemon=True
        )
        self._thread.start()
        forked.wait()
        if self._failure is not None:
            raise EmbeddedRedisError(f"expected to start {command[0]}, got {self._failure}") from self._failure

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def terminate(self, timeout_s: float) -> None:
        self._send(signal.SIGTERM)
        if not self.ended.wait(timeout_s):
            self.kill()
        self._thread.join()

    def kill(self) -> None:
        self._send(signal.SIGKILL)
        self._thread.join()

    def _run(self, folder: Path, log_path: Path, forked: threading.Event) -> None:
        wrapper = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
        try:
            with log_path.open("ab") as log:
                # A session of its own: Ctrl-C in a terminal reaches us, and we stop the server last.
                self._process = subprocess.Popen(
                    wrapper + self.command,
                    cwd=folder,
                    env=_MALLOC | os.environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            self._failure = error
            self.ended.set()
            return
        finally:
            forked.set()
        self.returncode = self._process.wait()
        self.ended.set()

    def _send(self, signal_number: signal.Signals) -> None:
        if self._process is not None:
            # poll() before the signal, inside: a process id that was reaped is never signalled.
            self._process.send_signal(signal_number)
