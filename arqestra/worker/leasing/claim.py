"""When to claim jobs, and how many. No I/O: `sync_loop.py` asks for the next request, sends it, and reports the reply.

A claim costs a round trip. So the worker claims only when jobs may be due: a message woke it, the timer for the next
due job ran out, the main loop polls, or the last claim found as many jobs as it had slots. Otherwise the worker waits:
its last claim has registered it in Redis, and the next enqueue wakes it.

Offers (docs/protocols.md, "Deliveries and offers"): a worker without jobs makes an offer, with its claim or when its
last job ends. The next enqueue may lease one job to this worker, under the number of the offer, and send the job in the
wake-up. The offer ends with the worker's next claim, or when its time is over. If a job was sent and did not arrive,
the next claim puts it back.

A delivered job that was sent half a lease ago, or earlier, is not started: another worker may have it soon. The message
carries Redis' time. The worker knows Redis' time from the reply to its last claim, and counts on from the moment at
which it *sent* that claim. So a message can look too old, never too new.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ...protocol.clock import steady_s
from ...protocol.constants import BATCH
from ...store.records import Claimed, ClaimRequest, Offer
from .shares import QueueShares

__all__ = ("ClaimPolicy", "ClaimSettings")

# A claim that was cut to a fair share wakes another worker for the rest. This one claims again after so long, in case
# the other one does not.
CLAIM_AGAIN_MS = 200
# A worker that claims so much work at once is as fast as several workers that are woken for it.
MOMENT_MS = 10.0
FASTEST_MS = 0.1
CLOCK_STEP_MS = 1000  # a message from further ahead shows that Redis' clock was set, or this one stood still


@dataclass(frozen=True, slots=True)
class ClaimSettings:
    """What stays the same in every claim of a worker. Times in ms.

    :ivar margin_ms: how long a lease's record outlives the lease
    :ivar read_limit: jobs that one claim takes at most
    :ivar wait: a claim that leaves slots free registers the worker as waiting; not in a burst
    :ivar aborts: claims also take jobs that are to be aborted
    :ivar max_crashes: crashes at which a job is dead
    :ivar offer_ms: how long an offer stands; 0: the worker makes none
    :ivar queue_shares: of several queues; None: there is one
    """

    queue: str
    worker_id: str
    lease_ms: int
    margin_ms: int
    read_limit: int
    wait: bool
    aborts: bool
    max_crashes: int
    offer_ms: int = 0
    queue_shares: QueueShares | None = None


class ClaimPolicy:
    """Decides on claims.

    :param settings: of every claim
    :param free_slots: how many jobs could start now
    :param holds_suspect: whether a job runs here whose crashes make it a suspect
    :param holds_none: whether no job is here
    :param after: number of the worker's latest claim, in an earlier session
    :param run_ms: how long jobs have run lately
    :ivar active: the worker has started and may claim; not before it listens, nor after it has stopped
    :ivar quiet: it drains. Its claims ask for 0 slots, so they take nothing and do not register it as waiting; they
        still wake another worker if jobs are due
    :ivar number: of the latest claim or offer
    :ivar last_used_offer: number of the last offer that brought a job
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
        self.active = self.quiet = False
        self._free_slots = free_slots
        self._holds_suspect = holds_suspect
        self._holds_none = holds_none
        self._run_ms = run_ms
        self.number = after
        self._offer = 0  # number of the offer that may still bring a job; 0: none
        self._may_have_offer = True  # Redis may still have an offer of this worker
        self._offered_at = self._claimed_at = 0.0
        self._redis_clock: tuple[float, int] | None = None  # a time of ours, and what Redis' clock showed then or later
        self.last_used_offer = 0
        self._claim_when_slot_free = False
        self._claim_even_without_slot = False  # once: for aborts, and to pass a wake-up on

    def claim_soon(self) -> None:
        """Jobs may be due, or aborts requested: claim with the next round trip."""
        self._claim_when_slot_free = self._claim_even_without_slot = True
        if self.settings.queue_shares is not None:
            self.settings.queue_shares.expect_jobs()

    @property
    def takes_jobs(self) -> bool:
        """The worker claims, and is not draining."""
        return self.active and not self.quiet

    def next_request(self) -> ClaimRequest | None:
        """The claim to send now, if one is worth it."""
        if not self.active or not self._claim_when_slot_free:
            return None
        slots = self._slots()
        shares = self.settings.queue_shares
        if not self._claim_even_without_slot and (slots == 0 if shares is None else not shares.worth_asking(slots)):
            return None
        self._claim_even_without_slot = False
        return self.request(slots)

    def _slots(self) -> int:
        return 0 if self.quiet else max(0, min(self._free_slots(), self.settings.read_limit, BATCH))

    def request(self, slots: int, only: tuple[str, ...] = ()) -> ClaimRequest:
        """A claim for that many slots.

        :param only: claim these ids alone, if they are due: for `start_jobs`, in tests that were written against arq
        """
        settings = self.settings
        wait = settings.wait and self.active
        offers = wait and settings.offer_ms > 0 and slots > 0 and not only and self._holds_none()
        self.number += 1
        may_have_offer, self._may_have_offer = self._may_have_offer, self._may_have_offer or offers
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
            shares=() if settings.queue_shares is None or only else settings.queue_shares.shares(slots),
            last_used_offer=self.last_used_offer,
            offer_ms=settings.offer_ms if offers else 0,
            may_have_offer=may_have_offer,
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
        self._may_have_offer = True
        return Offer(
            queue=settings.queue,
            worker_id=settings.worker_id,
            number=self.number,
            lease_ms=settings.lease_ms,
            margin_ms=settings.margin_ms,
            stands_ms=settings.offer_ms,
        )

    def withdraw_offer(self) -> None:
        """Start no job any more that the offer brings."""
        self._offer = 0

    def repeat(self, request: ClaimRequest) -> ClaimRequest:
        """The same claim, to be sent again because its reply was lost; without its offer.

        Redis keeps an offer only if the claim found no job. So if a job came on this claim's offer, the lost reply was
        empty, and a repeat under the same number would return the delivered job a second time: a new claim is made.
        """
        self.withdraw_offer()
        if request.number == self.last_used_offer:
            request = self.request(self._slots())
            self.withdraw_offer()
        return request._replace(last_used_offer=self.last_used_offer, offer_ms=0, may_have_offer=True)

    def too_late(self, sent_s: float) -> bool:
        """Whether half a lease has passed: another worker may have by now what was leased then.

        :param sent_s: when the claim was sent, by `steady_s`
        """
        return steady_s() - sent_s >= self.settings.lease_ms / 2000

    def _is_fresh(self, sent_ms: int | None) -> bool:
        """Whether a message was sent less than half a lease ago."""
        if sent_ms is None or self._redis_clock is None:  # all that is known: it was sent after the offer
            return not self.too_late(self._offered_at)
        at_s, redis_ms = self._redis_clock
        age_ms = (steady_s() - at_s) * 1000 - (sent_ms - redis_ms)
        return -CLOCK_STEP_MS < age_ms < self.settings.lease_ms / 2

    def takes(self, number: int, sent_ms: int | None = None) -> bool:
        """Whether a delivered job is to be started. If not, the next claim puts it back.

        :param number: of the offer that brought it
        :param sent_ms: when it was sent, on Redis' clock
        """
        in_time = self._is_fresh(sent_ms)
        if number != self._offer or not in_time or not self.takes_jobs or self._free_slots() == 0:
            return False
        self._offer, self.last_used_offer = 0, number
        return True

    def learn(self, request: ClaimRequest, claimed: Claimed) -> int | None:
        """Learn from a claim's reply. Returns the ms after which to claim again; None: wait for a wake-up or a poll."""
        if claimed.now_ms and not request.only:
            self._redis_clock = (self._claimed_at, claimed.now_ms)
        if request.wait and not request.only and request.number == self.number:
            self._may_have_offer = request.offer_ms > 0 and not claimed.jobs
        if claimed.jobs and request.number == self._offer:
            self._offer = 0  # a claim that finds jobs makes none
        shares = self.settings.queue_shares if request.shares else None
        if shares is not None:
            shares.learn(request, claimed)
        if claimed.left_jobs_for_others:
            # A wake-up that came while this claim was under way asks for another claim.
            self._claim_when_slot_free = self._claim_even_without_slot
            return CLAIM_AGAIN_MS if claimed.next_due_in_ms < 0 else min(CLAIM_AGAIN_MS, claimed.next_due_in_ms)
        if request.slots == 0 and claimed.next_due_in_ms == 0:
            return 0  # flows have something left to do, for which no slot is needed
        found_enough = len(claimed.jobs) >= request.slots  # 0 of 0 too: jobs may still be due
        if shares is not None:
            self._claim_when_slot_free = True  # `worth_asking` tells which queues
        else:  # a wake-up that came while this claim was under way asks for another claim
            self._claim_when_slot_free = found_enough or self._claim_even_without_slot
        return claimed.next_due_in_ms if not found_enough and claimed.next_due_in_ms >= 0 else None
