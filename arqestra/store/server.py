"""The server: its clock, and what `arqestra doctor` and a worker at its start ask it.

A server may refuse each of these: its ACL does not allow INFO or CONFIG, or a host has renamed them. Then what it
does not tell is unknown, and everything else is told all the same.
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ..protocol.clock import system_ms
from ..protocol.keys import DEFAULT_QUEUE
from .replies import CLUSTER_ADVICE, ServerIsCluster, reply_error
from .store import Store

__all__ = (
    "ServerFacts",
    "clock_offset_ms",
    "eviction_policy",
    "greet",
    "read_server",
    "redis_time_ms",
)

PINGS = 20


async def greet(redis: Redis) -> int:
    """The first words to a server: is it one that we can work with, and what is its time?

    :returns: how far its clock is ahead of this process' (ms), to within half a round trip
    :raises ServerIsCluster: it is a node of a Redis Cluster
    :raises redis.exceptions.RedisError: it does not answer, or refuses
    """
    before_ms = system_ms()
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.info("cluster")
        answered, cluster = await pipe.execute(raise_on_error=False)
    if type(answered) is ResponseError:
        raise reply_error(str(answered))
    if isinstance(answered, Exception):
        raise answered
    if isinstance(cluster, dict) and cluster.get("cluster_enabled"):  # a server that does not tell is believed
        raise ServerIsCluster(CLUSTER_ADVICE)
    return _ms(answered) - (before_ms + system_ms()) // 2


async def clock_offset_ms(redis: Redis) -> int:
    """How far Redis' clock is ahead of this process' (ms), to within half a round trip."""
    before_ms = system_ms()
    redis_ms = await redis_time_ms(redis)
    return redis_ms - (before_ms + system_ms()) // 2


async def redis_time_ms(redis: Redis) -> int:
    """The time on Redis' clock."""
    return _ms(await redis.time())


def _ms(time: tuple[int, int]) -> int:
    seconds, microseconds = time
    return int(seconds) * 1000 + int(microseconds) // 1000


class ServerFacts(NamedTuple):
    """The server as it says of itself.

    :ivar name: "Redis" or "Valkey"; "" if it does not tell
    :ivar version: as it reports; that of the Redis it is compatible with; "" if it does not tell
    :ivar eviction: `maxmemory-policy`; "" if it does not tell
    :ivar maxmemory_bytes: 0 for no limit; None if it does not tell
    :ivar append_only: None if it does not tell
    :ivar snapshots: whether `save` is set; None if it does not tell
    :ivar clock_offset_ms: its clock less ours
    :ivar ping_ms: how long PINGs took, sorted
    :ivar scripts: "" if our scripts run, else why not
    """

    name: str
    version: str
    cluster: bool
    replica: bool
    eviction: str
    used_memory_bytes: int
    maxmemory_bytes: int | None
    append_only: bool | None
    snapshots: bool | None
    write_failed: bool
    clock_offset_ms: int
    ping_ms: tuple[float, ...]
    scripts: str


async def read_server(store: Store) -> ServerFacts:
    """Ask the server.

    :raises redis.exceptions.RedisError: it does not answer
    """
    redis = store.redis
    info = await _info(redis)
    config = await _config(redis)
    aof = bool(info["aof_enabled"]) if "aof_enabled" in info else None
    failed = "err" in (info.get("rdb_last_bgsave_status"), info.get("aof_last_write_status"))
    return ServerFacts(
        name="" if not info else "Valkey" if "valkey_version" in info else "Redis",
        version=str(info.get("redis_version", "")),
        cluster=bool(info.get("cluster_enabled", 0)),
        replica=info.get("role", "master") != "master",
        eviction=_eviction(info, config),
        used_memory_bytes=int(info.get("used_memory", 0)),
        maxmemory_bytes=int(info["maxmemory"]) if "maxmemory" in info else None,
        append_only=aof,
        snapshots=bool(config["save"]) if "save" in config else None,
        write_failed=failed,
        clock_offset_ms=await clock_offset_ms(redis),
        ping_ms=await _pings_ms(redis),
        scripts=await _scripts_problem(store),
    )


async def eviction_policy(redis: Redis) -> str:
    """The server's `maxmemory-policy`; "" if it does not tell."""
    info = await _info(redis, "memory")
    return _eviction(info, {} if "maxmemory_policy" in info else await _config(redis))


def _eviction(info: dict[str, Any], config: dict[str, str]) -> str:
    return str(info.get("maxmemory_policy") or config.get("maxmemory-policy") or "")


async def _info(redis: Redis, section: str | None = None) -> dict[str, Any]:
    """INFO; nothing where the server refuses it."""
    try:
        found: dict[str, Any] = await redis.info(section)
    except ResponseError:
        return {}
    return found


async def _config(redis: Redis) -> dict[str, str]:
    """Settings; hosted servers refuse to tell them."""
    try:
        found = [await redis.config_get(name) for name in ("save", "maxmemory-policy")]
    except ResponseError:
        return {}
    return {name: value for each in found for name, value in each.items()}


async def _pings_ms(redis: Redis) -> tuple[float, ...]:
    """How long round trips take, sorted: of PING, or of TIME where PING is refused."""
    ask: Callable[[], Awaitable[Any]] = redis.ping
    try:
        await ask()
    except ResponseError:
        ask = partial(redis_time_ms, redis)
    trips: list[float] = []
    for _ in range(PINGS):
        before_s = time.perf_counter()
        await ask()
        trips.append((time.perf_counter() - before_s) * 1000)
    return tuple(sorted(trips))


async def _scripts_problem(store: Store) -> str:
    try:
        await store.call("peek", DEFAULT_QUEUE, "", "0")
    except ResponseError as error:
        return str(error)
    return ""
