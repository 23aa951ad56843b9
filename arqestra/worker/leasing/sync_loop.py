"""The worker's conversation with Redis: one round trip at a time, outcomes out and claimed jobs in.

Outcomes that pile up while a round trip is under way go together in the next one (group commit), without any added wait
when the worker is idle; and the slots that they free are filled by the claim that travels with them. Where many jobs
run, Redis works on one half of them while the event loop runs the other half.

When a reply was lost, the round trip is sent again. Its updates stay as they are: finishing twice is harmless. The
claim keeps its number, so it gets the same jobs, but it withdraws its offer. If a job already came on this offer, a new
claim is sent in its place (`ClaimPolicy.repeat`).
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable

from redis.exceptions import ResponseError

from ...protocol.clock import steady_s
from ...protocol.constants import BATCH
from ...store.enqueue import BATCH_BYTES
from ...store.link import RETRYABLE
from ...store.records import Claimed, ClaimRequest, Delivery, LeasedJob, Offer
from ...store.replies import ClaimRefused
from ...store.store import KEEP_DEAD_MS, Store
from ...store.updates import Update
from .claim import ClaimPolicy

__all__ = ("SyncLoop",)

logger = logging.getLogger("arq.worker")
faults = logging.getLogger("arq.worker.faults")  # what is no job's own failure: observed.py

RECONNECT_S = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
ERROR_PAUSE_S = 1.0
CLAIM_WAIT_S = 5.0  # at the end, for jobs that a claim may bring, which are then given back
A_DAY_MS = 86_400_000
WHOLE = 32  # so many jobs start together: twice as many round trips would cost more than they overlap


class SyncLoop:
    """Sends outcomes and fetches jobs.

    :param store: where to
    :param claims: decides what to fetch
    :param start: called with each job that was claimed
    :param keep_dead_ms: how long the dead set keeps a job
    :param resolve: called with each outcome that was sent, and whether Redis has taken it: False if the lease was lost,
        None if nobody can tell
    """

    def __init__(
        self,
        store: Store,
        claims: ClaimPolicy,
        start: Callable[[LeasedJob], None],
        resolve: Callable[[Update, bool | None], None],
        keep_dead_ms: int = KEEP_DEAD_MS,
    ) -> None:
        self._store = store
        self._claims = claims
        self._start = start
        self._resolve = resolve
        self._keep_dead_ms = keep_dead_ms
        # Jobs that end start round trips; the jobs that a round trip starts must not see those jobs' context variables.
        self._context = contextvars.copy_context()
        self._updates: list[Update] = []
        self._under_way: list[Update] = []  # sent, and not answered yet
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told_due = False  # by a message, since the last claim was sent
        self.became_idle = asyncio.Event()
        self.refused_claim: ResponseError | None = None  # the last claim, which Redis refused
        self.queued = -1  # entries in the queue at the last claim
        self.next_due_in_ms = -1  # of the next job, as the last claim said; -1: there is none
        self.is_quiet = False  # the latest claim found no jobs
        self._is_poll = False  # the next claim is made without a reason
        # Since the main loop asked last: claims have found jobs; no message had told of some of them.
        self.found = self.found_untold = False
        self.round_trips = self.errors = 0

    @property
    def idle(self) -> bool:
        """Nothing is under way and nothing waits to be sent."""
        return not self._updates and (self._task is None or self._task.done())

    def unwritten(self) -> list[Update]:
        """The outcomes that Redis may not have. For the thread of the lease renewer, while the loop is stuck."""
        return [*self._under_way, *self._updates]

    def submit(self, update: Update) -> None:
        """Send this outcome with the next round trip."""
        self._updates.append(update)
        self.wake()

    def claim_soon(self) -> None:
        """Jobs may be due: claim."""
        self._is_poll = False
        self._claims.claim_soon()
        self.wake()

    def poll(self) -> None:
        """Claim, in case there are jobs that no message has told of."""
        self.claim_soon()
        self._is_poll = True

    def accept(self, delivery: Delivery) -> None:
        """A wake-up came with a job: start it, and claim for the other slots."""
        if self._claims.takes(delivery.number, delivery.job.claimed_ms):
            self._context.copy().run(self._start, delivery.job)
        # When the job has had its first step: if it ended there, its outcome goes with the claim, behind what it told.
        asyncio.get_running_loop().call_soon(self.claim_soon)

    def wake(self) -> None:
        """Start a round trip unless one is under way; that one is followed by the next by itself."""
        if self._task is None or self._task.done():
            self.became_idle.clear()
            self._task = asyncio.get_running_loop().create_task(self._run(), context=self._context)

    def take_found(self) -> tuple[bool, bool]:
        """Whether claims have found jobs since the last call, and whether no message had told of some of them."""
        found = self.found, self.found_untold
        self.found = self.found_untold = False
        return found

    async def drain(self, timeout_s: float) -> bool:
        """Wait until all outcomes are written, or the time is up. For a claim alone nobody waits that long.

        :returns: whether Redis has them all
        """
        if self._timer is not None:
            self._timer.cancel()
        if not self.unwritten():
            timeout_s = min(timeout_s, CLAIM_WAIT_S)
        end_s = asyncio.get_running_loop().time() + timeout_s
        while not self.idle and self._task is not None:
            await asyncio.wait([self._task], timeout=max(0.0, end_s - asyncio.get_running_loop().time()))
            if not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task])
                return False
        return True

    async def claim_once(self, request: ClaimRequest) -> Claimed:
        """One claim outside the loop of round trips; errors are the caller's."""
        _, claimed = await self._store.turn((), request)
        assert claimed is not None
        self._count(claimed)
        for job in claimed.jobs:
            self._start(job)
        await self._cast_out(claimed)
        return claimed

    async def _run(self) -> None:
        while True:
            updates = self._next_updates()
            request = self._claims.next_request()
            if not updates and request is None:
                self.became_idle.set()
                return
            offer = self._claims.next_offer() if request is None else None
            self._under_way = updates
            try:
                await self._round_trip(updates, request, offer)
            except Exception:
                faults.exception("a turn went wrong; its %d outcomes are sent again", len(updates))
                self._updates[:0] = updates
                await asyncio.sleep(ERROR_PAUSE_S)
            finally:
                self._under_way = []

    def _next_updates(self) -> list[Update]:
        """The outcomes of the next round trip: bounded in number and bytes, or it might outlast the reply timeout."""
        size_bytes = count = 0
        for update in self._updates[:BATCH]:
            size_bytes += len(getattr(update, "result", b""))  # the only large part
            if count and size_bytes > BATCH_BYTES:
                break
            count += 1
        updates = self._updates[:count]
        del self._updates[:count]
        return updates

    async def _round_trip(self, updates: list[Update], request: ClaimRequest | None, offer: Offer | None) -> None:
        self._told_due = False
        told = not self._is_poll or not self.is_quiet or bool(updates)
        self._is_poll = False
        try:
            written, claimed, request = await self._send(updates, request, offer)
        except ClaimRefused as error:
            faults.exception("Redis refused a claim")
            self.refused_claim = error
            for update, ok in zip(updates, error.written, strict=True):
                self._resolve(update, ok)
            await asyncio.sleep(ERROR_PAUSE_S)
            return
        except ResponseError as error:
            faults.exception("Redis refused a turn of %d outcomes", len(updates))
            if not updates:
                self.refused_claim = error
            await self._send_singly(updates)
            return
        self.round_trips += 1
        for update, ok in zip(updates, written, strict=True):
            self._resolve(update, ok)
        if request is not None and claimed is not None:
            self.is_quiet = not claimed.jobs
            if claimed.jobs:
                self.found, self.found_untold = True, self.found_untold or not told
            await self._start_claimed(request, claimed)

    def _count(self, claimed: Claimed) -> None:
        """How many jobs are in the queues, if the claim has counted."""
        if claimed.queued >= 0:
            self.queued = claimed.queued

    async def _cast_out(self, claimed: Claimed) -> None:
        """Members of a queue that are no job ids are taken out of it: nobody could run or name them."""
        for queue, member in claimed.aliens:
            logger.error("queue %s: %r is no job id (it is no UTF-8), it is taken out of the queue", queue, member)
            try:
                await self._store.cast_out(queue, member)
            except (ResponseError, *RETRYABLE) as error:  # it is tried again when its lease has run out
                logger.warning("queue %s: %r could not be taken out: %s", queue, member, error)
        if claimed.aliens:
            self.claim_soon()

    async def _start_claimed(self, request: ClaimRequest, claimed: Claimed) -> None:
        self._count(claimed)
        self.refused_claim = None
        self.next_due_in_ms = claimed.next_due_in_ms
        delay_ms = self._claims.learn(request, claimed)
        if not self._told_due:
            self._claim_in(delay_ms)
        elif delay_ms is not None:  # the message may be newer than this reply: the earlier time counts
            self.due_in(delay_ms)
        jobs = claimed.jobs
        half = len(jobs) if self._updates or len(jobs) <= WHOLE else (len(jobs) + 1) // 2
        for job in jobs[:half]:
            self._start(job)
        if half < len(jobs):
            # Let the first half run, so that its outcomes travel while the second half runs.
            await asyncio.sleep(0)
            for job in jobs[half:]:
                self._start(job)
        if claimed.aliens:
            await self._cast_out(claimed)

    def _claim_in(self, delay_ms: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_ms is not None:
            delay_s = min(delay_ms, A_DAY_MS) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._timer_ran_out)

    def _timer_ran_out(self) -> None:
        self._timer = None
        self.claim_soon()

    def due_in(self, delay_ms: int) -> None:
        """This worker became the timer owner: the next job is due in that many ms."""
        due_at = asyncio.get_running_loop().time() + delay_ms / 1000
        if self._timer is None or self._timer.when() > due_at:
            self._claim_in(delay_ms)
        self._told_due = True

    async def _send(
        self, updates: list[Update], request: ClaimRequest | None, offer: Offer | None = None
    ) -> tuple[list[bool | None], Claimed | None, ClaimRequest | None]:
        """One round trip, repeated until Redis answers; returns also the claim that was made in the end.

        A reply that this process reads late (it was stopped, or its machine suspended) is as good as lost: the leases
        in it may be another worker's by now, so the same claim is made again.
        """
        failures = 0
        verdicts: list[bool | None] | None = None  # of the outcomes, once a reply has come
        while True:
            sent_s = steady_s()
            try:
                written, claimed = await self._store.turn(
                    updates if verdicts is None else (),
                    request,
                    offer=offer,
                    resent=failures > 0 or verdicts is not None,
                    keep_dead_ms=self._keep_dead_ms,
                )
            except RETRYABLE as error:
                pause_s = RECONNECT_S[min(failures, len(RECONNECT_S) - 1)]
                failures += 1
                self.errors += 1
                offer = None  # it may have been used; the next poll makes another
                self._claims.withdraw_offer()
                if request is not None:
                    request = self._claims.repeat(request)
                if failures in (2, 30):
                    logger.warning("Redis does not answer, trying again: %s: %s", type(error).__name__, error)
                await asyncio.sleep(pause_s)
            except ResponseError as error:
                if verdicts is None:
                    raise
                raise ClaimRefused(error, verdicts) from error
            else:
                if failures > 1:
                    logger.info("Redis answers again")
                verdicts = written if verdicts is None else verdicts
                if (
                    request is None
                    or not isinstance(claimed, Claimed)
                    or not claimed.jobs
                    or not self._claims.too_late(sent_s)
                ):
                    return verdicts, claimed, request
                logger.warning("the reply to a claim was read %.1f s after the claim was sent", steady_s() - sent_s)
                offer, request = None, self._claims.repeat(request)

    async def _send_singly(self, updates: list[Update]) -> None:
        """One refused outcome must not keep the others from being written; its job runs again after its lease."""
        for update in updates:
            try:
                written, _, _ = await self._send([update], None)
                self._resolve(update, written[0])
            except ResponseError:
                faults.exception("Redis refused the outcome of job %s", update.lease.id)
                self._resolve(update, False)
        await asyncio.sleep(ERROR_PAUSE_S)
