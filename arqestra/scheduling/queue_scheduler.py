"""The scheduler of one queue. The protocol is "Schedules" in docs/protocols.md.

`run_once` is one round: it fetches what is due soon, reads definitions that it does not know, prepares the jobs of the
ticks, waits for the moment, and fires. Its work grows with the ticks that are due, not with the schedules that exist.

Between two rounds it sleeps until the next tick. A message wakes it when somebody changed a schedule. A message may be
lost, so it never sleeps longer than `MAX_SLEEP_S`; where nobody listens for messages, `SILENT_SLEEP_S`.

It postpones a schedule that it cannot fire (the arguments do not decode here, a middleware raises), longer each time,
and notes why. Another scheduler may fire it meanwhile. The ticks of other schedules are not delayed.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple, Protocol

from redis.exceptions import RedisError

from ..definitions.middleware import EnqueuedCall, Middleware, enter_call
from ..protocol.clock import ahead_ms
from ..protocol.constants import CLOCK_TOLERANCE_MS
from ..store.schedule_records import DueSchedule, FiringKind, NewFiring, StoredSchedule
from ..store.schedules import ScheduleStore
from ..store.services import note_zone, noted_zones
from ..store.store import Store
from .code_schedules import CodeSchedules
from .definition import Schedule
from .encode import Encoder, NotReadable, payload_of_tick, schedule_of
from .known_schedules import KnownSchedule, KnownSchedules, Postponements
from .plan import plan, steps_of
from .zone import zone_name

__all__ = ("FiringClient", "QueueScheduler", "within_middleware")

logger = logging.getLogger("arq.scheduler")

AHEAD_MS = 400  # ticks are prepared so long before they are due
MIN_SLEEP_S = 0.001
SILENT_SLEEP_S = 0.5  # what is changed at run time is in effect after that
MAX_SLEEP_S = 60.0
GATHER_S = 0.02  # changes come in numbers, when a process puts its schedules
PAGE = 1000  # schedules per call
MAX_AT_ONCE = 20_000
TICKS_PER_CALL = 200  # bounds the time of one script call
BYTES_PER_CALL = 4 * 1024 * 1024
PIECES_AHEAD = 4
BREATH_S = 0.005  # other tasks of the loop wait no longer than that
RETRY_S = 1.0


class FiringClient(Encoder, Protocol):
    """The parts of a `Pool` that a scheduler needs."""

    middleware: tuple[Middleware, ...]

    @property
    def store(self) -> Store: ...


class Prepared(NamedTuple):
    """One schedule that is due, and the steps that fire it: each finds the schedule as the step before leaves it."""

    due: DueSchedule
    known: KnownSchedule
    steps: list[NewFiring]


class QueueScheduler:
    """Fires the schedules of one queue.

    :param client: a `Pool`
    :param queue: its name
    :param code_schedules: what the code of this process defines, for this and other queues
    :param zone: of schedules that were defined at run time and name none
    """

    def __init__(self, client: FiringClient, queue: str, code_schedules: CodeSchedules, zone: tzinfo) -> None:
        self._client = client
        self.queue = queue
        self.store = ScheduleStore(client.store, queue)
        self._code_schedules = code_schedules
        self._zone = zone
        self._has_noted_zone = False
        self._known = KnownSchedules()
        self._postponements = Postponements()
        self._clock_lead_ms: float | None = None
        self._stopped = asyncio.Event()
        self._woken = asyncio.Event()
        self._has_messages = False  # of changes, by messages
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
                await asyncio.wait_for(self._woken.wait(), sleep_s)
                await asyncio.sleep(GATHER_S)

    def stop(self) -> None:
        """End `run`, after the script call that is under way."""
        self._stopped.set()
        self._woken.set()

    def look(self) -> None:
        """Begin the next round at once."""
        self._woken.set()

    def handle_message(self, data: bytes | None) -> None:
        """Definitions have changed. None: from now on such messages come."""
        self._has_messages = True
        self._woken.set()

    async def run_once(self) -> float:
        """One round: fire what is due, or becomes due in a moment.

        :returns: seconds until the next round
        :raises redis.exceptions.RedisError: Redis does not answer
        """
        if not self._stopped.is_set():
            self._woken.clear()
        await self._code_schedules.keep()
        if not self._has_noted_zone:
            await self._note_zone()
        due, next_in_ms = await self._fetch_due()
        due = [each for each in due if not self._postponements.has(each)]
        if due:
            await self._read_definitions(due)
            await self._fire_all(due)
            return MIN_SLEEP_S
        most_s = min(MAX_SLEEP_S, self._code_schedules.next_in_s) if self._has_messages else SILENT_SLEEP_S
        if self._postponements:
            most_s = min(most_s, SILENT_SLEEP_S)
        next_in_s = most_s if next_in_ms is None else (next_in_ms - AHEAD_MS) / 1000
        return max(MIN_SLEEP_S, min(most_s, next_in_s))

    # -- what is due ----------------------------------------------------------------------------------------------

    async def _fetch_due(self) -> tuple[list[DueSchedule], int | None]:
        """Fetch what is due soon; if nothing is, how many ms until something is."""
        found: list[DueSchedule] = []
        while True:
            before_s, moved_ms = time.monotonic(), ahead_ms()
            page = await self.store.fetch_due(AHEAD_MS, PAGE, len(found))
            if page.went_back:
                logger.warning("Redis' clock was put back: what was noted of a time to come is drawn back")
                await self.store.rewind()
            if self._clock_has_jumped(page.now_ms - moved_ms, (before_s + time.monotonic()) / 2) or page.went_back:
                logger.warning("Redis' clock was set to another time, or this process was held up")
                await self._code_schedules.keep(now=True)
                found = []
                continue
            found += page.due
            if len(page.due) < PAGE or len(found) >= MAX_AT_ONCE:
                return found, page.next_in_ms

    def _clock_has_jumped(self, redis_now_ms: int, at_s: float) -> bool:
        before_ms, self._clock_lead_ms = self._clock_lead_ms, redis_now_ms - at_s * 1000
        return before_ms is not None and abs(self._clock_lead_ms - before_ms) > CLOCK_TOLERANCE_MS

    def _redis_now_ms(self) -> int:
        assert self._clock_lead_ms is not None
        return round(time.monotonic() * 1000 + self._clock_lead_ms) + ahead_ms()

    async def _read_definitions(self, due: Sequence[DueSchedule]) -> None:
        """Read the definitions that are not known here, or have changed."""
        if self._known.forget_unused():
            self._postponements.forget_past()
        unknown = {each.name: each for each in due if self._known.recall(each) is None}
        if not unknown:
            return
        for stored in (await self.store.read(list(unknown))).values():
            record = self._code_schedules.records.get(stored.name)
            if record is not None and (stored.spec, stored.payload) == (record.spec, record.payload):
                schedule = self._code_schedules.schedules[stored.name]
            else:
                try:
                    schedule = await self._in_its_zone(stored, schedule_of(stored, self._client.serializer))
                except NotReadable as problem:
                    await self._postpone(unknown[stored.name], str(problem))
                    continue
            self._known.add(stored.name, KnownSchedule(stored.rev, schedule, stored.extra))

    async def _note_zone(self) -> None:
        """Note that this process' zone counts from now on for schedules that name none."""
        zone = zone_name(self._zone)
        for name, noted in (await noted_zones(self._client.store, self.queue)).items():
            if noted != zone:
                await note_zone(self._client.store, name, zone)
        self._has_noted_zone = True

    async def _in_its_zone(self, stored: StoredSchedule, schedule: Schedule) -> Schedule:
        if schedule.zone is None:
            await note_zone(self._client.store, stored.name, zone_name(self._zone))
        return schedule.in_zone(self._zone)

    async def _postpone(self, due: DueSchedule, problem: str) -> None:
        """Leave a schedule that cannot be fired here to others for a while, and note why."""
        backoff_s = self._postponements.add(due)
        logger.error("schedule %s cannot be fired here, it is tried again in %.0f s: %s", due.name, backoff_s, problem)
        data = problem.encode("utf-8", "replace")
        note = NewFiring(*due, to_mark=due.mark, next_ms=None, note="!", overlap="", tick=0, payload=data)
        await self.store.fire([note])

    # -- firing ---------------------------------------------------------------------------------------------------

    async def _fire_all(self, due: Sequence[DueSchedule]) -> None:
        """Prepare what is due, the earliest first, and fire it. While one piece waits, the next is prepared."""
        pieces: asyncio.Queue[list[Prepared] | None] = asyncio.Queue(PIECES_AHEAD)
        preparing = asyncio.create_task(self._prepare_pieces(due, pieces))
        try:
            await self._fire_pieces(pieces)
            await preparing
        finally:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)  # its error was raised above, or another one is

    async def _prepare_pieces(self, due: Sequence[DueSchedule], pieces: "asyncio.Queue[list[Prepared] | None]") -> None:
        breath_s = time.monotonic()
        piece: list[Prepared] = []
        try:
            for each in due:
                if self._stopped.is_set():
                    break
                piece += await self._prepare(each)
                if sum(len(prepared.steps) for prepared in piece) >= TICKS_PER_CALL:
                    await pieces.put(piece)
                    piece = []
                if time.monotonic() - breath_s > BREATH_S:
                    await asyncio.sleep(0)
                    breath_s = time.monotonic()
        except Exception:  # Redis is away: fire what is prepared, then raise the error
            await pieces.put(None)
            raise
        await pieces.put(piece)
        await pieces.put(None)

    async def _prepare(self, due: DueSchedule) -> list[Prepared]:
        known = self._known.recall(due)
        if known is None:
            return []  # it was changed since it was fetched
        try:
            decision = plan(known.schedule, due.mark, max(self._redis_now_ms(), due.due_ms))
            return [Prepared(due, known, steps_of(known.schedule, decision, due))]
        except Exception as error:  # the others are fired all the same
            await self._postpone(due, f"{type(error).__name__}: {error}")
            return []

    async def _fire_pieces(self, pieces: "asyncio.Queue[list[Prepared] | None]") -> None:
        while (prepared := await pieces.get()) is not None:
            while prepared and not self._stopped.is_set():
                await self._wait_until(prepared[0].due.due_ms)
                now_ms = self._redis_now_ms()
                ready = [each for each in prepared if each.due.due_ms <= now_ms]
                prepared = prepared[len(ready) :]
                if self._client.middleware:
                    for each in ready:
                        await self._fire_within_middleware(each)
                else:
                    await self._fire_at_once(ready)

    async def _wait_until(self, due_ms: int) -> None:
        wait_ms = due_ms - self._redis_now_ms()
        if wait_ms > 0:
            await asyncio.sleep((wait_ms + 1) / 1000)

    async def _fire_at_once(self, ready: Sequence[Prepared]) -> None:
        """Fire what is due, in calls that are small enough for the script and the network."""
        batch: list[tuple[DueSchedule, NewFiring]] = []
        size_bytes = 0
        for due, known, steps in ready:
            for step in steps:
                try:
                    with_job = self._with_job(known, known.schedule, step) if step.job_id else step
                except Exception as error:  # its arguments do not encode
                    await self._postpone(due, f"{type(error).__name__}: {error}")
                    break
                batch.append((due, with_job))
                size_bytes += len(with_job.payload)
                if len(batch) == TICKS_PER_CALL or size_bytes > BYTES_PER_CALL:
                    await self._fire(batch)
                    batch, size_bytes = [], 0
                    if self._stopped.is_set():
                        return
        if batch:
            await self._fire(batch)

    async def _fire_within_middleware(self, prepared: Prepared) -> None:
        """Fire one schedule. The middleware is around the call that enqueues its job, as around any other enqueue."""
        due, known, steps = prepared
        redis_is_away: Exception | None = None
        try:
            for step in steps:
                async with AsyncExitStack() as stack:
                    if step.job_id:
                        schedule = await within_middleware(self._client, self.queue, known.schedule, stack, step.job_id)
                        step = self._with_job(known, schedule, step)
                    try:
                        await self._fire([(due, step)])
                    except (RedisError, OSError) as error:
                        redis_is_away = error
                        raise
        except Exception as error:  # the middleware's, whatever it is
            if error is redis_is_away:
                raise
            await self._postpone(due, f"{type(error).__name__}: {error}")

    def _with_job(self, known: KnownSchedule, schedule: Schedule, step: NewFiring) -> NewFiring:
        fired_ms = max(step.due_ms or 0, self._redis_now_ms())
        return step._replace(
            queue=self.queue,
            when=f"+{schedule.defer_ms}" if schedule.defer_ms else "",
            payload=payload_of_tick(schedule, step.tick, fired_ms, self._client),
            extra=known.extra,
        )

    async def _fire(self, batch: Sequence[tuple[DueSchedule, NewFiring]]) -> None:
        verdicts = await self.store.fire([step for _, step in batch])
        for (due, step), verdict in zip(batch, verdicts, strict=True):
            await self._handle_verdict(due, step, verdict)

    async def _handle_verdict(self, due: DueSchedule, step: NewFiring, verdict: FiringKind) -> None:
        if verdict == "not storable":
            return await self._postpone(due, "its queue is no queue, or limits and lock are of another version")
        if verdict == "fired":
            self._postponements.remove(step.name)
            self.fired, self.fired_s = self.fired + 1, time.monotonic()
            function = self._known.function_of(step.name)
            if function is not None:
                self._client.store.enqueued.add(step.queue, function)
            self.lateness_ms = max(0, self._redis_now_ms() - (step.due_ms or step.tick))
            logger.debug("schedule %s: job %s", step.name, step.job_id)
        elif verdict == "overlap":
            logger.info("schedule %s: skipped, the job of an earlier tick has not ended", step.name)
        elif verdict == "refused":
            logger.warning("schedule %s: refused, there is a job %s, or one that has its lock", step.name, step.job_id)
        elif verdict == "done" and step.note == "d":
            last = datetime.fromtimestamp(step.tick / 1000, UTC).isoformat(timespec="seconds")
            logger.warning("schedule %s: ticks up to %s were missed, and are not made up for", step.name, last)
        return None


async def within_middleware(
    client: FiringClient, queue: str, schedule: Schedule, stack: AsyncExitStack, job_id: str
) -> Schedule:
    """Enter the middleware, and return the schedule with the headers that it gave this enqueue."""
    if not client.middleware:
        return schedule
    seen = EnqueuedCall(
        schedule.function,
        schedule.args,
        dict(schedule.kwargs),
        queue=queue,
        headers=dict(schedule.headers),
        job_id=job_id,
    )
    await enter_call(stack, client.middleware, seen)
    return schedule.with_headers(seen.headers)
