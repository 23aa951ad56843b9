"""What `arqestra doctor` asks the server."""

import time
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from .health import clock_offset_ms
from .store import Store

__all__ = ("ServerFacts", "read_server")

PINGS = 20


class ServerFacts(NamedTuple):
    """The server as it says of itself.

    :ivar name: "Redis" or "Valkey"
    :ivar version: as it reports; that of the Redis it is compatible with
    :ivar eviction: `maxmemory-policy`; "" if it does not tell
    :ivar maxmemory_bytes: 0 for no limit
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
    maxmemory_bytes: int
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
    info: dict[str, Any] = await redis.info()
    config = await _config(store)
    pings: list[float] = []
    for _ in range(PINGS):
        before_s = time.perf_counter()
        await redis.ping()
        pings.append((time.perf_counter() - before_s) * 1000)
    aof = bool(info["aof_enabled"]) if "aof_enabled" in info else None
    failed = "err" in (info.get("rdb_last_bgsave_status"), info.get("aof_last_write_status"))
    return ServerFacts(
        name="Valkey" if "valkey_version" in info else "Redis",
        version=str(info.get("redis_version", "")),
        cluster=bool(info.get("cluster_enabled", 0)),
        replica=info.get("role", "master") != "master",
        eviction=str(info.get("maxmemory_policy") or config.get("maxmemory-policy") or ""),
        used_memory_bytes=int(info.get("used_memory", 0)),
        maxmemory_bytes=int(info.get("maxmemory", 0)),
        append_only=aof,
        snapshots=bool(config["save"]) if "save" in config else None,
        write_failed=failed,
        clock_offset_ms=await clock_offset_ms(redis),
        ping_ms=tuple(sorted(pings)),
        scripts=await _scripts_problem(store),
    )


async def _config(store: Store) -> dict[str, str]:
    """Settings; hosted servers refuse to tell them."""
    try:
        found = [await store.redis.config_get(name) for name in ("save", "maxmemory-policy")]
    except ResponseError:
        return {}
    return {name: value for each in found for name, value in each.items()}


async def _scripts_problem(store: Store) -> str:
    try:
        await store.call("peek", store.keys.aborts, "", "0")
    except ResponseError as error:
        return str(error)
    return ""
