"""Adding to the statistics: counts are folded in memory, and written once a second in one call.

A process that is killed loses what it had not yet written, at most a second of counts. Jobs never depend on them. A
call whose reply was lost is sent again under its number, and adds nothing the second time; one that may have arrived
longer ago than Redis remembers numbers is not sent again.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple

from ..protocol.attempt_errors import storable
from ..protocol.clock import new_worker_id, timestamp_ms
from ..protocol.constants import WRITER_TTL_S
from ..protocol.keys import Keys

__all__ = ("StatisticsWriter", "field_of", "sum_of")

logger = logging.getLogger("arq.connections")

MINUTES_TTL_S = 25 * 3600
HOURS_TTL_S = TOTALS_TTL_S = 30 * 86_400
EVERY_S = 1.0
CERTAIN_S = WRITER_TTL_S - 60.0  # `record.lua` remembers the number of a call for WRITER_TTL_S
FIELDS_PER_CALL = 1_000  # a script must not keep others waiting
MAX_FIELDS = 20_000  # that a process keeps for its metrics
CLOSE_WAIT_S = 2.0
NAME_CHARACTERS = 200  # of a function
MAX_UNSENT = 60  # minutes of counts, while Redis cannot be reached
Call = Callable[..., Awaitable[Any]]


def field_of(queue: str, function: str, figure: str) -> str:
    """The name under which a figure is counted."""
    return f"{_head(queue, function)}|{figure}"


@lru_cache(4096)
def _head(queue: str, function: str) -> str:
    """Anybody may enqueue anything as a function: what is counted has a name that fits, and that can be stored."""
    name = storable(function[:NAME_CHARACTERS]).replace("|", "¦")
    return f"{queue}|{name}"


def sum_of(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """The counts of both, field by field."""
    return {field: one.get(field, 0) + other.get(field, 0) for field in one | other}


class _Batch(NamedTuple):
    """Counts of one minute, as they are sent.

    :ivar sent_s: when it was sent first, and may have arrived; None if it was not
    """

    number: int
    minute: int
    sums: dict[str, int]
    maxima: dict[str, int]
    sent_s: float | None = None


class StatisticsWriter:
    """Adds to the statistics, each batch once.

    :param call: runs a script by its name: `Store.call`
    :param keys: the namespace
    :param monotonic: seconds
    """

    def __init__(self, call: Call, keys: Keys, monotonic: Callable[[], float] = monotonic) -> None:
        self._call = call
        self._monotonic = monotonic
        self._keys = keys
        self._pid = os.getpid()
        self._writer = new_worker_id()
        self._number = 0
        self._unsent: list[_Batch] = []
        self._sending = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def write(self, sums: dict[str, int], maxima: dict[str, int]) -> None:
        """Add to the statistics of this minute, its hour and the totals.

        :param sums: field -> what is added to it
        :param maxima: field -> its least value from now on
        :raises redis.exceptions.RedisError: Redis does not answer; the counts are kept, and sent with the next call
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # one that was closed may have left the lock as it was
            self._loop, self._sending = loop, asyncio.Lock()
            self._look_for_fork()
        if sums:
            self._add(timestamp_ms() // 60_000, sums, maxima)
        async with self._sending:
            while self._unsent:
                batch = self._first()
                if batch is not None:
                    await self._send(batch)
                    self._forget(batch)

    def _look_for_fork(self) -> None:
        """A child of the process that made this is another writer, and what was unsent is its parent's to send."""
        if self._pid != os.getpid():
            self._pid, self._writer, self._unsent = os.getpid(), new_worker_id(), []

    def _first(self) -> _Batch | None:
        """What is to be sent next; None if that would maybe count twice."""
        batch, now_s = self._unsent[0], self._monotonic()
        if batch.sent_s is not None:
            if now_s - batch.sent_s < CERTAIN_S:
                return batch
            logger.warning("counts that may have been written are not written again: %d", batch.number)
            self._forget(batch)
            return None
        if len(batch.sums) + len(batch.maxima) > FIELDS_PER_CALL:
            self._number += 1
            batch, rest = _split(batch, self._number)
            self._unsent.insert(1, rest)
        self._unsent[0] = batch = batch._replace(sent_s=now_s)
        return batch

    def _forget(self, batch: _Batch) -> None:
        """It was sent. There may be another one in its place: the oldest of too many are dropped."""
        if self._unsent and self._unsent[0].number == batch.number:
            del self._unsent[0]

    def _add(self, minute: int, sums: dict[str, int], maxima: dict[str, int]) -> None:
        """Keep counts to be sent: with those of the same minute, unless these were sent and may have arrived."""
        if self._unsent and self._unsent[-1].minute == minute and self._unsent[-1].sent_s is None:
            before = self._unsent.pop()
            sums = sum_of(before.sums, sums)
            maxima = {field: max(before.maxima.get(field, 0), maxima.get(field, 0)) for field in before.maxima | maxima}
        self._number += 1
        self._unsent.append(_Batch(self._number, minute, sums, maxima))
        del self._unsent[:-MAX_UNSENT]

    async def _send(self, batch: _Batch) -> None:
        minute, keys = batch.minute, self._keys
        queues = {field.rsplit("|", 2)[0] for field in batch.sums}
        flat: list[str | int] = [len(queues), *queues]
        for field, number in batch.sums.items():
            flat += (field, number, "+")
        for field, number in batch.maxima.items():
            flat += (field, number, ">")
        times = (MINUTES_TTL_S, keys.hourly_statistics(minute // 60), HOURS_TTL_S, keys.totals, TOTALS_TTL_S)
        await self._call("record", keys.statistics(minute), *times, self._writer, batch.number, *flat)


def _split(batch: _Batch, number: int) -> tuple[_Batch, _Batch]:
    """As many fields as fit into a call, and the rest under a number of its own."""
    here = set([*batch.sums, *batch.maxima][:FIELDS_PER_CALL])
    sums, maxima = batch.sums, batch.maxima
    return batch._replace(
        sums={field: sums[field] for field in sums if field in here},
        maxima={field: maxima[field] for field in maxima if field in here},
    ), batch._replace(
        number=number,
        sums={field: sums[field] for field in sums if field not in here},
        maxima={field: maxima[field] for field in maxima if field not in here},
    )
