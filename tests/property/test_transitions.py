"""A state machine over the Lua scripts, against a plain Python model, with the time passed in.

After each step all that Redis holds is compared with the model, the workers that were woken with those that should
have been, and the promises of docs/concepts.md with a ledger that is kept apart from the model. At the end of each
example the queue is worked off: everything accepted must end, and nothing of ours may stay.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from arqestra.embedded import EmbeddedRedis
from arqestra.store.codec import delivered
from arqestra.store.records import ClaimRequest, LeasedJob, LeaseRef, NewJob
from tests.property.harness import PropertyHarness
from tests.property.ledger import Ledger
from tests.property.model import STOCK_ABORT_SCORE, STOCK_RECORD, Model, Sent
from tests.support.store_harness import KEYS, LEASE_MS, MARGIN_MS, OFFER_MS, QUEUE, Kind, Lease
from tests.support.updates import RawUpdate

WORKERS = ("w1", "w2", "w3")
CHOSEN = ("c1", "c2", "c3")
MAX_CRASHES = 3
KEPT_MS = 3_600_000
EVENTS = (
    "stock abort",
    "stock claim",
    "stock finish",
    "stock worker dies",
    "a payload expires",
    "a record expires",
    "a worker leaves",
)

index = st.integers(0, 1_000)
whens = st.sampled_from(("", "", "", "+0", "+40", "+1000", f"+{LEASE_MS + 5000}"))
steps_ms = st.sampled_from((1, 39, 40, 1000, LEASE_MS - 1, LEASE_MS, LEASE_MS + 1, 2 * LEASE_MS))
new_jobs = st.lists(
    st.tuples(st.sampled_from((None, None, None, *CHOSEN)), whens, st.integers(0, 2)),
    min_size=1,
    max_size=4,
)


class Transitions(RuleBasedStateMachine):
    """Rules are transitions; `_` methods are their checks."""

    harness: PropertyHarness

    def __init__(self) -> None:
        super().__init__()
        self.store_harness = self.harness.clear()
        self.clock = self.store_harness.clock
        self.store = self.store_harness.store
        self.model = Model()
        self.ledger = Ledger()
        self.requests: dict[str, ClaimRequest] = {}
        self.numbers = 0
        self.sent: list[NewJob] = []
        self.last_used_offers: dict[str, int] = {}

    # -- producers ------------------------------------------------------------------------------------------------

    @initialize(jobs=new_jobs)
    def begin(self, jobs: list[tuple[str | None, str, int]]) -> None:
        self.enqueue(jobs)

    @rule(jobs=new_jobs)
    def enqueue(self, jobs: list[tuple[str | None, str, int]]) -> None:
        self.sent = []
        for chosen, when, attempts in jobs:
            self.numbers += 1
            job_id = chosen or f"g{self.numbers:04}"
            payload = f"payload {self.numbers:04}"
            self.sent.append(
                NewJob(
                    queue=QUEUE,
                    id=job_id,
                    payload=payload.encode(),
                    when=when,
                    nonce=payload if chosen else "",
                    attempts=attempts,
                )
            )
        before = set(self.model.payloads)
        verdicts = self.harness.run(self.store.enqueue(self.sent))
        assert verdicts == self.model.enqueue(self.clock(), self.sent)
        for job in self.sent:
            if job.id not in before and self.model.payloads.get(job.id) == job.payload:
                self.ledger.accepted(job.id, job.attempts)
        self._hear()

    def _hear(self) -> None:
        """What the workers were told: a wake-up, or a job. Whether they take it in is decided at their next claim."""
        heard, woken, sent = self.harness.heard(), self.model.woken, self.model.sent
        self.model.woken, self.model.sent = [], []
        assert sorted(worker for worker, word in heard if word == "wake") == sorted(woken)
        deliveries = [(worker, delivered(worker, word.encode())) for worker, word in heard if word != "wake"]
        assert [Sent(worker, delivery.number, delivery.job.id) for worker, delivery in deliveries] == sent
        for _, delivery in deliveries:
            assert delivery.job.payload == self.model.payloads[delivery.job.id]
            self.ledger.claimed(self.clock(), [delivery.job], again=False, resent=False)

    def _enqueue_again(self) -> None:
        """A job that left no trace since would be accepted anew: that is left out."""
        if not all(self._is_known(job) for job in self.sent):
            return
        verdicts = self.harness.run(self.store.enqueue_batch(self.sent, resent=True))
        assert verdicts == self.model.enqueue(self.clock(), self.sent, resent=True)

    def _is_known(self, job: NewJob) -> bool:
        return job.id in self.model.payloads or job.id in self.model.results

    @rule(request=st.sampled_from(("abort", "abort", "delete", "requeue", "requeue of another result")), job=index)
    def ask(self, request: str, job: int) -> None:
        """What a client asks for."""
        job_id = self._pick(job)
        if request == "abort":
            self._abort(job_id)
        elif request == "delete":
            self._delete(job_id)
        else:
            self._requeue(job_id, right=request == "requeue")

    def _abort(self, job_id: str) -> None:
        if job_id in self.model.queue and job_id not in self.ledger.lives:
            return  # a ghost
        assert self.harness.run(self.store.abort(job_id, QUEUE)) == self.model.abort(self.clock(), job_id)

    def _delete(self, job_id: str) -> None:
        reply = self.harness.run(self.store.delete(job_id, QUEUE))
        assert reply == self.model.delete(self.clock(), job_id)
        if reply == "deleted":
            self.ledger.ended(job_id)

    def _requeue(self, job_id: str, *, right: bool) -> None:
        self.numbers += 1
        result = self.model.results.get(job_id, b"none") if right else b"another"
        payload = f"payload {self.numbers:04}".encode()
        reply = self.harness.run(self.store.requeue(job_id, QUEUE, result, payload))
        assert reply == self.model.requeue(self.clock(), job_id, result, payload)
        if reply == "queued":
            self.ledger.accepted(job_id)

    # -- workers --------------------------------------------------------------------------------------------------

    @rule(
        worker=st.sampled_from(WORKERS),
        slots=st.sampled_from((1, 1, 2, 5, 5, 0)),
        wait=st.booleans(),
        aborts=st.booleans(),
        holds_suspect=st.sampled_from((False, False, True)),
        heeds=st.booleans(),
        offers=st.sampled_from((True, True, False)),
        quick=st.sampled_from((1, 1, 3)),
    )
    def claim(
        self,
        worker: str,
        slots: int,
        wait: bool,
        aborts: bool,
        holds_suspect: bool,
        heeds: bool,
        offers: bool,
        quick: int = 1,
    ) -> None:
        self._heed(worker, heeds)
        self.numbers += 1
        self.requests[worker] = ClaimRequest(
            *(QUEUE, worker, self.numbers, slots, LEASE_MS, MARGIN_MS, wait, aborts, holds_suspect, MAX_CRASHES),
            last_used_offer=self.last_used_offers.get(worker, 0),
            offer_ms=OFFER_MS if offers else 0,
            quick=quick,
        )
        self._claim(self.requests[worker], resent=False)

    @rule(worker=st.sampled_from(WORKERS), jobs=new_jobs, heeds=st.booleans())
    def a_worker_without_jobs_is_sent_one(
        self, worker: str, jobs: list[tuple[str | None, str, int]], heeds: bool
    ) -> None:
        """As far as the other workers that wait leave it anything."""
        for _ in range(3):
            self.claim(worker, 50, wait=True, aborts=False, holds_suspect=False, heeds=heeds, offers=True)
            self.clock.advance(1)
        self.enqueue(jobs)

    def _heed(self, worker: str, heeds: bool) -> None:
        """The worker has taken in what came on the offer of its latest claim, or has not."""
        if heeds and worker in self.requests:
            self.last_used_offers[worker] = self.requests[worker].number

    @rule(worker=index)
    def send_again(self, worker: int) -> None:
        """A reply was lost: that of a worker's latest claim, or of the latest enqueue."""
        sent = [*sorted(self.requests), None]
        again = sent[worker % len(sent)]
        if again is None:
            self._enqueue_again()
        else:  # as `ClaimPolicy.again`
            request = self.requests[again]._replace(last_used_offer=self.last_used_offers.get(again, 0), offer_ms=0)
            if request.number == request.last_used_offer:
                self.numbers += 1
                request = request._replace(number=self.numbers)
            self.requests[again] = request
            self._claim(request, resent=True)

    def _claim(self, request: ClaimRequest, *, resent: bool) -> list[LeasedJob]:
        now = self.clock()
        _, claimed = self.harness.run(self.store.turn((), request, resent=resent))
        assert claimed is not None
        expected = self.model.claim(now, request, resent=resent)
        self._note_taken_back()
        aborts = [job for job in claimed.jobs if job.id in {taken.id for taken in expected.aborts}]
        runs = [job for job in claimed.jobs if job not in aborts]

        assert [(job.id, job.flag, job.due_ms, job.crashes) for job in runs] == expected.runs
        assert {job.id for job in aborts} == {taken.id for taken in expected.aborts}
        before = {taken.id: taken for taken in expected.aborts}
        for job in aborts:
            # Whether the crash of a job that is not run again counts is left open.
            assert job.crashes - before[job.id].crashes in (0, 1)
            assert job.flag == "abort" or (job.flag, job.crashes) == ("dead", MAX_CRASHES)
            assert job.due_ms == before[job.id].due_ms
        assert claimed.left_jobs_for_others == expected.left_jobs_for_others
        assert [job.payload for job in claimed.jobs] == [self.model.payloads.get(job.id) for job in claimed.jobs]
        for job, taken in zip((*aborts, *runs), (*(before[job.id] for job in aborts), *expected.runs), strict=True):
            count = job.flag == "" and not expected.again
            self.model.lease(now, request, taken._replace(crashes=job.crashes), count=count)
            assert job.attempt == self.model.attempts.get(job.id, 0)
        self.ledger.claimed(now, claimed.jobs, again=expected.again, resent=resent)
        return claimed.jobs

    def _note_taken_back(self) -> None:
        for job_id in self.model.taken_back:
            self.ledger.taken_back(job_id)
        self.model.taken_back = []

    @precondition(lambda self: self.ledger.handed_out)
    @rule(
        jobs=st.lists(index, min_size=1, max_size=3),
        zombie=st.sampled_from((False, False, False, True)),
        kind=st.sampled_from(("end", "retry", "release", "dead", "end", "retry", "release")),
        delay_ms=st.sampled_from((0, 0, 40, 5000)),
        ttl_ms=st.sampled_from((0, -1)),
        keep=st.booleans(),
    )
    def finish(self, jobs: list[int], zombie: bool, kind: Kind, delay_ms: int, ttl_ms: int, keep: bool) -> None:
        """Of jobs that are held, or were: a zombie finishes like everybody else."""
        known = self.ledger.handed_out
        if not zombie:
            known = [job for job in known if self.model.holds(job.id, job.token)] or known
        picked = {(job.id, job.token): job for job in (known[i % len(known)] for i in jobs)}
        number = delay_ms if kind in ("retry", "release") else KEPT_MS if keep and kind == "end" else 0
        self._finish(list(picked.values()), kind, number, -1 if kind in ("retry", "release") else ttl_ms)

    def _finish(self, jobs: list[LeasedJob], kind: Kind, number: int, ttl_ms: int) -> None:
        self.numbers += 1
        result = f"result {self.numbers}".encode() if kind in ("end", "dead") else b""
        # A release of a job that was handed out only to be recorded refunds nothing: it is sent as a retry.
        endings = [
            RawUpdate(
                job.id, QUEUE, job.token, "retry" if kind == "release" and job.flag else kind, number, ttl_ms, result
            )
            for job in jobs
        ]
        verdicts, _ = self.harness.run(self.store.turn([each.update() for each in endings], None))
        counted = [job.flag == "" for job in jobs]
        assert verdicts == self.model.finish(self.clock(), list(zip(endings, counted, strict=True)))
        for job, ok in zip(jobs, verdicts, strict=True):
            if ok and kind in ("retry", "release"):
                self.ledger.put_back(job, refund=kind == "release" and job.flag == "")
            elif ok:
                self.ledger.ended(job.id)

    @precondition(lambda self: self.ledger.handed_out)
    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker: str) -> None:
        """All that a worker holds or believes to hold, in one call, each job once."""
        latest = {job.id: job for job in self.ledger.handed_out if job.token.startswith(worker)}
        held = [LeaseRef(job.id, QUEUE, job.token) for job in latest.values()]
        renewal = self.harness.run(self.store.renew(held, LEASE_MS, aborts=True))
        expected = self.model.renew(self.clock(), [(lease.id, lease.token) for lease in held], LEASE_MS)
        assert ([lease.id for lease in renewal.lost], [lease.id for lease in renewal.aborted]) == expected
        for lease in held:
            if lease not in renewal.lost:
                self.ledger.renewed(self.clock(), lease.id)

    # -- time, and what others do ---------------------------------------------------------------------------------

    @rule(step_ms=steps_ms)
    def time_passes(self, step_ms: int) -> None:
        self.clock.advance(step_ms)

    @rule(event=st.sampled_from(EVENTS), job=index)
    def something_happens(self, event: str, job: int) -> None:
        """What others do to a job: Redis with its TTLs, stock arq clients and workers, a worker that stops."""
        candidates = sorted(self.ledger.lives)
        if event == "a worker leaves":
            self._a_worker_leaves(WORKERS[job % len(WORKERS)], heeds=job % 2 == 0)
        elif candidates:
            happen = getattr(self, "_" + event.replace(" ", "_"))
            happen(candidates[job % len(candidates)])

    def _a_worker_leaves(self, worker: str, *, heeds: bool) -> None:
        self._heed(worker, heeds)
        last_used_offer = self.last_used_offers.get(worker, 0)
        self.harness.run(self.store.leave(QUEUE, worker, last_used_offer, self.numbers))
        self.model.leave(worker, last_used_offer, self.clock())
        self._note_taken_back()

    def _a_record_expires(self, job_id: str) -> None:
        """The margin after a lease is over."""
        lease = self.model.leases.get(job_id)
        if isinstance(lease, Lease) and self.model.is_free(self.clock(), job_id):
            self.harness.run(self.store_harness.redis.delete(KEYS.lease(job_id)))
            del self.model.leases[job_id]
            life = self.ledger.lives[job_id]
            life.holder, life.crashes = None, 0

    def _a_payload_expires(self, job_id: str) -> None:
        """A stock producer's, after 24 h in the queue."""
        if job_id in self.model.leases or job_id in CHOSEN:
            return
        self.harness.run(self.store_harness.redis.delete(KEYS.job(job_id)))
        self.model.payloads.pop(job_id, None)
        self.ledger.lives[job_id].payload_expired = True

    def _stock_abort(self, job_id: str) -> None:
        self.harness.run(self.store_harness.stock_abort(job_id))
        if self.model.queue[job_id] > self.clock():
            self.model.queue[job_id] = STOCK_ABORT_SCORE
        self.model.aborts[job_id] = self.clock()

    def _stock_claim(self, job_id: str) -> None:
        is_due = self.model.queue[job_id] <= self.clock()
        if not is_due or job_id in self.model.leases:
            return
        self.harness.run(self.store_harness.stock_claim(job_id))
        self.model.leases[job_id] = STOCK_RECORD
        self.model.attempts[job_id] = self.model.attempts.get(job_id, 0) + 1
        self.ledger.lives[job_id].started += 1

    def _stock_worker_dies(self, job_id: str) -> None:
        if self.model.leases.get(job_id) == STOCK_RECORD:
            self.harness.run(self.store_harness.redis.delete(KEYS.lease(job_id)))
            del self.model.leases[job_id]

    def _stock_finish(self, job_id: str) -> None:
        """Not fenced: it ends the job whoever holds it."""
        if job_id not in self.model.leases:
            return
        self.numbers += 1
        result = f"stock result {self.numbers}".encode()
        self.harness.run(self.store_harness.stock_finish(job_id, result=result))
        for place in (self.model.queue, self.model.payloads, self.model.leases, self.model.attempts, self.model.aborts):
            place.pop(job_id, None)
        self.model.results[job_id] = result
        self.ledger.ended(job_id)
        if self.numbers % 2:  # and leaves a ghost
            self.harness.run(self.store_harness.redis.zadd(QUEUE, {job_id: self.clock()}))
            self.model.queue[job_id] = self.clock()

    def _pick(self, job: int) -> str:
        """Any id that was ever used."""
        used = sorted({*self.ledger.lives, *self.model.results, *CHOSEN[: self.numbers], "never was"})
        return used[job % len(used)]

    # -- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        found = self.harness.keys()
        assert found == self.model.as_redis()
        self.ledger.check(found)

    @invariant()
    def the_right_workers_were_woken(self) -> None:
        self._hear()

    def teardown(self) -> None:
        """Work off the queue: everything accepted ends, and nothing of ours stays."""
        if sys.exc_info()[0] is not None:
            return  # a step has failed: that is what is to be reported
        for job_id, lease in list(self.model.leases.items()):
            if job_id in self.ledger.lives and lease == STOCK_RECORD:
                self.harness.run(self.store_harness.redis.delete(KEYS.lease(job_id)))
                del self.model.leases[job_id]
        for turn in range(100):
            if not self.model.queue:
                break
            self.clock.advance(2 * LEASE_MS)
            request = ClaimRequest(
                queue=QUEUE,
                worker_id=f"last{turn}",
                number=1,
                slots=1000,
                lease_ms=LEASE_MS,
                margin_ms=MARGIN_MS,
                wait=False,
                aborts=True,
                holds_suspect=False,
                max_crashes=MAX_CRASHES,
            )
            jobs = self._claim(request, resent=False)
            if jobs:
                self._finish(jobs, "end", 0, -1)
            self.redis_holds_what_the_model_holds()
        assert self.ledger.lives == {}
        left = {key for key in self.model.as_redis() if not key.startswith(KEYS.result_prefix)}
        kept = {KEYS.lease(job_id) for job_id in self.model.leases}
        offers = {KEYS.offer(worker) for worker in self.model.offers}
        assert left <= {KEYS.dead(QUEUE), KEYS.dead_results(QUEUE), KEYS.waiting(QUEUE), *offers, *kept}


@pytest.fixture
def harness(redis_server: EmbeddedRedis, redis_url: str) -> Iterator[None]:
    Transitions.harness = PropertyHarness(redis_url, WORKERS)
    yield
    Transitions.harness.close()
    del Transitions.harness


def _check(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Transitions,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(480)  # a failure is made small first, for up to five minutes
@pytest.mark.usefixtures("harness")
def test_transitions_keep_their_promises() -> None:
    _check(examples=250, steps=50)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("harness")
def test_transitions_keep_their_promises_at_length() -> None:
    _check(examples=3_000, steps=100)
