"""What a `Pool` tells of the whole fleet: statistics, recent jobs, workers, events. It reads, and changes nothing."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec
from arq.connections import ArqRedis
from arq.jobs import DeserializationError, JobDef, JobResult
from redis.exceptions import RedisError, ResponseError

from ..definitions.function import JobFunction
from ..errors import SettingsError
from ..flow.export import WorkflowExports, export_workflow, export_workflows
from ..handles.job import Job
from ..protocol.clock import timestamp_ms
from ..protocol.events import Event, decode_events
from ..protocol.presence import WorkerInfo
from ..protocol.recent_jobs import ENDED_STATES, EndedJob
from ..protocol.serializers import Serializer
from ..protocol.wire import decode_payload, job_def
from ..store.listener import Listener
from ..store.presence import ask_for_events, read_workers
from ..store.queues import entries_of
from ..store.recent import read_recent
from ..store.statistics import Counters, read_hours, read_minutes, read_queues, read_totals, rows_of, totals_of
from ..store.store import Store

__all__ = ("PoolViews",)

logger = logging.getLogger("arq.connections")

MINUTES_FOR_HOURS, MAX_HOURS = 25, 720  # how long what was counted is kept, to the minute and in hours
MAX_RECENT = 10_000
MAX_EVENTS_WAITING = 10_000


class PoolViews(ArqRedis):
    """What a `Pool` reads of the whole fleet."""

    store: Store
    listener: Listener
    serializer: Serializer
    default_queue_name: str

    async def queued_jobs(self, *, queue_name: str | None = None) -> list[JobDef]:
        """All jobs of a queue that have not ended, by their scores: due, running or deferred.

        The log names entries that this pool cannot read; they are left out.

        :param queue_name: default the pool's queue
        """
        queue = self.default_queue_name if queue_name is None else queue_name
        jobs = []
        for member, score_ms, data in await entries_of(self.store, queue):
            try:
                if data is None:
                    raise DeserializationError("it has no payload")
                jobs.append(job_def(decode_payload(self.serializer, data), member.decode(), score_ms))
            except (DeserializationError, UnicodeDecodeError) as error:
                logger.warning("queued_jobs: %r of queue %s is passed over: %s", member, queue, error)
        return jobs

    async def _get_job_result(self, key: bytes) -> JobResult:
        job_id = key[len(self.store.keys.result_prefix) :].decode()
        info = await Job(job_id, self).result_info()
        if info is None:
            raise KeyError(f'job "{key.decode()}" not found')
        info.job_id = job_id
        return info

    async def all_job_results(self) -> list[JobResult]:
        """The kept results of all jobs, by time of enqueue. The log names those that cannot be read."""
        keys = [key async for key in self.store.redis.scan_iter(match=self.store.keys.result_prefix + "*", count=1000)]
        found = await asyncio.gather(*(self._get_job_result(key) for key in keys), return_exceptions=True)
        results = []
        for key, result in zip(keys, found, strict=True):
            if isinstance(result, DeserializationError | ResponseError | UnicodeDecodeError):
                logger.warning("all_job_results: %r is passed over: %s", key, result)
            elif isinstance(result, BaseException) and not isinstance(result, KeyError):
                raise result
            elif isinstance(result, JobResult):
                results.append(result)
        return sorted(results, key=attrgetter("enqueue_time"))

    async def _get_job_def(self, job_id: bytes, score: int) -> JobDef:
        key = self.store.keys.job(job_id.decode())
        data = await self.store.redis.get(key)
        if data is None:
            raise RuntimeError(f'job "{key}" not found')
        return job_def(decode_payload(self.serializer, data), job_id.decode(), score)

    async def workers(self) -> list[WorkerInfo]:
        """The workers of the last ten minutes, the longest running first.

        Each writes once a second: host, process, queues, running jobs, memory, processor time, how late its event loop
        is.
        """
        return await read_workers(self.store)

    async def statistics(self, hours: int = 24, *, by_hour: bool = False) -> list[dict[str, Any]]:
        """What the workers did, by queue and function. They count, and write once a second.

        :param hours: how far back, at most 720; up to 25 to the minute, else in whole hours
        :param by_hour: one row for each hour as well, with `hour` (seconds since the epoch of its start)
        :returns: rows with queue, function, enqueued, complete, failed, retried, aborted, expired, recovered (counts),
            run_ms_total, run_ms_max (of the function itself), wait_ms_total (from due to start), and of both durations
            the percentiles `run_ms_p50`, `_p95`, `_p99`, `wait_ms_p50`, ... (None where nothing was counted)
        :raises SettingsError: hours out of range
        """
        if isinstance(hours, bool) or not 0 < hours <= MAX_HOURS:
            raise SettingsError(f"statistics: hours: expected 1 to {MAX_HOURS}, got {hours!r}")
        last_minute, keys = timestamp_ms() // 60_000, self.store.keys
        if hours > MINUTES_FOR_HOURS:
            counted = await read_hours(self.store.redis, keys, last_minute // 60, hours)
            return rows_of(
                {hour * 3600: counters for hour, counters in counted.items()}, by="hour" if by_hour else None
            )
        minutes = await read_minutes(self.store.redis, keys, last_minute, hours * 60)
        if not by_hour:
            return rows_of(minutes)
        of_hours: dict[int, dict[int, Counters]] = {}
        for minute, counters in minutes.items():
            of_hours.setdefault(minute // 60 * 3600, {})[minute] = counters
        return [{"hour": hour, **row} for hour in sorted(of_hours) for row in rows_of(of_hours[hour])]

    async def totals(self) -> list[dict[str, Any]]:
        """All that was ever counted, by queue and function, for counters that only grow.

        :returns: rows with queue, function, enqueued, complete, failed, retried, aborted, expired, recovered,
            run_ms_total, wait_ms_total, and the counts of the histograms' buckets: run_ms_buckets, wait_ms_buckets
        """
        return totals_of(await read_totals(self.store.redis, self.store.keys))

    async def used_queues(self) -> list[str]:
        """Queues that were used or served in the last 30 days, by name."""
        return await read_queues(self.store.redis, self.store.keys)

    async def recent(
        self,
        *,
        state: str | None = None,
        function: str | None = None,
        queue: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        limit: int = 100,
    ) -> list[EndedJob]:
        """Attempts that have ended, the latest first; their workers write them once a second.

        For each queue and function the newest are kept for 30 days: 2,000 that failed, 1,000 that are complete (of a
        second no more than 100 a worker), 500 of each other state.

        :param state: "complete", "failed" (dead jobs too), "aborted", "expired" or "retried"; default all
        :param function: name of the function
        :param queue: default all queues
        :param since: that ended then or later
        :param before: that ended earlier than that
        :param limit: entries to return at most
        :raises SettingsError: there is no such state, or the limit is out of range
        """
        if state is not None and state not in ENDED_STATES:
            raise SettingsError(f"recent: state: expected one of {', '.join(ENDED_STATES)}, got {state!r}")
        if isinstance(limit, bool) or not 0 < limit <= MAX_RECENT:
            raise SettingsError(f"recent: limit: expected 1 to {MAX_RECENT}, got {limit!r}")
        return await read_recent(
            self.store,
            await self.used_queues() if queue is None else [queue],
            state=state,
            function=function,
            since_ms=_ms_of(since),
            before_ms=_ms_of(before),
            limit=limit,
        )

    async def export_workflow(self, flow_id: str) -> dict[str, Any]:
        """The history of one workflow, with all that `arqestra.testing.replay` needs: plain data that JSON carries.

        It holds arguments, results and events as they are. Nothing is masked, and binary values are base64 of the
        serializer's bytes.

        :param flow_id: the workflow's job id; it runs, or has ended and is kept
        :raises ResultNotFound: no worker has begun it, or its history or arguments are not kept any more
        :raises ArgumentsError: the flow is a graph
        :raises DeserializationError: it was written by another serializer than the pool's
        """
        return await export_workflow(self.store, self.serializer, flow_id)

    async def export_workflows(self, function: JobFunction[..., Any] | str, *, last: int = 100) -> WorkflowExports:
        """Histories of the latest runs of a workflow function, those that run and those that have ended and are kept.

        :param function: made by `@workflow`, or its name
        :param last: how many at most, up to 1,000
        :returns: `histories`, the latest run first; `missing`: ids of runs that could not be exported, and why;
            `all_seen`: False if there are more than 20,000 flows that run or have ended: only the latest were looked at
        :raises ArgumentsError: no function, or an impossible number
        """
        return await export_workflows(self.store, self.serializer, function, last)

    async def events(self) -> AsyncIterator[Event]:
        """What happens to jobs and workers from now on: see `Event`. It ends when the caller stops.

        Nothing is kept: events that are published while the connection is down are missed. A listener that falls behind
        by 10,000 events misses the next ones, and gets a "dropped" event that says how many.
        """
        heard: deque[Event] = deque()
        changed = asyncio.Event()
        missed, is_new = 0, False

        def handle_message(data: bytes | None) -> None:
            nonlocal missed, is_new
            changed.set()
            if data is None:  # the subscription is active: tell the workers, so that they publish at once
                is_new = True
                return
            try:
                events = decode_events(data)
            except msgspec.MsgspecError:
                return  # of another version
            room = max(0, MAX_EVENTS_WAITING - len(heard))
            heard.extend(events[:room])
            missed += len(events[room:])

        with self.listener.listen(self.store.keys.events, handle_message):
            while True:
                await changed.wait()
                changed.clear()
                if is_new:
                    is_new = False
                    with contextlib.suppress(RedisError, OSError):  # without it they find out within a while
                        await ask_for_events(self.store)
                while heard:
                    yield heard.popleft()
                if missed:
                    count, missed = missed, 0
                    yield Event("dropped", timestamp_ms(), "", count=count)


def _ms_of(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
