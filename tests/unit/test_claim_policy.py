"""When a worker claims, and how many: `worker/leasing/claim.py` is pure."""

from __future__ import annotations

import pytest

from arqestra.protocol.clock import steady_s
from arqestra.protocol.constants import BATCH
from arqestra.store.records import Claimed, ClaimRequest, LeasedJob, Offer
from arqestra.worker.leasing import claim
from arqestra.worker.leasing.claim import CLAIM_AGAIN_MS, ClaimPolicy, ClaimSettings

SETTINGS = ClaimSettings("q", "w1", 15_000, 600_000, 100, True, True, 3, 2_000)


class Desk:
    """A policy, and the slots of its worker."""

    def __init__(self, settings: ClaimSettings = SETTINGS, slots: int = 10) -> None:
        self.slots = slots
        self.holds_suspect = False
        self.holds_none = False
        self.policy = ClaimPolicy(settings, lambda: self.slots, lambda: self.holds_suspect, lambda: self.holds_none)
        self.policy.active = True

    def asked(self) -> ClaimRequest:
        """The request that is made; there must be one."""
        request = self.policy.next_request()
        assert request is not None
        return request


def _reply(jobs: int, *, next_due_in_ms: int = -1, shared: bool = False) -> Claimed:
    job = LeasedJob("q", "w1.1", 0, "a", b"", 1, 0, 0, "")
    return Claimed([job] * jobs, jobs, next_due_in_ms, shared)


def test_nothing_is_asked_without_a_reason() -> None:
    assert Desk().policy.next_request() is None


def test_a_look_is_one_claim() -> None:
    desk = Desk()
    desk.policy.claim_soon()
    request = desk.asked()
    assert (request.slots, request.queue, request.worker_id, request.number) == (10, "q", "w1", 1)
    assert (request.wait, request.aborts, request.lease_ms, request.max_crashes) == (True, True, 15_000, 3)

    assert desk.policy.learn(request, _reply(3)) is None
    assert desk.policy.next_request() is None


def test_each_claim_has_a_number_of_its_own() -> None:
    desk = Desk()
    tokens = []
    for _ in range(3):
        desk.policy.claim_soon()
        tokens.append(desk.asked().token)

    assert tokens == ["w1.1", "w1.2", "w1.3"]


def test_a_claim_that_filled_all_slots_is_followed_by_another_when_a_slot_is_free() -> None:
    desk = Desk()
    desk.policy.claim_soon()
    desk.policy.learn(desk.asked(), _reply(10))
    desk.slots = 0
    assert desk.policy.next_request() is None
    desk.slots = 2

    assert desk.asked().slots == 2


def test_a_look_without_a_free_slot_is_one_claim_of_none() -> None:
    """For requests to abort, and to pass a wake-up on."""
    desk = Desk(slots=0)
    desk.policy.claim_soon()
    request = desk.asked()
    assert request.slots == 0

    desk.policy.learn(request, _reply(0))
    assert desk.policy.next_request() is None
    desk.slots = 1
    assert desk.asked().slots == 1


def test_a_wake_up_during_a_claim_is_not_lost() -> None:
    desk = Desk()
    desk.policy.claim_soon()
    request = desk.asked()
    desk.policy.claim_soon()
    desk.policy.learn(request, _reply(0))

    assert desk.policy.next_request() is not None


def test_a_fair_share_leaves_the_others_time_for_theirs() -> None:
    desk = Desk()
    desk.policy.claim_soon()

    assert desk.policy.learn(desk.asked(), _reply(5, shared=True)) == CLAIM_AGAIN_MS
    assert desk.policy.next_request() is None


def test_a_wake_up_during_a_claim_that_is_cut_is_not_lost() -> None:
    desk = Desk()
    desk.policy.claim_soon()
    request = desk.asked()
    desk.policy.claim_soon()
    desk.policy.learn(request, _reply(5, shared=True))

    assert desk.policy.next_request() is not None


def test_a_worker_of_small_jobs_asks_for_a_moments_work_at_once() -> None:
    run_ms = 1000.0
    policy = ClaimPolicy(SETTINGS, lambda: 10, lambda: False, run_ms=lambda: run_ms)

    assert policy.request(10).quick == 1
    run_ms = 2.0
    assert policy.request(10).quick == 5
    run_ms = 0.0
    assert policy.request(10).quick == 100


def test_the_next_due_time_is_the_time_to_look_again() -> None:
    desk = Desk()
    desk.policy.claim_soon()
    assert desk.policy.learn(desk.asked(), _reply(0, next_due_in_ms=250)) == 250
    desk.policy.claim_soon()
    assert desk.policy.learn(desk.asked(), _reply(10, next_due_in_ms=250)) is None


def test_a_worker_asks_for_no_more_than_its_read_limit_and_a_chunk() -> None:
    many = Desk(slots=50_000)
    many.policy.claim_soon()
    assert many.asked().slots == 100
    unlimited = Desk(ClaimSettings("q", "w1", 1, 1, 100_000, True, True, 3), slots=50_000)
    unlimited.policy.claim_soon()
    assert unlimited.asked().slots == BATCH


def test_negative_slots_are_none() -> None:
    desk = Desk(slots=-3)
    desk.policy.claim_soon()

    assert desk.asked().slots == 0


def test_a_worker_that_stops_asks_for_nothing() -> None:
    desk = Desk()
    desk.policy.claim_soon()
    desk.policy.active = False

    assert desk.policy.next_request() is None
    assert not desk.policy.request(1).wait


def _idle_desk() -> Desk:
    """Its first claim has made an offer."""
    desk = Desk()
    desk.holds_none = True
    desk.policy.claim_soon()
    assert desk.asked().offer_ms == SETTINGS.offer_ms
    return desk


def test_a_worker_with_a_job_makes_no_offer_and_takes_in_none() -> None:
    desk = Desk()
    desk.policy.claim_soon()

    assert desk.asked().offer_ms == 0
    assert not desk.policy.takes(1)


def test_an_offer_is_good_for_one_job_and_the_next_claim_says_that_it_came() -> None:
    desk = _idle_desk()
    assert desk.policy.takes(1)
    assert not desk.policy.takes(1)
    desk.policy.claim_soon()
    assert desk.asked().last_used_offer == 1
    desk.policy.claim_soon()

    assert desk.asked().last_used_offer == 1


def test_what_comes_after_the_next_claim_was_sent_is_left_to_that_claim() -> None:
    desk = _idle_desk()
    desk.policy.claim_soon()
    request = desk.asked()

    assert not desk.policy.takes(1)
    assert request.last_used_offer == 0
    assert desk.policy.takes(request.number)


def test_what_comes_too_late_may_be_anothers_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = _idle_desk()
    sent_at = steady_s()
    monkeypatch.setattr(claim, "steady_s", lambda: sent_at + SETTINGS.lease_ms / 2000)

    assert not desk.policy.takes(1)


def test_a_worker_whose_last_job_has_ended_makes_an_offer_without_a_claim() -> None:
    desk = Desk()
    desk.policy.claim_soon()
    desk.policy.learn(desk.asked(), _reply(0))
    assert desk.policy.next_offer() is None
    desk.holds_none = True

    assert desk.policy.next_offer() == Offer("q", "w1", 2, 15_000, 600_000, 2_000)
    assert desk.policy.next_offer() is None
    assert desk.policy.takes(2)
    assert desk.policy.next_offer() == Offer("q", "w1", 3, 15_000, 600_000, 2_000)


def test_a_claim_that_found_jobs_has_made_no_offer_and_the_last_of_them_makes_one() -> None:
    desk = _idle_desk()
    desk.policy.claim_soon()
    desk.policy.learn(desk.asked(), _reply(1))

    assert not desk.policy.takes(2)
    offer = desk.policy.next_offer()
    assert offer is not None
    assert offer.number == 3


@pytest.mark.parametrize("why", ["it stops", "it takes no more jobs", "it has no slot"])
def test_a_worker_that_takes_no_jobs_takes_in_none(why: str) -> None:
    desk = _idle_desk()
    if why == "it stops":
        desk.policy.active = False
    elif why == "it takes no more jobs":
        desk.policy.quiet = True
    else:
        desk.slots = 0

    assert not desk.policy.takes(1)
    assert desk.policy.last_used_offer == 0


def test_a_worker_that_leaves_takes_in_nothing_on_the_offer_that_stands() -> None:
    desk = _idle_desk()
    desk.policy.withdraw_offer()

    assert not desk.policy.takes(1)


def test_a_claim_of_given_jobs_leaves_the_offer_alone() -> None:
    desk = _idle_desk()
    assert desk.policy.request(1, ("a",)).offer_ms == 0

    assert desk.policy.takes(1)


def test_numbers_go_on_from_those_of_an_earlier_life() -> None:
    policy = ClaimPolicy(SETTINGS, lambda: 1, lambda: False, after=41)

    assert policy.request(1).number == 42


def test_a_claim_that_is_sent_again_makes_no_offer() -> None:
    desk = Desk()
    desk.holds_none = True
    desk.policy.claim_soon()
    request = desk.asked()
    again = desk.policy.repeat(request)

    assert again == request._replace(offer_ms=0)
    assert not desk.policy.takes(1)


def test_a_claim_that_is_sent_again_after_its_offer_was_used_is_another_one() -> None:
    """Else the job that has come already would come as one of those whose reply was lost."""
    desk = Desk()
    desk.holds_none = True
    desk.policy.claim_soon()
    request = desk.asked()
    assert desk.policy.takes(1)
    desk.slots -= 1
    again = desk.policy.repeat(request)

    assert (again.number, again.last_used_offer, again.offer_ms, again.slots) == (2, 1, 0, 9)
    assert desk.policy.repeat(again).number == 2
    desk.policy.claim_soon()
    assert desk.asked().number == 3


def test_a_worker_that_holds_a_suspect_says_so() -> None:
    desk = Desk()
    desk.holds_suspect = True
    desk.policy.claim_soon()

    assert desk.asked().holds_suspect


def test_given_ids_are_asked_for_alone() -> None:
    assert Desk().policy.request(2, ("a", "b")).only == ("a", "b")


@pytest.mark.parametrize(
    ("later_s", "sent_after_ms", "is_taken"),
    [
        (100.0, 99_900, True),  # the offer is old, the message is not
        (100.0, 100_005, True),
        (100.0, 90_000, False),
        (8.0, 0, False),
        (0.1, 20_000, False),  # Redis' clock was set, or this machine stood still
    ],
)
def test_a_message_is_judged_by_when_it_was_sent(
    monkeypatch: pytest.MonkeyPatch, later_s: float, sent_after_ms: int, is_taken: bool
) -> None:
    desk = Desk()
    desk.holds_none = True
    desk.policy.claim_soon()
    claimed_at, redis_ms = steady_s(), 1_700_000_000_000
    desk.policy.learn(desk.asked(), _reply(0)._replace(now_ms=redis_ms))
    monkeypatch.setattr(claim, "steady_s", lambda: claimed_at + later_s)

    assert desk.policy.takes(1, redis_ms + sent_after_ms) is is_taken


def test_a_claim_withdraws_the_offers_that_redis_may_have() -> None:
    desk = Desk()

    def asked(*, holds_none: bool = False) -> ClaimRequest:
        desk.holds_none = holds_none
        desk.policy.claim_soon()
        return desk.asked()

    assert asked().may_have_offer  # an earlier life of this worker may have made one
    assert asked().may_have_offer  # the reply to that claim has not come
    desk.policy.learn(asked(), _reply(1))
    assert not asked().may_have_offer
    offering = asked(holds_none=True)
    assert (offering.offer_ms, offering.may_have_offer) == (2_000, False)
    assert desk.policy.repeat(offering).may_have_offer
    desk.policy.learn(offering, _reply(0))
    claim = asked()
    assert claim.may_have_offer
    desk.policy.learn(claim, _reply(0))
    assert not asked().may_have_offer


def test_an_offer_of_a_claim_that_found_jobs_does_not_stand() -> None:
    desk = Desk()
    desk.holds_none = True
    desk.policy.claim_soon()
    desk.policy.learn(desk.asked(), _reply(1))
    desk.policy.claim_soon()
    assert not desk.asked().may_have_offer


def test_a_claim_after_an_offer_that_was_made_without_one_withdraws_it() -> None:
    desk = Desk()
    desk.policy.claim_soon()
    desk.policy.learn(desk.asked(), _reply(1))
    desk.holds_none = True
    assert desk.policy.next_offer() is not None
    desk.holds_none = False
    desk.policy.claim_soon()
    assert desk.asked().may_have_offer
