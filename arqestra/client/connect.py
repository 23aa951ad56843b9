"""`create_pool`, and `RedisSettings`: where Redis is, and how to connect."""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from arq.connections import RedisSettings as ArqRedisSettings
from arq.constants import default_queue_name as arq_queue_name
from arq.constants import expires_extra_ms as arq_expires_extra_ms
from arq.jobs import Deserializer
from arq.jobs import Serializer as ArqSerializer
from redis.asyncio import ConnectionPool
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..definitions.middleware import Middleware
from ..errors import SettingsError
from ..protocol.serializers import Serializer
from ..store.replies import ServerIsCluster
from ..store.server import greet
from ..store.time_limits import CONNECT_LIMIT_S
from .pool import MAX_PAYLOAD_BYTES, Pool
from .pool import Pool as ArqRedis
from .pool_options import check_pool_options

__all__ = ("RedisSettings", "create_pool", "settings_of", "sibling")

logger = logging.getLogger("arq.connections")

_SECRET_FIELDS = ("password", "sentinel_password", "ssl_ca_data")


@dataclass
class RedisSettings(ArqRedisSettings):
    """Where Redis is, and how to connect: all fields of arq's class, and fields for its Sentinels.

    :param host: name or address; of Sentinels a list of (host, port)
    :param port: of the server
    :param unix_socket_path: path of a socket, in place of host and port
    :param database: number of the database
    :param username: user, where the server has an access control list
    :param password: of the user
    :param ssl: whether to use TLS
    :param ssl_keyfile: path of the client's key
    :param ssl_certfile: path of the client's certificate
    :param ssl_cert_reqs: "required", "optional" or "none": whether the server needs a valid certificate
    :param ssl_ca_certs: path of the certificates to trust
    :param ssl_ca_data: certificates to trust, as PEM text
    :param ssl_check_hostname: whether the server's certificate has to be of its host
    :param conn_timeout: seconds that connect, TLS and handshake may take together
    :param conn_retries: further tries to connect, after the first
    :param conn_retry_delay: seconds between two tries
    :param max_connections: connections that a pool opens at most; None for no limit
    :param sentinel: whether `host` lists Sentinels
    :param sentinel_master: name of the primary at the Sentinels
    :param retry_on_timeout: redis-py's option: try a command again that timed out
    :param retry_on_error: redis-py's option: exceptions after which a command is tried again
    :param retry: redis-py's option: a `redis.asyncio.retry.Retry`, how often and when
    :param sentinel_username: user at the Sentinels; they have users of their own
    :param sentinel_password: password at the Sentinels
    :param sentinel_ssl: TLS to the Sentinels, by the `ssl_` fields; `ssl` is that to Redis
    """

    sentinel_username: str | None = None
    sentinel_password: str | None = None
    sentinel_ssl: bool = False

    @classmethod
    def from_dsn(cls, dsn: str) -> "RedisSettings":
        """The settings of a URL `redis://`, `rediss://` or `unix://`.

        :raises RuntimeError: another scheme
        """
        return cls(**vars(ArqRedisSettings.from_dsn(dsn)))

    def __repr__(self) -> str:
        shown: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in _SECRET_FIELDS:
            if shown[name] is not None:
                shown[name] = "***"
        if isinstance(self.host, str) and "://" in self.host:
            shown["host"] = "***"  # a URL by mistake, which may have a password
        for name in ("sentinel_username", "sentinel_password", "sentinel_ssl"):
            if not shown[name]:
                del shown[name]
        return f"RedisSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def settings_of(settings: ArqRedisSettings | str | None, what: str = "Redis") -> ArqRedisSettings:
    """arq's settings of a URL.

    :param settings: `RedisSettings`, a URL `redis://`, `rediss://` or `unix://`, or None for localhost
    :param what: who was given them, for the message
    :raises SettingsError: something else
    """
    if settings is None:
        return RedisSettings()
    if isinstance(settings, ArqRedisSettings):
        if isinstance(settings.host, str) and "://" in settings.host:  # redis-py would show it, with its password
            raise SettingsError(
                f"{what}: host: expected the name of a host, got a URL; give the URL in the place of the "
                "settings, or make them by RedisSettings.from_dsn(url)"
            )
        return settings
    if isinstance(settings, str):
        try:
            return RedisSettings.from_dsn(settings)
        except (RuntimeError, ValueError):
            scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", settings)  # all else may be a password
            got = "text without a scheme" if scheme is None else f"one of scheme {scheme[1]!r}"
            if scheme is not None and scheme[1].lower() in ("redis", "rediss", "unix"):
                got += " whose port or database is no number"
            raise SettingsError(f"{what}: expected a URL redis://, rediss:// or unix://, got {got}") from None
    raise SettingsError(f"{what}: expected RedisSettings or a URL, got {type(settings).__name__}")


async def create_pool(
    settings_: ArqRedisSettings | str | None = None,
    *,
    retry: int = 0,
    job_serializer: ArqSerializer | None = None,
    job_deserializer: Deserializer | None = None,
    default_queue_name: str = arq_queue_name,
    expires_extra_ms: int = arq_expires_extra_ms,
    serializer: str | Serializer | None = None,
    max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    middleware: Sequence[Middleware] = (),
    key_prefix: str | None = None,
) -> Pool:
    """Connect to Redis, trying again `conn_retries` times, `conn_retry_delay` seconds apart.

    Each try may take `conn_timeout` seconds for connect, TLS and handshake, and as long for the first reply.

    :param settings_: `RedisSettings` (also for Sentinel) or a URL `redis://`, `rediss://` or `unix://`
    :param retry: tries that count as made already
    :param job_serializer: arq's argument
    :param job_deserializer: arq's argument
    :param default_queue_name: queue where none is given
    :param expires_extra_ms: ms after it is due that a job without `_expires` may still start
    :param serializer: `"pickle"` (default), `"msgpack"` or `"json"`
    :param max_payload_bytes: size limit of one job's encoded arguments
    :param middleware: what surrounds each enqueue, the outermost first
    :param key_prefix: name of this application on a Redis that others use too, "app1": all keys and channels begin with
        `app1:`. Workers, schedulers and whoever reads need the same; stock arq knows no prefix. Default arq's own keys
    :raises SettingsError: settings that are none, or those of a Redis Cluster
    :raises redis.exceptions.ConnectionError, redis.exceptions.TimeoutError: no Redis answers
    """
    check_pool_options(
        "create_pool",
        {
            **{"retry": retry, "job_serializer": job_serializer, "job_deserializer": job_deserializer},
            **{"default_queue_name": default_queue_name, "expires_extra_ms": expires_extra_ms},
            **{"serializer": serializer, "max_payload_bytes": max_payload_bytes, "middleware": middleware},
            "key_prefix": key_prefix,
        },
    )
    settings = settings_of(settings_)
    if settings.sentinel and isinstance(settings.host, str):
        raise RuntimeError("str provided for 'host' but 'sentinel' is true; list of sentinels expected")
    while True:
        pool = _client(settings)
        pool.job_serializer, pool.job_deserializer = job_serializer, job_deserializer
        pool.default_queue_name, pool.expires_extra_ms = default_queue_name, expires_extra_ms
        pool.use_key_prefix(key_prefix)
        pool.use_serializer(serializer)
        pool.max_payload_bytes = max_payload_bytes
        pool.middleware = tuple(middleware)
        try:
            pool.clock_offset_ms = await _greet(pool, settings)
        except (ConnectionError, OSError, RedisError, TimeoutError) as error:
            await pool.aclose(close_connection_pool=True)
            if isinstance(error, ServerIsCluster):
                raise SettingsError(str(error)) from None
            if retry >= settings.conn_retries:
                raise
            retry += 1
            logger.warning(
                "redis connection error %s:%s %s, %s retries remaining...",
                settings.host,
                settings.port,
                f"{type(error).__name__} {error}",
                settings.conn_retries - retry + 1,
            )
            await asyncio.sleep(settings.conn_retry_delay)
        else:
            if retry > 0:
                logger.info("redis connection successful")
            return pool


async def _greet(pool: Pool, settings: ArqRedisSettings) -> int:
    """Connect, and read Redis' clock. Each of the two has `conn_timeout`, and so has each Sentinel."""
    sentinels = len(settings.host) if settings.sentinel else 0
    limit_s = (settings.conn_timeout or CONNECT_LIMIT_S) * (2 + 2 * sentinels)
    try:
        async with asyncio.timeout(limit_s):
            return await greet(pool)
    except TimeoutError:
        raise RedisTimeoutError(f"expected Redis to answer within {limit_s:g} s (by conn_timeout)") from None


def _client(settings: ArqRedisSettings) -> Pool:
    """Make a client that is not connected yet."""
    tls: dict[str, Any] = {
        "ssl": True,
        "ssl_keyfile": settings.ssl_keyfile,
        "ssl_certfile": settings.ssl_certfile,
        "ssl_cert_reqs": settings.ssl_cert_reqs,
        "ssl_ca_certs": settings.ssl_ca_certs,
        "ssl_ca_data": settings.ssl_ca_data,
        "ssl_check_hostname": settings.ssl_check_hostname,
    }
    options: dict[str, Any] = {
        "db": settings.database,
        "username": settings.username,
        "password": settings.password,
        "encoding": "utf8",
        "socket_connect_timeout": settings.conn_timeout,
        "retry": settings.retry,
        "retry_on_timeout": settings.retry_on_timeout,
        "retry_on_error": settings.retry_on_error,
        "max_connections": settings.max_connections,
        **(tls if settings.ssl else {}),
    }
    if settings.sentinel:
        options.pop("max_connections")
        # If one Sentinel does not answer, the next has to be asked.
        asking: dict[str, Any] = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), settings.conn_timeout)
        if isinstance(settings, RedisSettings):
            asking |= {"username": settings.sentinel_username, "password": settings.sentinel_password}
            asking |= tls if settings.sentinel_ssl else {}
        sentinel = Sentinel(settings.host, sentinel_kwargs=asking, **options)
        client: Pool = sentinel.master_for(settings.sentinel_master, redis_class=ArqRedis)
        return client
    return ArqRedis(host=settings.host, port=settings.port, unix_socket_path=settings.unix_socket_path, **options)


def sibling(pool: ConnectionPool) -> ConnectionPool:
    """Make another connection pool to the same Redis, for use in another event loop."""
    kwargs = dict(pool.connection_kwargs)
    if not isinstance(pool, SentinelConnectionPool):
        return ConnectionPool(connection_class=pool.connection_class, **kwargs)
    kwargs.pop("connection_pool", None)
    known = pool.sentinel_manager
    addresses = [
        (client.connection_pool.connection_kwargs["host"], client.connection_pool.connection_kwargs["port"])
        for client in known.sentinels
    ]
    manager = Sentinel(addresses, known.min_other_sentinels, dict(known.sentinel_kwargs))
    return SentinelConnectionPool(
        pool.service_name,
        manager,
        connection_class=pool.connection_class,
        is_master=pool.is_master,
        check_connection=pool.check_connection,
        **kwargs,
    )
