"""`Clock`: tests move the time, and do not wait for it.

The clock of this process goes ahead of the system's. It counts for all that arqestra does in this process: scripts are
told it, so due times, limits, schedules and workflows see it; keys in Redis expire by it. Waits that are measured in
seconds stay real: time limits of jobs, leases, `asyncio.sleep`. So does `datetime.now()` in a job.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast
from weakref import WeakSet

import redis
from redis.asyncio import SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.sentinel import Sentinel

from ..client.pool import Pool
from ..definitions.durations import LONGEST_S
from ..definitions.redact import shown_value
from ..errors import SettingsError
from ..protocol import clock
from ..protocol.keys import Keys
from ..store.time_travel import ExpiredResult, move_time

__all__ = ("Clock", "Place", "Traveller", "check_pool", "clock_of_drain", "travellers", "travelling")

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


class Place(NamedTuple):
    """Keys that expire by the time of a clock.

    :ivar server: its run id
    :ivar keys: of one application; None for those of all
    """

    server: str
    database: int
    keys: Keys | None


class Clock:
    """The time that arqestra sees in this process. Made by `travelling`, or by the fixture `arqestra_clock`.

    :param where: the Redis whose keys are to expire by this time: its URL, or a pool on it; None: no key does
    """

    def __init__(self, where: str | Pool | None = None) -> None:
        self._where = where
        self._places: dict[Place, redis.Redis] = {}

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
        :raises SettingsError: backwards, beyond a century, or both a length and a time
        """
        try:
            length = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        except (TypeError, ValueError, OverflowError) as error:
            raise SettingsError(f"travel: expected numbers, a century at most, got what is none: {error}") from None
        if to is not None:
            if length or not isinstance(to, datetime) or to.tzinfo is None:
                got = f"a length and to={to}" if length else f"to={shown_value(to)}"
                raise SettingsError(f"travel: expected a length or a time with its zone, got {got}")
            length = to - self.now()
        if not timedelta(0) <= length <= timedelta(seconds=LONGEST_S):
            raise SettingsError(f"travel: expected to go forward, a century at most, got {length}")
        self.go_ahead(round(length.total_seconds() * 1000))
        return Arrived()

    def include(self, where: str | Pool) -> Place:
        """Let the keys of this Redis expire by this time, too.

        :returns: the place whose keys do
        """
        self._include_own()  # the keys of all applications go before those of one
        return self._include(where)

    def _include_own(self) -> None:
        if self._where is not None:
            self._include(self._where)
            self._where = None

    def _include(self, where: str | Pool) -> Place:
        if not isinstance(where, str):
            check_pool("travelling", where)
        client = _client_of(where)
        server = cast(dict[str, str], client.info("server"))["run_id"]
        database = client.connection_pool.connection_kwargs.get("db") or 0
        place = Place(server, database, None if isinstance(where, str) else where.store.keys)
        known = [each for each in self._places if each in (place, place._replace(keys=None))]
        if known:
            client.close()
            return known[0]
        self._places[place] = client
        return place

    def go_ahead(self, by_ms: int, *, place: Place | None = None, keep_flows: bool = False) -> list[ExpiredResult]:
        """As `travel`, in ms.

        :param place: of which the results that expire are returned
        :param keep_flows: flows that have ended stay readable
        :returns: results that have expired by that
        """
        expired: list[ExpiredResult] = []
        if by_ms <= 0:
            return expired
        self._include_own()
        for each, client in self._places.items():
            found = move_time(client, by_ms, keep_flows=keep_flows, keys=each.keys)
            expired += found if each == place else []
        clock.set_ahead(clock.ahead_ms() + by_ms)
        for traveller in list(travellers):
            traveller.look()
        return expired

    def close(self) -> None:
        """Close the connections; the time stays as it is."""
        for client in self._places.values():
            client.close()
        self._places.clear()


def check_pool(what: str, pool: Any) -> None:
    """Refuse what is no pool, before anything connects to somewhere else.

    :param what: who was given it, for the message
    :raises SettingsError: it is none
    """
    if not isinstance(pool, Pool):
        raise SettingsError(f"{what}: expected a pool (`await create_pool(...)`), got {shown_value(pool)}")


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


class _Drains:
    """The clock of drains in tests that have none: the time goes back when the last one that runs has ended."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._clock: Clock | None = None
        self._running = 0

    @contextmanager
    def clock(self) -> Iterator[Clock]:
        """The clock, for one drain."""
        if self._clock is None:
            self._clock = self._stack.enter_context(travelling())
        self._running += 1
        try:
            yield self._clock
        finally:
            self._running -= 1
            if self._running == 0:
                self._clock = None
                self._stack.close()

    def is_from(self, clock: Clock) -> bool:
        """Whether it is that one."""
        return clock is self._clock


_drains = _Drains()


@contextmanager
def clock_of_drain() -> Iterator[tuple[Clock, bool]]:
    """The clock by which a drain goes, and whether the time goes back at its end: the test's, or one for drains."""
    if _current and not _drains.is_from(_current[-1]):
        yield _current[-1], False
    else:
        with _drains.clock() as clock:
            yield clock, True


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
