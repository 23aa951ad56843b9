"""The scheduler of one queue.

Any number of schedulers may run, and none of them leads. Each looks at what is due soon (an index in Redis, ordered by
the next tick), prepares the jobs of those ticks, waits for the moment, and fires: one script call compares what the
scheduler had read with what is there, stores the jobs, and moves the schedules on. Whoever comes second finds them
moved. So a tick is fired once, whoever dies when, and nothing waits for a leader to be elected. The script judges by
Redis' clock; a scheduler's own clock is never looked at, only how long it has waited.

What there is to do costs by the ticks that are due, not by the schedules that are defined. Between looks the scheduler
sleeps until the next tick, but no longer than `MOST_SLEEP_S`: by then it has seen what was changed at run time.

Code and run time: a scheduler says which schedules its code defines (`KEEP_S`), and only as long as somebody says so
they are fired. `store/lua/_schedule.lua` tells who wins if two say different things.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from redis.exceptions import RedisError

from ..middleware import EnqueuedCall, Middleware, enter_call
from ..store.schedules import DueSchedule, FiringKind, NewFiring, ScheduleStore
from ..store.store import Store
from .definition import Schedule
from .encode import Encoder, NotReadable, payload_of_tick, record_of, schedule_of
from .plan import plan, steps_of

__all__ = ("FiringClient", "QueueScheduler", "within_middleware")

logger = logging.getLogger("arq.scheduler")

AHEAD_MS = 400  # ticks are prepared so long before they are due
LEAST_SLEEP_S = 0.001
MOST_SLEEP_S = 0.5  # what is changed at run time is in effect after that
KEEP_S = 15.0
PAGE = 1000  # schedules a look
MOST_AT_ONCE = 20_000
PUTS_AT_ONCE = 100
FIRE_A_CALL = 200  # bounds the time of one script call
HOLD_MS = 60_000  # until somebody else, who can read it, may fire a schedule
CLOCK_JUMP_MS = 5_000
RETRY_S = 1.0


class FiringClient(Encoder, Protocol):
    """What a scheduler needs of a `Pool`."""

    middleware: tuple[Middleware, ...]

    @property
    def store(self) -> Store: ...


class Known(NamedTuple):
    """A schedule as it was read: revision, definition, and priority, limits and lock of its jobs."""

    rev: str
    schedule: Schedule
    extra: bytes


# Ticks of up to FIRE_A_CALL schedules, and the middleware around their enqueue.
Piece = tuple[list[list[NewFiring]], AsyncExitStack]


class QueueScheduler:
    """Fires the schedules of one queue.

    :param client: a `Pool`
    :param queue: whose
    :param schedules: those that code defines, with their zones
    :param age_s: seconds since this code was started
    """

    def __init__(self, client: FiringClient, queue: str, schedules: Sequence[Schedule], *, age_s: float) -> None:
        self._client = client
        self.queue = queue
        self.store = ScheduleStore(client.store, queue)
        self._born_s = time.monotonic() - age_s
        self._coded = {each.name: each for each in schedules}
        self._records = {name: record_of(each, queue, client) for name, each in self._coded.items()}
        self._known: dict[str, Known] = {}
        self._kept_s: float | None = None
        self._clock_lead_ms: float | None = None
        self._stopped = asyncio.Event()
        self.fired = self.lateness_ms = 0
        self.fired_s = 0.0

    async def run(self) -> None:
        """Fire schedules until `stop`."""
        while not self._stopped.is_set():
            try:
                sleep_s = await self.run_once()
            except (RedisError, OSError) as error:  # TimeoutError is an OSError
                logger.warning("schedules wait for Redis: %s", error)
                sleep_s = RETRY_S
            except Exception:  # whatever is wrong with one schedule, the others are to be fired
                logger.exception("schedules could not be fired")
                sleep_s = RETRY_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), sleep_s)

    def stop(self) -> None:
        """End `run` after what it is at."""
        self._stopped.set()

    async def run_once(self) -> float:
        """Fire what is due or becomes due in a moment.

        :returns: seconds until the next look
        """
        await self.keep()
        due, next_in_ms = await self._look()
        if not due:
            next_in_s = MOST_SLEEP_S if next_in_ms is None else (next_in_ms - AHEAD_MS) / 1000
            return min(MOST_SLEEP_S, max(LEAST_SLEEP_S, next_in_s))
        await self._definitions(due)
        await self._fire_all(due)
        return LEAST_SLEEP_S

    # -- definitions ----------------------------------------------------------------------------------------------

    async def keep(self, *, now: bool = False) -> None:
        """Say which schedules this code defines, if it is time to."""
        if not now and self._kept_s is not None and time.monotonic() - self._kept_s < KEEP_S:
            return
        age_ms = round((time.monotonic() - self._born_s) * 1000)
        digests = [(record.name, record.digest) for record in self._records.values()]
        wanted = await self.store.keep(age_ms, digests)
        for first in range(0, len(wanted), PUTS_AT_ONCE):
            await asyncio.gather(*(self._put(name, age_ms) for name in wanted[first : first + PUTS_AT_ONCE]))
        self._kept_s = time.monotonic()

    async def _put(self, name: str, age_ms: int) -> None:
        what, before = await self.store.put(self._records[name], code_age_ms=age_ms)
        _log_definition(self._coded[name], what, before)

    async def _definitions(self, due: Sequence[DueSchedule]) -> None:
        """Read the definitions that are not known, or have changed."""
        unknown = {
            each.name: each for each in due if each.name not in self._known or self._known[each.name].rev != each.rev
        }
        if not unknown:
            return
        for stored in (await self.store.read(list(unknown))).values():
            record = self._records.get(stored.name)
            if record is not None and (stored.spec, stored.payload) == (record.spec, record.payload):
                schedule = self._coded[stored.name]
            else:
                try:
                    schedule = schedule_of(stored, self._client.serializer)
                except NotReadable as problem:
                    await self._hold(unknown[stored.name], str(problem))
                    continue
            self._known[stored.name] = Known(stored.rev, schedule, stored.extra)

    async def _hold(self, due: DueSchedule, problem: str) -> None:
        """Leave a schedule that this process cannot fire to others, and note why."""
        logger.error("schedule %s cannot be fired here: %s", due.name, problem)
        await self._wait_until(due.due_ms)
        later_ms = self._redis_now_ms() + HOLD_MS
        await self.store.fire([NewFiring(*due, due.mark, later_ms, "!", "", 0, payload=problem.encode())])

    # -- firing ---------------------------------------------------------------------------------------------------

    async def _look(self) -> tuple[list[DueSchedule], int | None]:
        """What is due soon, and if nothing is, ms until something is."""
        found: list[DueSchedule] = []
        while True:
            before_s = time.monotonic()
            look = await self.store.look(AHEAD_MS, PAGE, len(found))
            if self._clock_has_jumped(look.now_ms, (before_s + time.monotonic()) / 2):
                logger.warning("Redis' clock was set to another time")
                await self.keep(now=True)
                found = []
                continue
            found += look.due
            if len(look.due) < PAGE or len(found) >= MOST_AT_ONCE:
                return found, look.next_in_ms

    def _clock_has_jumped(self, redis_now_ms: int, at_s: float) -> bool:
        before_ms, self._clock_lead_ms = self._clock_lead_ms, redis_now_ms - at_s * 1000
        return before_ms is not None and abs(self._clock_lead_ms - before_ms) > CLOCK_JUMP_MS

    def _redis_now_ms(self) -> int:
        assert self._clock_lead_ms is not None
        return round(time.monotonic() * 1000 + self._clock_lead_ms)

    async def _fire_all(self, due: Sequence[DueSchedule]) -> None:
        """Prepare what is due, the earliest first, and fire it; while one piece waits the next is prepared."""
        prepared: asyncio.Queue[Piece | None] = asyncio.Queue()
        firing = asyncio.create_task(self._fire_prepared(prepared))
        try:
            for first in range(0, len(due), FIRE_A_CALL):
                stack = AsyncExitStack()
                firings = [await self._prepare(each, stack) for each in due[first : first + FIRE_A_CALL]]
                prepared.put_nowait((list(filter(None, firings)), stack))
                await asyncio.sleep(0)
        finally:
            prepared.put_nowait(None)
            await firing

    async def _fire_prepared(self, prepared: "asyncio.Queue[Piece | None]") -> None:
        while (piece := await prepared.get()) is not None:
            waiting, stack = piece
            async with stack:
                while waiting and not self._stopped.is_set():
                    await self._wait_until(waiting[0][0].due_ms or 0)
                    now_ms = self._redis_now_ms()
                    ready = [firings for firings in waiting if (firings[0].due_ms or 0) <= now_ms]
                    waiting = waiting[len(ready) :]
                    await self._fire([firing for firings in ready for firing in firings])

    async def _prepare(self, due: DueSchedule, stack: AsyncExitStack) -> list[NewFiring]:
        """The ticks of a schedule that are to be fired; each finds the schedule as the one before it leaves it."""
        known = self._known.get(due.name)
        if known is None or known.rev != due.rev:
            return []  # it has been changed since the look
        try:
            decision = plan(known.schedule, due.mark, max(self._redis_now_ms(), due.due_ms))
            steps = steps_of(known.schedule, decision, due)
            return [await self._with_job(known, step, stack) if step.job_id else step for step in steps]
        except Exception as error:  # only this one is not to be fired
            await self._hold(due, f"{type(error).__name__}: {error}")
            return []

    async def _with_job(self, known: Known, step: NewFiring, stack: AsyncExitStack) -> NewFiring:
        schedule = await within_middleware(self._client, self.queue, known.schedule, stack, step.job_id)
        fired_ms = max(step.due_ms or 0, self._redis_now_ms())
        return step._replace(
            queue=self.queue,
            when=f"+{schedule.defer_ms}" if schedule.defer_ms else "",
            payload=payload_of_tick(schedule, step.tick, fired_ms, self._client),
            extra=known.extra,
        )

    async def _wait_until(self, due_ms: int) -> None:
        wait_ms = due_ms - self._redis_now_ms()
        if wait_ms > 0:
            await asyncio.sleep((wait_ms + 1) / 1000)

    async def _fire(self, batch: Sequence[NewFiring]) -> None:
        for first in range(0, len(batch), FIRE_A_CALL):
            piece = batch[first : first + FIRE_A_CALL]
            verdicts = await self.store.fire(piece)
            late_ms = self._redis_now_ms() - min(firing.due_ms or 0 for firing in piece)
            self._take_note(piece, verdicts, late_ms)

    def _take_note(self, piece: Sequence[NewFiring], verdicts: Sequence[FiringKind], late_ms: int) -> None:
        for firing, verdict in zip(piece, verdicts, strict=True):
            if verdict == "fired":
                self.fired, self.fired_s = self.fired + 1, time.monotonic()
                self.lateness_ms = max(0, late_ms)
                logger.debug("schedule %s: job %s", firing.name, firing.job_id)
            elif verdict == "overlap":
                logger.info("schedule %s: skipped, the job of an earlier tick has not ended", firing.name)
            elif verdict == "done" and firing.note == "d":
                last = datetime.fromtimestamp(firing.tick / 1000, UTC).isoformat(timespec="seconds")
                logger.warning("schedule %s: ticks up to %s were missed, and are not made up for", firing.name, last)


async def within_middleware(
    client: FiringClient, queue: str, schedule: Schedule, stack: AsyncExitStack, job_id: str
) -> Schedule:
    """The schedule with the headers that the middleware gives this enqueue of it."""
    if not client.middleware:
        return schedule
    seen = EnqueuedCall(schedule.function, schedule.args, dict(schedule.kwargs), queue, dict(schedule.headers), job_id)
    await enter_call(stack, client.middleware, seen)
    return schedule.with_headers(seen.headers)


def _log_definition(schedule: Schedule, what: str, before: str) -> None:
    if what == "new":
        logger.info("schedule %s", schedule)
    elif what == "changed" and before == "api":
        logger.warning("schedule %s was changed at run time; the code's definition takes its place", schedule)
    elif what == "changed":
        logger.info("schedule %s has changed", schedule)
