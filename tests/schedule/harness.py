"""The actors of the schedule store's tests: processes that define schedules, and schedulers that stop between look and
fire; all on a clock set by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from redis.asyncio import Redis

from arqestra import every, schedule
from arqestra.protocol.serializers import Serializer, serializer_of
from arqestra.scheduling.definition import Schedule
from arqestra.scheduling.encode import payload_of_tick, record_of, schedule_of
from arqestra.scheduling.plan import plan, steps_of
from arqestra.scheduling.scheduler import Scheduler
from arqestra.store.schedule_records import NewFiring, NotedRun, ScheduleRecord, StoredSchedule
from arqestra.store.schedules import ScheduleStore
from arqestra.store.store import Store
from arqestra.worker.schedule_runner import WorkersClient
from tests.support.store_harness import KEYS, ManualClock, StoreWorker

__all__ = ("DAY_MS", "HOUR_MS", "KEYS", "MINUTE_MS", "QUEUE", "Process", "ScheduleHarness", "minutely")

QUEUE = "arq:queue"
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


@dataclass
class ScheduleHarness:
    """A Redis with nothing in it, the schedules of one queue, and the time: a full minute to begin with."""

    redis: Redis
    queue: str = QUEUE
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.clock.now_ms -= self.clock.now_ms % HOUR_MS
        self.jobs = Store(self.redis, clock=self.clock)
        self.store = ScheduleStore(self.jobs, self.queue)
        self.client = self.client_with("pickle")

    def client_with(self, serializer: str | Serializer, *middleware: Any) -> WorkersClient:
        return WorkersClient(self.jobs, serializer_of(serializer), self.queue, 10**6, DAY_MS, middleware)

    def scheduler(self, *schedules: object, age_s: float = 0.0, serializer: str = "pickle") -> Scheduler:
        """A real one, for its single steps."""
        return Scheduler(self.client_with(serializer), schedules, age_s=age_s)

    def process(self, *schedules: Schedule, born_ms: int | None = None) -> Process:
        """A process that starts now, or was started at that time."""
        return Process(self, schedules, self.clock() if born_ms is None else born_ms)

    def worker(self, name: str = "w1") -> StoreWorker:
        return StoreWorker(self.jobs, name, self.queue)

    # -- at run time ----------------------------------------------------------------------------------------------

    def record(self, schedule: Schedule) -> ScheduleRecord:
        return record_of(schedule.in_zone(UTC), self.queue, self.client)

    async def upsert(self, schedule: Schedule) -> str:
        what, _ = await self.store.put(self.record(schedule), started_ms=None)
        return what

    # -- a scheduler, step by step --------------------------------------------------------------------------------

    async def look(self, ahead_ms: int = 0) -> list[NewFiring]:
        """What a scheduler would fire: it has looked, read and planned, and not fired yet."""
        looked = await self.store.fetch_due(ahead_ms, 1000)
        if looked.went_back:
            await self.store.rewind()
            looked = await self.store.fetch_due(ahead_ms, 1000)
        due = looked.due
        stored = await self.store.read([each.name for each in due])
        firings = []
        for each in due:
            schedule = schedule_of(stored[each.name], self.client.serializer)
            decision = plan(schedule, each.mark, max(self.clock(), each.due_ms))
            for step in steps_of(schedule, decision, each):
                firings.append(self._with_job(step, schedule, stored[each.name]) if step.job_id else step)
        return firings

    def _with_job(self, step: NewFiring, schedule: Schedule, stored: StoredSchedule) -> NewFiring:
        payload = payload_of_tick(schedule, step.tick, self.clock(), self.client)
        when = f"+{schedule.defer_ms}" if schedule.defer_ms else ""
        return step._replace(queue=self.queue, when=when, payload=payload, extra=stored.extra)

    async def fire(self, firings: Sequence[NewFiring]) -> list[str]:
        """Fire what was looked at; the verdicts."""
        return [str(verdict) for verdict in await self.store.fire(firings)] if firings else []

    async def turn(self) -> list[str]:
        """Look and fire; a schedule that is new is planned first, so that is two looks."""
        return await self.fire(await self.look()) + await self.fire(await self.look())

    async def fired(self, ms: int = 0) -> int:
        """How many jobs are fired when the clock goes on by so much."""
        self.clock.advance(ms)
        return (await self.turn()).count("fired")

    async def run_by_hand(self, name: str, job_id: str) -> str:
        stored = (await self.store.read([name]))[name]
        schedule = schedule_of(stored, self.client.serializer)
        step = NewFiring(name, None, stored.rev, 0, 0, None, "n", "", self.clock(), job_id=job_id)
        return (await self.fire([self._with_job(step, schedule, stored)]))[0]

    # -- what is in Redis -----------------------------------------------------------------------------------------

    async def stored(self, name: str = "report") -> StoredSchedule | None:
        return (await self.store.read([name])).get(name)

    async def function(self, name: str = "report") -> str | None:
        """Of the definition that holds; None if there is none."""
        stored = await self.stored(name)
        return None if stored is None else schedule_of(stored, self.client.serializer).function

    async def queued(self) -> list[str]:
        return [job_id.decode() for job_id in await self.redis.zrange(self.queue, 0, -1)]

    async def runs(self, name: str = "report") -> list[NotedRun]:
        return await self.store.runs(name)

    async def outcomes(self, name: str = "report") -> list[str]:
        """Of the runs, the latest first."""
        return [run.outcome for run in await self.runs(name)]

    async def finish_jobs(self, kind: Any = "end") -> int:
        """A worker runs what is queued."""
        worker = self.worker()
        jobs = (await worker.claim(100)).jobs
        assert await worker.finish_all(jobs, kind, ttl_ms=-1)
        return len(jobs)

    async def keys(self) -> set[str]:
        return {key.decode() for key in await self.redis.keys("*")}


@dataclass
class Process:
    """What a process says of the schedules in its code: that it defines them, and what they are."""

    harness: ScheduleHarness
    schedules: Sequence[Schedule]
    born_ms: int
    told_ms: int | None = None

    async def keep(self) -> list[str]:
        """Say so; what came of those that were wanted."""
        age_ms = self.harness.clock() - self.born_ms
        records = {each.name: self.harness.record(each) for each in self.schedules}
        digests = [(record.name, record.digest) for record in records.values()]
        kept = await self.harness.store.keep(age_ms, digests, started_ms=self.told_ms)
        self.told_ms = kept.started_ms
        return [(await self.harness.store.put(records[name], started_ms=kept.started_ms))[0] for name in kept.wanted]


def minutely(function: Any = "report", **options: Any) -> Schedule:
    """Every minute; the function is the version of the definition."""
    return schedule(every(60), function, **{"name": "report", **options})
