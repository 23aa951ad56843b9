"""The run's throw-away server, and what it tells of its own costs."""

import os
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from arqestra.embedded import EmbeddedRedis

SETTLE_WINDOW_S = 0.1
# An idle server with an idle worker stays below this share of a processor.
SETTLED_CPU_SHARE = 0.05
SETTLE_LIMIT_S = 5.0
SLOWLOG_FROM_US = 1_000
SCRIPT_COMMANDS = (b"EVALSHA", b"EVAL", b"FCALL")


class BenchmarkServer:
    """A server on loopback, started by `with` and gone after it.

    Args:
        program: the server's binary; None: the one that `arqestra.embedded` finds, a redis-server of the PATH first.
    """

    def __init__(self, program: Path | None = None) -> None:
        self._program = program
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        settings = {"slowlog-log-slower-than": str(SLOWLOG_FROM_US), "slowlog-max-len": "4096"}
        if self._program is not None:
            self._put_on_path(self._program)
        self._embedded = EmbeddedRedis(use_environment=False, config=settings)
        self._embedded.__enter__()
        self.url = self._embedded.url
        self.client = redis.Redis.from_url(self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._embedded.__exit__(kind, error, trace)
        if self._folder is not None:
            self._folder.cleanup()

    def _put_on_path(self, program: Path) -> None:
        """As the PATH's redis-server, whatever its name is: that is where the embedded server looks first."""
        self._folder = tempfile.TemporaryDirectory()
        (Path(self._folder.name) / "redis-server").symlink_to(program.resolve())
        os.environ["PATH"] = os.pathsep.join([self._folder.name, os.environ["PATH"]])

    @property
    def version(self) -> str:
        """Name and version of the server."""
        about = self.client.info("server")
        name = about.get("server_name", "redis")
        return f"{name} {about.get('valkey_version', about['redis_version'])}"

    def renew(self) -> None:
        """Start the server anew, on the same port and with no data: each measurement has one of its own.

        A flush is not enough: the wheel's server has libc's malloc, and what that makes of the memory that one peer has
        left behind cost the next up to a third more.
        """
        self.client.close()
        self._embedded.restart()
        self.client = redis.Redis.from_url(self.url)

    def cpu_s(self) -> float:
        """Processor seconds, user and system, that the server has used."""
        cpu = self.client.info("cpu")
        return cpu["used_cpu_user"] + cpu["used_cpu_sys"]

    def await_departures(self) -> None:
        """Wait until every client but this one is gone, and its buffers with it."""
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while self.client.info("clients")["connected_clients"] > 1 and time.monotonic() < deadline:
            time.sleep(SETTLE_WINDOW_S)

    def memory_bytes(self) -> int:
        """Bytes allocated for data and all else, when no other client is connected."""
        self.await_departures()
        return self.client.info("memory")["used_memory"]

    def settle(self) -> None:
        """Wait until the server has nothing more to do: the last results are written."""
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while time.monotonic() < deadline:
            before = self.cpu_s()
            time.sleep(SETTLE_WINDOW_S)
            if self.cpu_s() - before < SETTLED_CPU_SHARE * SETTLE_WINDOW_S:
                return

    def slowest_script_ms(self) -> float:
        """The slowest script call since the last `renew` in milliseconds; 0.0 if none took SLOWLOG_FROM_US."""
        entries = self.client.slowlog_get(4096)
        scripts = [entry["duration"] for entry in entries if entry["command"].split(b" ")[0].upper() in SCRIPT_COMMANDS]
        return max(scripts, default=0) / 1_000
