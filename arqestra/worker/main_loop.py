"""What a worker does while it runs: it serves its queues until it is stopped, or works until they are empty (a burst).

Messages start most claims, and `leasing/sync_loop.py` makes them. The loops here poll, and do the housekeeping: cron
jobs, the health check, recycling.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from ..store.find import count_queued
from ..store.listener import Watch
from .leasing.polling import Push
from .parts import WorkerParts
from .session import Session

__all__ = ("burst", "serve")

logger = logging.getLogger("arq.worker")

HOUSEKEEPING_LIMIT_S = 10.0
MAX_POLL_S = 30.0  # a worker that waits to be woken has to say so now and then

HeartBeat = Callable[[], Awaitable[None]]


async def serve(worker: WorkerParts, session: Session, heart_beat: HeartBeat) -> None:
    """Poll the queues where there is a reason to, as the safety net beside being woken; do the housekeeping."""
    keys = session.store.keys
    watch = Watch([key for queue in worker.queues for key in keys.watched(queue)])
    with session.listener.watch(watch) if worker.options.chosen_poll_delay is None else contextlib.nullcontext():
        while not worker.stopping:
            await _housekeep(worker, heart_beat)
            now_s = worker.loop.time()
            found, found_untold = session.sync.take_found()
            if found:
                worker.polling.found(now_s, told=not found_untold)
            push = Push(session.listener.hears, session.listener.can_watch, watch.since_s)
            if worker.polling.is_due(now_s, push):
                worker.polling.polled(now_s)
                session.sync.poll()
            if session.sync.is_quiet and worker.options.chosen_poll_delay is None:
                session.listener.arm(watch)
            await asyncio.sleep(min(max(worker.poll_delay_s, 0.01), MAX_POLL_S))


async def burst(worker: WorkerParts, session: Session, heart_beat: HeartBeat) -> None:
    """Work until the queue is empty, or `max_burst_jobs` were run."""
    while not worker.stopping:
        await heart_beat()
        await worker.schedule_runner.fire_once()
        session.sync.claim_soon()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(session.sync.became_idle.wait(), max(worker.poll_delay_s, 0.05))
        if worker.slots.tasks:  # until one ends there is nothing new, but what is enqueued meanwhile
            await asyncio.wait(
                worker.slots.tasks.values(),
                timeout=max(worker.poll_delay_s, 0.05),
                return_when=asyncio.FIRST_COMPLETED,
            )
        if session.sync.refused_claim is not None and not worker.slots.running:
            raise session.sync.refused_claim  # as its queue is, the burst would never end
        if worker.slots.running or not session.sync.idle:
            continue
        if 0 <= worker.max_burst_jobs <= worker._jobs_started() or await _has_none_left(worker, session):
            return
        next_due_in_ms = session.sync.next_due_in_ms
        due_in_s = MAX_POLL_S if next_due_in_ms < 0 else next_due_in_ms / 1000
        await asyncio.sleep(min(max(worker.poll_delay_s, 0.005), due_in_s))


async def _has_none_left(worker: WorkerParts, session: Session) -> bool:
    """A burst does not wait for jobs that it has given back because it does not know their function."""
    left = session.sync.queued
    if 0 < left <= len(worker.unknown_ids):
        left -= await count_queued(session.store, worker.unknown_ids, worker.queues)
    return left <= 0


async def _housekeep(worker: WorkerParts, heart_beat: HeartBeat) -> None:
    """What happens now and then; an unreachable Redis is the sync loop's to wait for."""
    worker.check_recycling()
    try:
        async with asyncio.timeout(HOUSEKEEPING_LIMIT_S):  # a connection that is cut off answers nothing
            await heart_beat()
    except (RedisError, OSError) as error:
        logger.warning("housekeeping (cron, health check) is put off: %s", error)
