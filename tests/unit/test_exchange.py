"""When the exchange looks again: the times told by replies and by messages, in whichever order these come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ResponseError

from arqestra.store.records import Claimed, ClaimRequest, Delivery, LeasedJob, LeaseRef
from arqestra.store.replies import ClaimRefused
from arqestra.store.updates import Complete, Update
from arqestra.worker.leasing.claim import ClaimPolicy, ClaimSettings
from arqestra.worker.leasing.sync_loop import SyncLoop
from tests.support.wait import wait_until

SETTINGS = ClaimSettings("q", "w1", 15_000, 600_000, 100, True, False, 3)
OFFERING = replace(SETTINGS, offer_ms=2_000)
JOB = LeasedJob("q", "w1.1", 0, "a", b"", 1, 0, 0, "")
NOTHING = -1
SOON_MS = 20
LATE_MS = 60_000


class SlowStore:
    """Answers a claim when the test says so."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[asyncio.Future[int]] = asyncio.Queue()

    async def turn(self, updates: Sequence[Update], request: ClaimRequest, **_: Any) -> tuple[list[bool], Claimed]:
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait(reply)
        return [], Claimed([], 1, await reply, False)

    async def claim(self) -> asyncio.Future[int]:
        """The next claim, not answered yet."""
        async with asyncio.timeout(10):
            return await self.asked.get()


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
async def sync(store: SlowStore) -> SyncLoop:
    policy = ClaimPolicy(SETTINGS, lambda: 10, lambda: False)
    policy.active = True
    return SyncLoop(store, policy, lambda _: None, lambda *_: None)  # type: ignore[arg-type]


async def answer(sync: SyncLoop, claim: asyncio.Future[int], next_due_in_ms: int) -> None:
    claim.set_result(next_due_in_ms)
    async with asyncio.timeout(10):
        await sync.became_idle.wait()


async def test_it_looks_again_when_a_reply_says_that_a_job_is_due(sync: SyncLoop, store: SlowStore) -> None:
    sync.claim_soon()
    await answer(sync, await store.claim(), SOON_MS)

    await answer(sync, await store.claim(), NOTHING)


@pytest.mark.parametrize("reply_ms", [NOTHING, LATE_MS])
async def test_what_a_message_says_during_a_claim_outlasts_the_reply(
    sync: SyncLoop, store: SlowStore, reply_ms: int
) -> None:
    sync.claim_soon()
    claim = await store.claim()
    sync.due_in(SOON_MS)
    await answer(sync, claim, reply_ms)

    await answer(sync, await store.claim(), NOTHING)


async def test_a_message_is_heard_while_the_claim_of_a_timer_that_ran_out_is_under_way(
    sync: SyncLoop, store: SlowStore
) -> None:
    sync.due_in(0)
    claim = await store.claim()
    sync.due_in(SOON_MS)
    await answer(sync, claim, NOTHING)

    await answer(sync, await store.claim(), NOTHING)


async def test_a_job_that_comes_with_a_wake_up_starts_at_once_and_a_claim_follows(store: SlowStore) -> None:
    started: list[str] = []
    policy = ClaimPolicy(OFFERING, lambda: 10, lambda: False, lambda: True)
    policy.active = True
    sync = SyncLoop(store, policy, lambda job: started.append(job.id), lambda *_: None)  # type: ignore[arg-type]
    sync.claim_soon()
    await answer(sync, await store.claim(), NOTHING)

    sync.accept(Delivery(1, JOB))
    assert started == ["a"]
    sync.accept(Delivery(1, JOB))
    assert started == ["a"]
    await answer(sync, await store.claim(), NOTHING)


class LateStore:
    """Its reply to the first claim brings a job, and is read after half a lease."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.sent: list[tuple[int, int, bool]] = []  # outcomes, number of the claim, whether it was sent before

    async def turn(
        self, updates: Sequence[Update], request: ClaimRequest, *, resent: bool, **_: Any
    ) -> tuple[list[bool], Claimed]:
        self.sent.append((len(updates), request.number, resent))
        if len(self.sent) == 1:
            self.clock[0] += SETTINGS.lease_ms / 2000  # this process was stopped, or its machine suspended
        return [True] * len(updates), Claimed([JOB], 1, NOTHING, False)


async def test_a_reply_that_is_read_late_starts_nothing_and_the_claim_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("arqestra.worker.leasing.claim.steady_s", lambda: clock[0])
    monkeypatch.setattr("arqestra.worker.leasing.sync_loop.steady_s", lambda: clock[0])
    store, started = LateStore(clock), list[tuple[str, int]]()
    policy = ClaimPolicy(SETTINGS, lambda: 1 - len(started), lambda: False)
    policy.active = True
    settled: list[str] = []
    sync = SyncLoop(
        store,  # type: ignore[arg-type]
        policy,
        lambda job: started.append((job.id, len(store.sent))),
        lambda update, _: settled.append(update.lease.id),
    )

    sync.submit(Complete(LeaseRef("before", "q", "w1.0")))
    sync.claim_soon()
    async with asyncio.timeout(10):
        await sync.became_idle.wait()

    assert started == [("a", 2)], "it starts once, out of the second reply"
    assert settled == ["before"], "the outcome was taken the first time"
    assert store.sent == [(1, 1, False), (0, 1, True)], "the same claim, and no outcome, is sent again"


class RefusingStore:
    """Takes the outcomes of a turn, and refuses its claim until the test says otherwise."""

    def __init__(self) -> None:
        self.refuses = True
        self.outcomes: list[str] = []

    async def turn(
        self, updates: Sequence[Update], request: ClaimRequest | None, **_: Any
    ) -> tuple[list[bool | None], Claimed | None]:
        self.outcomes += [update.lease.id for update in updates]
        written: list[bool | None] = [True] * len(updates)
        if self.refuses and request is not None:
            raise ClaimRefused(ResponseError("WRONGTYPE"), written)
        return written, None if request is None else Claimed([], 0, NOTHING, False)


async def test_outcomes_whose_claim_is_refused_are_written_once_and_the_claim_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("arqestra.worker.leasing.sync_loop.ERROR_PAUSE_S", 0.01)
    store, resolved = RefusingStore(), list[tuple[str, bool | None]]()
    policy = ClaimPolicy(SETTINGS, lambda: 10, lambda: False)
    policy.active = True
    sync = SyncLoop(
        store,  # type: ignore[arg-type]
        policy,
        lambda _: None,
        lambda update, written: resolved.append((update.lease.id, written)),
    )
    sync.submit(Complete(LeaseRef("a", "q", "w1.0")))
    sync.claim_soon()
    await wait_until(lambda: sync.refused_claim is not None)
    assert (store.outcomes, resolved) == (["a"], [("a", True)])

    store.refuses = False
    sync.submit(Complete(LeaseRef("b", "q", "w1.0")))
    sync.claim_soon()
    await wait_until(lambda: len(resolved) == 2)

    assert store.outcomes == ["a", "b"]
    assert resolved == [("a", True), ("b", True)]
