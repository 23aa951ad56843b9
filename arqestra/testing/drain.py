"""`drain`: run what is in the queues until nothing is left, in the test's own event loop."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from arq.jobs import JobStatus
from arq.worker import JobExecutionFailed

from ..client.pool import Pool
from ..definitions.context import RunningJob, current_job
from ..definitions.durations import seconds_of
from ..definitions.redact import shown_value
from ..errors import SettingsError
from ..handles.job import Job
from ..protocol.clock import now_in, timestamp_ms
from ..protocol.serializers import Serializer
from ..store.find import find_queues
from ..store.queues import browse
from ..store.schedules import ScheduleStore
from ..store.store import Store
from ..store.time_travel import ExpiredResult, restore_results, waits_only_for_news
from ..worker.run.attempt import Attempt
from ..worker.run.outcome import Outcome, State
from ..worker.session import Session
from .clock import Clock, Place, check_pool, clock_of_drain
from .outcomes import Drained, outcome_of
from .workers import TestWorker, new_worker, settings_of_tests

__all__ = ("Until", "drain", "job_of_worker")

Until = Callable[[], Any | Awaitable[Any]]

WAIT_S = 0.01  # for a job that another worker runs
CRON_WINDOW_S = 0.5
FAR_MS = 86_400_000  # a claim does not say of what is due so late whether it is ever due by itself
_WORD = re.compile(r"\s*(week|day|hour|minute|second)s?\b\s*")


async def drain(
    pool: Pool,
    functions: Any = (),
    *,
    with_scheduled: bool = True,
    until: Until | Job[Any] | None = None,
    travel: str | float | timedelta | None = None,
    timeout: float = 60.0,
    **settings: Any,
) -> Drained:
    """Run all jobs that are in the queues, and all that these enqueue, with their retries.

    A worker of its own runs them in this event loop. The time goes forward from one due time to the next, as far as
    jobs are due later: retries, delays, timers of workflows, limits. The results of what has run can be read after
    that, however much time has passed. A workflow that waits for an event without a time limit is left as it is.

    :param pool: the queues are on its Redis: all that hold jobs, unless settings name some
    :param functions: job functions, or the settings class of an application's worker
    :param with_scheduled: run what is due later, too
    :param until: stop when this is true (a function of nothing, plain or async), or when this job has ended
    :param travel: let so much time pass (seconds, a timedelta, or text such as "1 day"): what becomes due later stays,
        schedules and cron jobs fire on the way. Default as much as jobs need
    :param timeout: real seconds
    :param settings: further settings of the worker; `ctx` goes over that of the settings class
    :returns: what was run
    :raises TimeoutError: the time is up; it says what is left
    :raises SettingsError: a setting is wrong, or a job calls it, which would wait for itself
    """
    check_pool("drain", pool)
    caller = await job_of_worker(pool)
    if caller is not None:
        raise SettingsError(f"drain: expected a call by a test, got one by the job {caller.function} that runs")
    if until is not None and not (callable(until) or isinstance(until, Job)):
        raise SettingsError(f"drain: until: expected a function or a Job, got {shown_value(until)}")
    if travel is not None and not with_scheduled:
        raise SettingsError("drain: expected travel, or with_scheduled=False; got both")
    travel_s = None if travel is None else seconds_of_length(travel, "travel")
    with clock_of_drain() as (clock, goes_back):
        drained = Drained()
        limit_ms = None if travel_s is None else timestamp_ms() + round(travel_s * 1000)
        course = Course(clock, clock.include(pool), drained, until, with_scheduled=with_scheduled, limit_ms=limit_ms)
        try:
            async with asyncio.timeout(timeout):
                await _drain_all(pool, functions, settings, course)
                await restore_results(pool.store, course.lost_results(is_back=goes_back))
        except TimeoutError:
            left = await _left(pool)
            raise TimeoutError(
                f"drain: expected all jobs to end within {timeout:g} s; {drained!r}, left are {left}"
            ) from None
    return drained


async def job_of_worker(pool: Pool) -> RunningJob | None:
    """The job that calls this, if a worker runs it: waiting for the end of all jobs, it would wait for itself."""
    job = current_job()
    if job is None or await pool.job(job.job_id, queue=job.queue).status() != JobStatus.in_progress:
        return None  # `perform` runs it, say
    return job


async def _drain_all(pool: Pool, functions: Any, settings: dict[str, Any], course: Course) -> None:
    """Work on all queues; a queue that is used for the first time by a job is found when the others are empty."""
    given = settings_of_tests(functions, settings)
    chosen = "queues" in given or "queue_name" in given
    queues = () if chosen else tuple(dict.fromkeys([pool.default_queue_name, *_queues_of(given["functions"])]))
    while True:
        if not chosen:
            found, _ = await find_queues(pool.store)
            known, queues = queues, tuple(dict.fromkeys([*queues, *found]))
            if course.worked and queues == known:
                return
            given |= {"queues": list(queues), "cron_queue": given.get("cron_queue") or pool.default_queue_name}
        worker = new_worker(DrainWorker, pool, {**given, "burst": True})
        worker.follow(course)
        try:
            await worker.main()
        finally:
            await worker.close()
        course.worked = True
        if chosen or course.is_over:
            return


def _queues_of(functions: Iterable[Any]) -> list[str]:
    """The queues that job functions have of their own."""
    own = (getattr(getattr(function, "job_options", None), "queue", None) for function in functions)
    return [queue for queue in own if queue]


def seconds_of_length(length: str | float | timedelta, what: str) -> float:
    """Seconds of a length of time; units may be words.

    :raises SettingsError: it is none
    """
    if isinstance(length, str):
        days = re.sub(r"(\d+(?:\.\d+)?)\s*weeks?\b", lambda found: f"{float(found[1]) * 7:g}d", length.strip())
        length = _WORD.sub(lambda found: found[1][0], days)
    return seconds_of(length, what, zero=True)


async def _left(pool: Pool) -> str:
    """What the queues hold, for an error."""
    queues, _ = await find_queues(pool.store)
    texts = []
    for queue in queues:
        page = await browse(pool.store, queue, payloads=0)
        texts += [f"{entry.id} ({entry.state}) in {queue}" for entry in page.entries]
    return ", ".join(texts[:10]) + (f" and {len(texts) - 10} more" if len(texts) > 10 else "") or "none"


@dataclass
class Course:
    """How far a drain goes, and what it has seen.

    :ivar place: the keys of the pool
    :ivar limit_ms: the time that it goes to; None for as far as jobs are due
    :ivar worked: a worker has run
    :ivar is_over: it is not to go on
    :ivar ended: ids of jobs that have ended
    :ivar expired: results that are gone because the time has moved
    """

    clock: Clock
    place: Place
    drained: Drained
    until: Until | Job[Any] | None
    with_scheduled: bool
    limit_ms: int | None
    worked: bool = False
    is_over: bool = False
    ended: set[str] = field(default_factory=set)
    expired: list[ExpiredResult] = field(default_factory=list)

    def note(self, attempt: Attempt, outcome: Outcome, serializer: Serializer) -> None:
        """An attempt has ended."""
        found = outcome_of(attempt, outcome, serializer)
        if found is not None:
            self.drained.outcomes.append(found)
            if found.state not in ("retry", "snooze"):
                self.ended.add(found.job_id)

    def let_pass(self, step_ms: int) -> None:
        """Let the time pass."""
        self.expired += self.clock.go_ahead(step_ms, place=self.place, keep_flows=True)

    def lost_results(self, *, is_back: bool) -> list[ExpiredResult]:
        """Results that are to be readable after all: those of what was run here, the latest of each job; all of them
        if the time goes back to where it was.
        """
        return [each for each in reversed(self.expired) if is_back or each.job_id in self.ended]

    async def is_reached(self) -> bool:
        """Whether what it was to go on for has happened."""
        if isinstance(self.until, Job):
            ended = self.until.job_id in self.ended
            self.is_over = ended or await self.until.status() == JobStatus.complete
        elif self.until is not None:
            reached = self.until()
            self.is_over = bool(await reached if inspect.isawaitable(reached) else reached)
        return self.is_over

    def step_ms(self, jobs_in_ms: int | None, ticks_in_ms: int | None) -> int | None:
        """How far the time is to go; None: this was all.

        :param jobs_in_ms: until the next job is due
        :param ticks_in_ms: until a schedule or a cron job fires
        """
        if not self.with_scheduled or (self.limit_ms is None and jobs_in_ms is None):
            return None
        steps = [step for step in (jobs_in_ms, ticks_in_ms) if step is not None]
        if self.limit_ms is None:
            return max(1, min(steps))
        left_ms = self.limit_ms - timestamp_ms()
        return max(1, min([left_ms, *steps])) if left_ms > 0 else None


class DrainWorker(TestWorker):
    """Runs what is due; when nothing is, it lets the time pass."""

    course: Course

    def follow(self, course: Course) -> None:
        """Run what is due by this course."""
        self.course = course
        self.outcome_callback = self._note

    def _note(self, attempt: Attempt, outcome: Outcome) -> None:
        is_unknown = attempt.payload.function not in self.functions and isinstance(outcome.value, JobExecutionFailed)
        if is_unknown and outcome.state in (State.FAILED, State.UNKNOWN):
            outcome.value.add_note(f"drain has the functions {', '.join(map(repr, self.functions))}")
        self.course.note(attempt, outcome, self.serializer)

    async def _work(self, session: Session) -> None:
        self.workflows.park_at_once = True
        while not self.stopping:
            await self._run_due(session)
            if await self.course.is_reached():
                return
            step_ms = self.course.step_ms(await self._jobs_in_ms(session), await self._ticks_in_ms(session.store))
            if step_ms is None:
                return
            if await self._others_run(session.store):
                await asyncio.sleep(WAIT_S)
            else:
                self.course.let_pass(step_ms)

    async def _run_due(self, session: Session) -> None:
        """Until no job is due and none runs."""
        while not self.stopping:
            await self.run_cron(now_in(self.timezone), CRON_WINDOW_S)
            await self.schedule_runner.fire_once()
            session.sync.claim_soon()
            await session.sync.became_idle.wait()
            if self.slots.tasks:
                await asyncio.wait(self.slots.tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            if session.sync.refused_claim is not None:
                raise session.sync.refused_claim
            await asyncio.sleep(0)
            if session.sync.is_quiet and session.sync.idle and not self.slots.tasks and not self.slots.concluding:
                return

    async def _jobs_in_ms(self, session: Session) -> int | None:
        next_ms = session.sync.next_due_in_ms
        if next_ms < 0 or (next_ms >= FAR_MS and await waits_only_for_news(session.store, self.queues)):
            return None
        return next_ms

    async def _ticks_in_ms(self, store: Store) -> int | None:
        """Until a schedule or a cron job fires next."""
        found = []
        if self.schedule_runner.scheduler is not None:
            for part in self.schedule_runner.scheduler.parts:
                page = await ScheduleStore(store, part.queue).fetch_due(0, 1)
                found += [page.next_in_ms] if page.next_in_ms is not None else []
        now = now_in(self.timezone)
        found += [
            int((each.next_run - now).total_seconds() * 1000) for each in self.cron_jobs if each.next_run is not None
        ]
        return min(found, default=None)

    async def _others_run(self, store: Store) -> bool:
        """Whether another worker runs a job: its lease is no due time."""
        for queue in self.queues:
            page = await browse(store, queue, state="running", payloads=0)
            if page.entries:
                return True
        return False
