"""The schedules that a process has in its code. It tells Redis so as long as it lives.

Processes may define one schedule differently, and somebody may change it at run time. Who wins then: "Schedules" in
docs/protocols.md.
"""

import asyncio
import logging
import time
from collections.abc import Iterable

from ..errors import SettingsError
from ..protocol.clock import ahead_ms
from ..protocol.constants import TAKE_OVER_MS
from ..store.schedule_records import ScheduleRecord
from ..store.schedules import ScheduleStore
from ..store.services import read_services
from ..store.store import Store
from .definition import Schedule
from .encode import Encoder, record_of

__all__ = ("CodeSchedules",)

logger = logging.getLogger("arq.scheduler")

KEEP_S = 15.0
SWEEP_S = 600.0  # also without schedules in code: the call forgets what is long over
MAX_PAUSE_S = TAKE_OVER_MS / 1000 - KEEP_S  # after that others may have taken over, and everything is compared
PUTS_AT_ONCE = 100


class CodeSchedules:
    """What the code of this process defines.

    :param store: of the Redis that is told
    :param encoder: how jobs are written
    :param schedules: with their queues and zones
    :param age_s: seconds since this code was started; a supervisor's age for its processes
    :raises SettingsError: two have one name
    """

    def __init__(self, store: Store, encoder: Encoder, schedules: Iterable[tuple[str, Schedule]], age_s: float) -> None:
        self._store = store
        self._born_s = time.monotonic() - max(0.0, age_s)
        self._started_ms: int | None = None  # on Redis' clock
        self._rev = ""
        self._kept_s: float | None = None
        self._kept_ahead_ms = 0
        self._keeping = asyncio.Lock()
        self._warned: set[str] = set()
        self._has_checked_workers = False
        self.schedules: dict[str, Schedule] = {}
        self.records: dict[str, ScheduleRecord] = {}
        self._homes: dict[str, str] = {}
        for queue, schedule in schedules:
            if schedule.name in self.schedules:
                raise SettingsError(f"schedules: expected each name once, got {schedule.name!r} twice")
            self.schedules[schedule.name] = schedule
            self.records[schedule.name] = record_of(schedule, queue, encoder)
            self._homes[schedule.name] = queue

    async def keep(self, *, now: bool = False) -> None:
        """Tell Redis that this process still defines its schedules, if 15 s have passed.

        :param now: do it at once, and compare every definition
        :raises redis.exceptions.RedisError: Redis does not answer
        """
        async with self._keeping:
            since_s = None if self._kept_s is None else time.monotonic() - self._kept_s
            now = now or self._kept_ahead_ms != ahead_ms()  # a test has moved the time
            if not now and since_s is not None and since_s < self._every_s:
                return
            compare = now or since_s is None or since_s > MAX_PAUSE_S
            await self._keep("" if compare else self._rev)
            if self._kept_s is not None and not self._has_checked_workers and not ahead_ms():
                await self._warn_of_missing_workers()  # by the second time, workers that started together are known
            self._kept_s, self._kept_ahead_ms = time.monotonic(), ahead_ms()

    @property
    def _every_s(self) -> float:
        return KEEP_S if self.records else SWEEP_S

    @property
    def next_in_s(self) -> float:
        """Seconds until `keep` has something to do."""
        if self._kept_s is None:
            return 0.0
        return max(0.0, self._kept_s + self._every_s - time.monotonic())

    async def _keep(self, rev: str) -> None:
        age_ms = round((time.monotonic() - self._born_s) * 1000)
        digests = [(record.name, record.digest) for record in self.records.values()]
        store = ScheduleStore(self._store, next(iter(self._homes.values()), ""))
        kept = await store.keep(age_ms, digests, started_ms=self._started_ms, rev=rev)
        self._started_ms = kept.started_ms
        wanted = kept.wanted
        for first in range(0, len(wanted), PUTS_AT_ONCE):
            await asyncio.gather(*(self._put(name) for name in wanted[first : first + PUTS_AT_ONCE]))
        self._warn({name for name, verdict in kept.verdicts.items() if verdict == "-"})
        # Only where all is as this code has it may the next call leave out the comparison.
        self._rev = kept.rev if all(verdict == "=" for verdict in kept.verdicts.values()) else ""

    async def _warn_of_missing_workers(self) -> None:
        """Log once which schedules enqueue jobs that no worker takes."""
        self._has_checked_workers = True
        homes = list(dict.fromkeys(self._homes.values()))
        for home, service in (await read_services(self._store, homes)).items():
            if not service.has_worker:
                names = ", ".join(name for name, queue in self._homes.items() if queue == home)
                logger.warning("no worker serves queue %s: the jobs of the schedules %s will wait there", home, names)

    async def _put(self, name: str) -> None:
        store = ScheduleStore(self._store, self._homes[name])
        what, before = await store.put(self.records[name], started_ms=self._started_ms)
        schedule = self.schedules[name]
        if what == "new":
            logger.info("schedule %s", schedule)
        elif what == "changed" and before == "api":
            logger.warning("schedule %s was changed at run time; the code's definition takes its place", schedule)
        elif what == "changed":
            logger.info("schedule %s has changed", schedule)

    def _warn(self, names: set[str]) -> None:
        """Log once for each schedule that another process' definition is fired."""
        for name in sorted(names - self._warned):
            logger.warning(
                "schedule %s is defined differently by a process that was started later; that definition is fired", name
            )
        self._warned = names
