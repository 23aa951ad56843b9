"""When to claim jobs, and how many. No I/O: `sync_loop.py` asks for the next request and reports the reply.

A claim is worth a round trip when something says that jobs may be due: this worker was woken, a timer for the next due
job ran out, the safety-net poll came round, or the last claim found as many jobs as it had slots. Otherwise the worker
has registered as waiting, and the next enqueue wakes it.

A worker without jobs makes an offer with its claim, or when its last job ends: the enqueue that wakes it may send the
job along, leased under the number of the offer (`store/lua/_delivery.lua`). An offer is good for one job, until the
next claim is sent: that one puts back what was sent and has not been taken in. A job that was sent more than half a
lease ago (this process was stopped meanwhile) is not taken in: it may be another's by now. The message says when it was
sent, on Redis' clock; and what that clock showed is known of the latest claim, to within its round trip: a message may
seem older than it is by so much, never younger.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ...protocol.clock import steady_s
from ...protocol.constants import BATCH
from ...store.records import Claimed, ClaimRequest, Offer
from .shares import QueueShares

__all__ = ("ClaimPolicy", "ClaimSettings")

# A claim that was cut to a fair share has woken another worker for the rest; this one looks again if that one does not.
LOOK_AGAIN_MS = 200
# So much work is a moment's: a worker that claims it whole is as fast as several that are woken for it.
MOMENT_MS = 10.0
FASTEST_MS = 0.1
CLOCK_STEP_MS = 1000  # a message from further ahead shows that Redis' clock was set, or this one stood still


@dataclass(frozen=True, slots=True)
class ClaimSettings:
    """What stays the same in every claim of a worker. Times in ms."""

    queue: str
    worker_id: str
    lease_ms: int
    margin_ms: int
    read_limit: int
    wait: bool
    aborts: bool
    max_crashes: int
    offer_ms: int = 0  # how long an offer to be sent a job stands; 0: none is made
    shares: QueueShares | None = None  # of several queues


class ClaimPolicy:
    """Decides on claims.

    :param settings: of every claim
    :param free_slots: how many jobs could start now
    :param holds_suspect: whether a job runs here that has ended several workers
    :param holds_none: whether no job is here
    :param after: number of the worker's latest claim before these
    :param run_ms: how long jobs have run lately
    """

    def __init__(
        self,
        settings: ClaimSettings,
        free_slots: Callable[[], int],
        holds_suspect: Callable[[], bool],
        holds_none: Callable[[], bool] = lambda: False,
        after: int = 0,
        run_ms: Callable[[], float] = lambda: MOMENT_MS,
    ) -> None:
        self.settings = settings
        self.active = False
        # Take no jobs: as if no slot were free, so that no claim registers as waiting, and each passes wake-ups on.
        self.quiet = False
        self._free_slots = free_slots
        self._holds_suspect = holds_suspect
        self._holds_none = holds_none
        self._run_ms = run_ms
        self.number = after  # of the latest claim or offer
        self._offer = 0  # number of the offer on which a job may still come
        self._may_stand = True  # Redis may have an offer of this worker
        self._offered_at = self._claimed_at = 0.0
        self._redis_clock: tuple[float, int] | None = None  # a time of ours, and of Redis' clock then or later (ms)
        self.taken = 0  # number of the offer on which a job was taken in last
        self._may_be_due = False  # claim as soon as there is a slot
        self._claim_now = False  # claim once even without a slot: for aborts, and to pass a wake-up on

    def claim_soon(self) -> None:
        """Jobs may be due, or aborts requested: claim with the next round trip."""
        self._may_be_due = self._claim_now = True
        if self.settings.shares is not None:
            self.settings.shares.expect_jobs()

    @property
    def takes_jobs(self) -> bool:
        """The worker claims, and is not draining."""
        return self.active and not self.quiet

    def next_request(self) -> ClaimRequest | None:
        """The claim to send now, if one is worth it."""
        if not self.active or not self._may_be_due:
            return None
        slots = self._slots()
        shares = self.settings.shares
        if not self._claim_now and (slots == 0 if shares is None else not shares.worth_asking(slots)):
            return None
        self._claim_now = False
        return self.request(slots)

    def _slots(self) -> int:
        return 0 if self.quiet else max(0, min(self._free_slots(), self.settings.read_limit, BATCH))

    def request(self, slots: int, only: tuple[str, ...] = ()) -> ClaimRequest:
        """A claim for that many slots, of given ids only if there are some."""
        settings = self.settings
        wait = settings.wait and self.active
        offers = wait and settings.offer_ms > 0 and slots > 0 and not only and self._holds_none()
        self.number += 1
        withdraws, self._may_stand = self._may_stand, self._may_stand or offers
        self._claimed_at = steady_s()
        if not only:  # a claim of given jobs leaves the offer that stands
            self._offer = self.number if offers else 0
            self._offered_at = steady_s()
        return ClaimRequest(
            queue=settings.queue,
            worker_id=settings.worker_id,
            number=self.number,
            slots=slots,
            lease_ms=settings.lease_ms,
            margin_ms=settings.margin_ms,
            wait=wait,
            aborts=settings.aborts,
            holds_suspect=self._holds_suspect(),
            max_crashes=settings.max_crashes,
            only=only,
            shares=() if settings.shares is None or only else settings.shares.shares(slots),
            taken=self.taken,
            offer_ms=settings.offer_ms if offers else 0,
            withdraws=withdraws,
            quick=max(1, int(MOMENT_MS / max(self._run_ms(), FASTEST_MS))),
        )

    def next_offer(self) -> Offer | None:
        """The offer to make now that a job has ended, if that was the last one and none stands."""
        settings = self.settings
        if self._offer or not settings.offer_ms or not settings.wait or not self.takes_jobs:
            return None
        if not self._holds_none() or self._free_slots() == 0:
            return None
        self.number += 1
        self._offer, self._offered_at = self.number, steady_s()
        self._may_stand = True
        return Offer(
            queue=settings.queue,
            worker_id=settings.worker_id,
            number=self.number,
            lease_ms=settings.lease_ms,
            margin_ms=settings.margin_ms,
            stands_ms=settings.offer_ms,
        )

    def withdraw_offer(self) -> None:
        """Take in no job any more on the offer that stands."""
        self._offer = 0

    def repeat(self, request: ClaimRequest) -> ClaimRequest:
        """The same claim to be sent again, because its reply was lost. Its offer is withdrawn.

        One on whose offer a job was taken in has brought no others: that one is another claim, for the slots that are
        left, and does not bring the job once more.
        """
        self.withdraw_offer()
        if request.number == self.taken:
            request = self.request(self._slots())
            self.withdraw_offer()
        return request._replace(taken=self.taken, offer_ms=0, withdraws=True)

    def too_late(self, sent_s: float) -> bool:
        """Whether that was half a lease ago (`steady_s`): what was leased then may be another worker's by now."""
        return steady_s() - sent_s >= self.settings.lease_ms / 2000

    def _is_fresh(self, sent_ms: int | None) -> bool:
        """Whether a message was sent less than half a lease ago."""
        if sent_ms is None or self._redis_clock is None:  # not before the offer was made
            return not self.too_late(self._offered_at)
        at_s, redis_ms = self._redis_clock
        age_ms = (steady_s() - at_s) * 1000 - (sent_ms - redis_ms)
        return -CLOCK_STEP_MS < age_ms < self.settings.lease_ms / 2

    def takes(self, number: int, sent_ms: int | None = None) -> bool:
        """A job came on the offer of that number: whether it is to be run. If not, the next claim puts it back.

        :param sent_ms: when it was sent, on Redis' clock
        """
        in_time = self._is_fresh(sent_ms)
        if number != self._offer or not in_time or not self.takes_jobs or self._free_slots() == 0:
            return False
        self._offer, self.taken = 0, number
        return True

    def learn(self, request: ClaimRequest, claimed: Claimed) -> int | None:
        """Take in the reply; returns the ms after which to claim again, or None to wait for a wake-up or the poll."""
        if claimed.now_ms and not request.only:
            self._redis_clock = (self._claimed_at, claimed.now_ms)
        if request.wait and not request.only and request.number == self.number:
            self._may_stand = request.offer_ms > 0 and not claimed.jobs
        if claimed.jobs and request.number == self._offer:
            self._offer = 0  # a claim that finds jobs makes none
        shares = self.settings.shares if request.shares else None
        if shares is not None:
            shares.learn(request, claimed)
        if claimed.shared:
            self._may_be_due = self._claim_now
            return LOOK_AGAIN_MS if claimed.next_due_in_ms < 0 else min(LOOK_AGAIN_MS, claimed.next_due_in_ms)
        if request.slots == 0 and claimed.next_due_in_ms == 0:
            return 0  # flows have something left to do, for which no slot is needed
        found_enough = len(claimed.jobs) >= request.slots
        if shares is not None:
            self._may_be_due = True  # `worth_asking` tells which queues
        else:
            self._may_be_due = found_enough or self._claim_now
        return claimed.next_due_in_ms if not found_enough and claimed.next_due_in_ms >= 0 else None
