"""What is refused at the connect, and what settings tell of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from arq.connections import RedisSettings as ArqRedisSettings

from arqestra import RedisSettings, ServerNotReady, SettingsError, Worker, create_pool, func
from arqestra.client.connect import settings_of
from arqestra.store.replies import reply_error
from tests.support.ports import HOST, free_ports
from tests.support.redis_process import redis_process


@pytest.fixture
def cluster_node(tmp_path: Path) -> Iterator[str]:
    """URL of a server in cluster mode."""
    port, cluster_port = free_ports(2)
    with redis_process(tmp_path / "node", port, "cluster-enabled yes", f"cluster-port {cluster_port}"):
        yield f"redis://{HOST}:{port}"


async def nothing(ctx: dict[str, object]) -> None:
    """A job."""


async def test_a_cluster_is_refused_with_a_sentence(cluster_node: str) -> None:
    with pytest.raises(SettingsError, match="Redis Cluster"):
        await create_pool(cluster_node)

    worker = Worker([func(nothing, name="nothing")], redis_settings=cluster_node, handle_signals=False)
    with pytest.raises(SettingsError, match="Redis Cluster"):
        await worker.main()
    await worker.close()


@pytest.mark.parametrize("reply", ["MOVED 12182 127.0.0.1:7001", "ASK 1 127.0.0.1:7001", "CROSSSLOT Keys in request"])
def test_what_a_cluster_answers_later_says_so_too(reply: str) -> None:
    error = reply_error(reply)
    assert isinstance(error, redis.ResponseError)
    assert "Redis Cluster" in str(error)
    assert reply in str(error)


@pytest.mark.parametrize(
    "reply",
    [
        "READONLY You can't write against a read only replica.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "NOREPLICAS Not enough good replicas to write.",
        "ERR Error running script (call to f_6b1): @user_script:1: -READONLY You can't write against a replica. ",
        "ERR Error running script (call to f_6b1): @user_script:1: -OOM command not allowed ",
    ],
)
def test_a_server_that_cannot_take_writes_has_one_type_of_error(reply: str) -> None:
    error = reply_error(reply)
    assert isinstance(error, ServerNotReady)
    assert isinstance(error, redis.ConnectionError)
    assert isinstance(error, redis.exceptions.ReadOnlyError) == ("READONLY" in reply)


@pytest.mark.parametrize("name", ["password", "sentinel_password"])
def test_settings_show_no_secret(name: str) -> None:
    settings = RedisSettings(**{name: "open sesame"})  # type: ignore[arg-type]
    assert "sesame" not in repr(settings)
    assert f"{name}='***'" in repr(settings)


def test_settings_without_secrets_look_as_arqs() -> None:
    assert repr(RedisSettings(port=6380)) == repr(ArqRedisSettings(port=6380))


def test_settings_of_a_url_are_ours() -> None:
    settings = RedisSettings.from_dsn("rediss://user:secret@example.org:6380/3")
    assert (settings.host, settings.port, settings.database, settings.ssl) == ("example.org", 6380, 3, True)
    assert isinstance(settings, RedisSettings)
    assert settings_of(ArqRedisSettings(port=1)).port == 1
