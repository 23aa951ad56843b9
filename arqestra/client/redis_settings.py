"""`RedisSettings`: arq's, with what it has no fields for."""

from dataclasses import dataclass, fields
from typing import Any

from arq.connections import RedisSettings as ArqRedisSettings

__all__ = ("RedisSettings",)

_SECRET = ("password", "sentinel_password", "ssl_ca_data")


@dataclass
class RedisSettings(ArqRedisSettings):
    """Where Redis is, and how to connect: all fields of arq's class, and those of its Sentinels.

    `conn_timeout` (seconds) limits the connect, TLS and the handshake together.

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
        for name in _SECRET:
            if shown[name] is not None:
                shown[name] = "***"
        if isinstance(self.host, str) and "://" in self.host:
            shown["host"] = "***"  # a URL by mistake, which may have a password
        for name in ("sentinel_username", "sentinel_password", "sentinel_ssl"):
            if not shown[name]:
                del shown[name]
        return f"RedisSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
