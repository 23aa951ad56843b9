"""Renewing the leases of one worker, from a thread with its own event loop and connection.

A job that blocks the worker's event loop (a long computation, `time.sleep`) therefore does not lose its lease at once,
nor do its neighbours. But a worker whose loop does not come back is as good as dead: when it has been stuck for longer
than `stuck_after_s` the renewing stops, the stack of the blocked thread is logged, and the jobs start elsewhere.

Leases are renewed three times as often as they run out. A renewal that finds a lease taken by somebody else, or a
request to abort, is reported to the loop, which cancels the job.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ...client.connect import sibling
from ...protocol.keys import Keys
from ...store.link import close_sentinels
from ...store.records import LeaseRef, Renewal
from ...store.store import Store

if TYPE_CHECKING:
    from .watchdog import Watchdog

__all__ = ("LeaseRenewer", "RenewalSettings")

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py

WATCH_S = 1.0
MIN_REPLY_S = 1.0
STOP_WAIT_S = 5.0
WARN_EVERY = 20  # failures


@dataclass(frozen=True, slots=True)
class RenewalSettings:
    """What a renewal needs to know.

    :ivar lease_ms: length of a lease
    :ivar stuck_after_s: seconds without a sign of life of the loop after which renewing stops
    :ivar aborts: ask for aborts as well
    """

    lease_ms: int
    stuck_after_s: float
    aborts: bool

    @property
    def interval_s(self) -> float:
        return self.lease_ms / 3000


class LeaseRenewer:
    """A thread that renews leases until it is stopped.

    :param redis: the worker's client; the thread makes connections of its own to the same Redis
    :param keys: the namespace
    :param settings: see there
    :param leased: the leases to renew now; called in the thread of the renewer
    :param report: called in the worker's loop with what a renewal found
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        settings: RenewalSettings,
        leased: Callable[[], Sequence[LeaseRef]],
        report: Callable[[Renewal], None],
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._settings = settings
        self._leased = leased
        self._report = report
        self._worker_loop = asyncio.get_running_loop()
        self._worker_thread = threading.get_ident()
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._seen_alive = time.monotonic()
        self._stuck = False
        self._failures = 0  # one after the other
        self.watchdog: Watchdog | None = None  # of a supervised worker
        self._thread = threading.Thread(target=self._run, name="arqestra-lease-renewer", daemon=True)

    def start(self) -> None:
        """Start the thread; the first renewal is one interval away."""
        self._thread.start()

    async def stop(self) -> None:
        """Stop the thread and wait for its end."""
        self._stopping.set()
        if self._loop is not None and self._stop is not None:
            try:
                self._loop.call_soon_threadsafe(self._stop.set)
            except RuntimeError:
                return  # its loop is closed already
        await asyncio.to_thread(self._thread.join, STOP_WAIT_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._renew_until_stopped())
        except Exception:
            faults.exception("the lease renewer failed; this worker's leases run out")

    async def _renew_until_stopped(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        pool = sibling(self._redis.connection_pool)
        client: Redis = Redis(connection_pool=pool)
        # A renewal that is not answered in time is sent again, on another connection, before the lease runs out.
        store = Store(client, self._keys, reply_timeout_s=max(MIN_REPLY_S, self._settings.interval_s))
        pause_s = self._settings.interval_s
        watching = asyncio.ensure_future(self._watch(store)) if self.watchdog is not None else None
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await self._until(stopped, self._connect(store))
            while not self._stopping.is_set():
                await asyncio.wait([stopped], timeout=pause_s)
                if not stopped.done():
                    pause_s = await self._until(stopped, self._renew_safely(store)) or 0.0
        finally:
            stopped.cancel()
            if watching is not None:
                watching.cancel()
            await store.close()
            await client.aclose(close_connection_pool=True)
            await close_sentinels(pool)

    async def _until(self, stopped: "asyncio.Future[Any]", work: Awaitable[float | None]) -> float | None:
        """Work until it is done, or until this thread is told to stop."""
        task = asyncio.ensure_future(work)
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    async def _connect(self, store: Store) -> None:
        """Connect at the start: when there are leases to renew there may be no file descriptor left for it."""
        try:
            await store.connect()
        except (RedisError, OSError) as error:
            logger.warning("the lease renewer has no connection yet: %s", error)

    async def _watch(self, store: Store) -> None:
        """Ask the worker's loop for a sign of life each second, and the watchdog about it when there is none."""
        while True:
            with contextlib.suppress(RuntimeError):  # the worker's loop is closed
                self._worker_loop.call_soon_threadsafe(self._sign_of_life)
            await asyncio.sleep(WATCH_S)
            if self.watchdog is not None and time.monotonic() - self._seen_alive > 2 * WATCH_S:
                try:
                    blocked_s = time.monotonic() - self._seen_alive
                    await self.watchdog.check(store, self._worker_thread, blocked_s)
                except Exception:
                    faults.exception("the jobs of a stuck worker could not be given back")

    async def _renew_safely(self, store: Store) -> float:
        """Renew once; returns the seconds until the next renewal."""
        started = time.monotonic()
        try:
            await self.renew(store)
        except (RedisError, OSError) as error:
            if self._failures % WARN_EVERY == 0:
                logger.warning("leases could not be renewed, trying again: %s: %s", type(error).__name__, error)
            self._failures += 1
            return min(0.25, self._settings.interval_s)
        self._failures = 0
        return max(0.01, self._settings.interval_s - (time.monotonic() - started))

    async def renew(self, store: Store) -> None:
        """Renew once, unless the worker's loop is stuck."""
        try:
            self._worker_loop.call_soon_threadsafe(self._sign_of_life)
        except RuntimeError:
            return  # the worker's loop is closed
        if time.monotonic() - self._seen_alive > self._settings.stuck_after_s:
            self._say_stuck()
            return
        self._stuck = False
        leases = self._leased()
        if not leases:
            return
        renewal = await store.renew(leases, self._settings.lease_ms, aborts=self._settings.aborts)
        if renewal.lost or renewal.aborted:
            self._worker_loop.call_soon_threadsafe(self._report, renewal)

    def _sign_of_life(self) -> None:
        self._seen_alive = time.monotonic()

    def _say_stuck(self) -> None:
        if self._stuck:
            return
        self._stuck = True
        frame = sys._current_frames().get(self._worker_thread)
        stack = "".join(traceback.format_stack(frame)) if frame else "(no stack)"
        faults.critical(
            "the event loop has been blocked for over %.0f s; its jobs' leases are no longer renewed:\n%s",
            self._settings.stuck_after_s,
            stack,
        )
