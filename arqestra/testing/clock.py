"""`Clock`: tests move the time, and do not wait for it.

The clock of this process goes ahead of the system's. It counts for all that arqestra does in this process: scripts are
told it, so due times, limits, schedules and workflows see it; keys in Redis expire by it. Waits that are measured in
seconds stay real: time limits of jobs, leases, `asyncio.sleep`. So does `datetime.now()` in a job.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from weakref import WeakSet

import redis
from redis.asyncio import SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.sentinel import Sentinel

from ..client.pool import Pool
from ..errors import SettingsError
from ..protocol import clock
from ..store.time_travel import ExpiredResult, move_time

__all__ = ("Clock", "Traveller", "current_clock", "travellers", "travelling")

_ADDRESS = ("host", "port", "db", "username", "password", "credential_provider", "socket_connect_timeout")
REPLY_LIMIT_S = 30.0


class Traveller:
    """Told when the time has moved: a worker that waits looks again.

    :param look: called in the thread that moves the time
    """

    def __init__(self, look: Callable[[], object]) -> None:
        self.look = look


travellers: WeakSet[Traveller] = WeakSet()


class Arrived:
    """What `travel` returns: it has happened already, and may be awaited as well."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


class Clock:
    """The time that arqestra sees in this process. Made by `travelling`, or by the fixture `arqestra_clock`.

    :param where: the Redis whose keys are to expire by this time: its URL, or a pool on it; None: no key does
    """

    def __init__(self, where: str | Pool | None = None) -> None:
        self._where = where
        self._client: redis.Redis | None = None

    def now(self) -> datetime:
        """The time that arqestra sees, in UTC."""
        return datetime.fromtimestamp(clock.timestamp_ms() / 1000, UTC)

    def travel(
        self,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        to: datetime | None = None,
    ) -> Arrived:
        """Go forward in time, at once. What becomes due is run by the workers that run, or by the next `drain`.

        :param to: a time with its zone, in place of a length
        :returns: something that may be awaited; there is nothing to wait for
        :raises SettingsError: backwards, or both a length and a time
        """
        length = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        if to is not None:
            if length or to.tzinfo is None:
                got = f"a length and to={to}" if length else f"to={to}, without a zone"
                raise SettingsError(f"travel: expected a length or a time with its zone, got {got}")
            length = to - self.now()
        if length < timedelta(0):
            raise SettingsError(f"travel: expected to go forward, got {length}")
        self.go_ahead(round(length.total_seconds() * 1000))
        return Arrived()

    def go_ahead(self, by_ms: int, *, keep_flows: bool = False) -> list[ExpiredResult]:
        """As `travel`, in ms.

        :param keep_flows: flows that have ended stay readable
        :returns: results that have expired by that
        """
        expired: list[ExpiredResult] = []
        if by_ms <= 0:
            return expired
        if self._where is not None:
            if self._client is None:
                self._client = _client_of(self._where)
            keys = None if isinstance(self._where, str) else self._where.store.keys
            expired = move_time(self._client, by_ms, keep_flows=keep_flows, keys=keys)
        clock.set_ahead(clock.ahead_ms() + by_ms)
        for traveller in list(travellers):
            traveller.look()
        return expired

    def close(self) -> None:
        """Close the connection; the time stays as it is."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _client_of(where: str | Pool) -> redis.Redis:
    """A client that blocks, so that `travel` needs no event loop."""
    if isinstance(where, str):
        return redis.Redis.from_url(where, socket_timeout=REPLY_LIMIT_S)
    pool = where.connection_pool
    kwargs = {name: pool.connection_kwargs[name] for name in _names_for_client(pool.connection_kwargs)}
    kwargs |= {"socket_timeout": REPLY_LIMIT_S, "ssl": issubclass(pool.connection_class, SSLConnection)}
    if isinstance(pool, SentinelConnectionPool):
        known = pool.sentinel_manager
        asked = [each.connection_pool.connection_kwargs for each in known.sentinels]
        manager = Sentinel([(each["host"], each["port"]) for each in asked], sentinel_kwargs=known.sentinel_kwargs)
        client: redis.Redis = manager.master_for(pool.service_name, **kwargs)
        return client
    return redis.Redis(**kwargs, unix_socket_path=pool.connection_kwargs.get("path"))


def _names_for_client(kwargs: Iterable[str]) -> list[str]:
    """What of an asynchronous connection's arguments one that blocks takes as well."""
    return [name for name in kwargs if name in _ADDRESS or name.startswith("ssl_")]


_current: list[Clock] = []


def current_clock() -> Clock | None:
    """The clock that tests travel with at present."""
    return _current[-1] if _current else None


@contextmanager
def travelling(where: str | Pool | None = None) -> Iterator[Clock]:
    """A clock to travel with; the system's counts again at the end.

    :param where: as of `Clock`
    """
    before, own = clock.ahead_ms(), Clock(where)
    _current.append(own)
    try:
        yield own
    finally:
        _current.remove(own)
        clock.set_ahead(before)
        own.close()
