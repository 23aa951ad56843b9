"""The transitions in plain Python: what Redis must hold after each of them, by docs/concepts.md and data-model.md."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from arqestra.store.records import ClaimRequest, NewJob
from tests.support.store_harness import KEYS, QUEUE, Lease
from tests.support.updates import RawUpdate

STOCK_RECORD = "1"  # what a stock worker writes in the place of a lease
STOCK_ABORT_SCORE = 1
SHARED_MS = 200
POSTPONE_SUSPECT_MS = 1000
DUE_AT_ONCE = ""


class Taken(NamedTuple):
    """A job that a claim is expected to hand out. `crashes` are those before this claim for an abort."""

    id: str
    flag: str
    due_ms: int
    crashes: int


class ExpectedClaim(NamedTuple):
    """What a claim is expected to find. Aborts come in any order, what is run comes first in first out."""

    aborts: list[Taken]
    runs: list[Taken]
    ghosts: list[str]
    again: bool
    left_jobs_for_others: bool


class Sent(NamedTuple):
    """A job that went to a worker with its wake-up."""

    worker: str
    number: int
    id: str


@dataclass
class Model:
    """One queue, as dictionaries. Each method is one script; `now` is the time that it is given."""

    queue: dict[str, int] = field(default_factory=dict)
    payloads: dict[str, bytes] = field(default_factory=dict)
    leases: dict[str, Lease | str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    aborts: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    dead_results: dict[str, bytes] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    woken: list[str] = field(default_factory=list)
    offers: dict[str, str] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    taken_back: list[str] = field(default_factory=list)

    # -- enqueue --------------------------------------------------------------------------------------------------

    def enqueue(self, now: int, jobs: Sequence[NewJob], *, resent: bool = False) -> list[bool]:
        verdicts, due = [], False
        first: str | None = None  # that is due, and has nothing special
        for job in jobs:
            if job.nonce and (job.id in self.payloads or job.id in self.results or job.id in self.leases):
                stored = self.payloads.get(job.id, b"") + self.results.get(job.id, b"")
                verdicts.append(resent and job.nonce.encode() in stored)
            elif not job.nonce and resent and (job.id in self.payloads or job.id in self.results):
                verdicts.append(True)
            else:
                verdicts.append(True)
                due |= self._store(now, job)
                if first is None and job.when == DUE_AT_ONCE and not job.attempts and not resent:
                    first = job.id
        if due:
            self.wake(now, first)
        return verdicts

    def _store(self, now: int, job: NewJob) -> bool:
        """Whether the job is due at once."""
        if job.nonce:
            self.dead.pop(job.id, None)
            self.dead_results.pop(job.id, None)
        self.attempts.pop(job.id, None)
        self.aborts.pop(job.id, None)
        self.payloads[job.id] = job.payload
        if job.attempts:
            self.attempts[job.id] = job.attempts
        self.queue[job.id] = now if job.when == DUE_AT_ONCE else now + int(job.when[1:])
        return self.queue[job.id] <= now

    # -- claim ----------------------------------------------------------------------------------------------------

    def is_free(self, now: int, job_id: str) -> bool:
        """Nobody holds it: no record, or one of ours that ran out."""
        lease = self.leases.get(job_id)
        return lease is None or (isinstance(lease, Lease) and lease.end_ms <= now)

    def claim(self, now: int, request: ClaimRequest, *, resent: bool) -> ExpectedClaim:
        """What is expected, and the waiting set after it. `lease` writes the leases, one for each job handed out."""
        if request.wait:
            self._put_back_sent(request.worker_id, request.last_used_offer)
        registered = set(self.waiting) - {request.worker_id} if request.wait else set()
        due_ms = [score for score in self.queue.values() if score <= now]
        latest_ms = max(min(due_ms), now - SHARED_MS) if due_ms else now
        others = {worker for worker in registered if self.waiting[worker] <= latest_ms}  # the rest had their share
        due_count = len(due_ms) if registered else 0
        fair = math.ceil(due_count / (len(others) + 1))
        if request.quick > fair:
            fair = min(request.quick, math.ceil(due_count / 2))
        shared = bool(others) and fair < request.slots and due_count > fair
        want = min(request.slots, fair) if others else request.slots

        again = self._held_under(now, request) if resent else []
        if again:
            expected = ExpectedClaim(
                [taken for taken in again if taken.flag == "abort"],
                [taken for taken in again if taken.flag != "abort"],
                [],
                True,
                shared,
            )
        else:
            aborts, ghosts = self._to_abort(now) if request.aborts else ([], [])
            seen = {taken.id for taken in aborts} | set(ghosts)
            runs, more_ghosts = self._due(now, want, request, seen)
            expected = ExpectedClaim(aborts, runs, ghosts + more_ghosts, False, shared)
            for ghost in expected.ghosts:
                del self.queue[ghost]
                self.attempts.pop(ghost, None)
                self.leases.pop(ghost, None)
        found = len(expected.aborts) + len(expected.runs) + len(expected.ghosts)
        if registered and due_count > found:
            self.wake()
        if request.wait and request.slots > found:
            if shared:
                self.waiting[request.worker_id] = now + 1
            self.waiting.setdefault(request.worker_id, now)
            if found == 0 and request.offer_ms:
                self.offers[request.worker_id] = f"{request.number}|{request.lease_ms}|{request.margin_ms}"
        elif request.wait:
            self.waiting.pop(request.worker_id, None)
        return expected

    def _put_back_sent(self, worker: str, last_used_offer: int) -> bool:
        """Whether a worker was sent a job and has not taken it in: it is as if it had stayed in the queue."""
        number, _, rest = self.offers.pop(worker, "").partition(" ")
        job_id = rest.rpartition(QUEUE)[2]
        lease = self.leases.get(job_id)
        if (
            not rest
            or int(number) == last_used_offer
            or not isinstance(lease, Lease)
            or lease.token != f"{worker}.{number}"
        ):
            return False
        del self.leases[job_id], self.attempts[job_id]
        self.queue[job_id] = lease.due_ms
        self.taken_back.append(job_id)
        return True

    def _held_under(self, now: int, request: ClaimRequest) -> list[Taken]:
        """The jobs of this very claim, still held."""
        held = []
        for job_id, score in self._in_order():
            lease = self.leases.get(job_id)
            if isinstance(lease, Lease) and lease.token == request.token and now < score <= now + request.lease_ms:
                flag = "dead" if lease.crashes >= request.max_crashes else ""
                if not flag and request.aborts and job_id in self.aborts:
                    flag = "abort"
                held.append(Taken(job_id, flag, lease.due_ms, lease.crashes))
        return held

    def _to_abort(self, now: int) -> tuple[list[Taken], list[str]]:
        taken, ghosts = [], []
        for job_id in self.aborts:
            if job_id not in self.queue or not self.is_free(now, job_id):
                continue
            lease = self.leases.get(job_id)
            if self._is_ghost(job_id):
                ghosts.append(job_id)
            elif isinstance(lease, Lease):
                taken.append(Taken(job_id, "abort", lease.due_ms, lease.crashes))
            else:
                taken.append(Taken(job_id, "abort", self._due_ms(now, job_id), 0))
        return taken, ghosts

    def _due(self, now: int, want: int, request: ClaimRequest, seen: set[str]) -> tuple[list[Taken], list[str]]:
        """The first due jobs that are free; scores that do not belong there are put right on the way."""
        runs: list[Taken] = []
        ghosts: list[str] = []
        holds_suspect = request.holds_suspect
        for job_id, score in self._in_order():
            if score > now or len(runs) + len(ghosts) >= want:
                break
            lease = self.leases.get(job_id)
            if job_id in seen or lease == STOCK_RECORD:
                continue
            if isinstance(lease, Lease) and lease.end_ms > now:
                self.queue[job_id] = lease.end_ms
            elif self._is_ghost(job_id):
                ghosts.append(job_id)
            elif not isinstance(lease, Lease):
                runs.append(Taken(job_id, "", self._due_ms(now, job_id), 0))
            else:
                crashes = lease.crashes + 1
                is_suspect = request.max_crashes - 1 <= crashes < request.max_crashes
                if is_suspect and holds_suspect:
                    self.queue[job_id] = now + POSTPONE_SUSPECT_MS
                    continue
                holds_suspect |= is_suspect
                runs.append(Taken(job_id, "dead" if crashes >= request.max_crashes else "", lease.due_ms, crashes))
        return runs, ghosts

    def lease(self, now: int, request: ClaimRequest, taken: Taken, *, count: bool) -> None:
        """One job that was handed out."""
        if count:
            self.attempts[taken.id] = self.attempts.get(taken.id, 0) + 1
        end_ms = now + request.lease_ms
        self.leases[taken.id] = Lease(request.token, end_ms, taken.due_ms, taken.crashes)
        self.queue[taken.id] = end_ms

    def _due_ms(self, now: int, job_id: str) -> int:
        """When it became due. A stock abort has overwritten that."""
        score = self.queue[job_id]
        return now if score <= STOCK_ABORT_SCORE else score

    def _in_order(self) -> list[tuple[str, int]]:
        return sorted(self.queue.items(), key=lambda entry: (entry[1], entry[0]))

    def _is_ghost(self, job_id: str) -> bool:
        return job_id not in self.payloads and job_id in self.results

    # -- finish and renew -----------------------------------------------------------------------------------------

    def holds(self, job_id: str, token: str) -> bool:
        lease = self.leases.get(job_id)
        return isinstance(lease, Lease) and lease.token == token

    def finish(self, now: int, endings: Sequence[tuple[RawUpdate, bool]]) -> list[bool]:
        """Outcomes, and for each whether its attempt was counted."""
        verdicts = [self.holds(ending.id, ending.token) for ending, _ in endings]
        written = [entry for entry, ok in zip(endings, verdicts, strict=True) if ok]
        due = False
        for ending, counted in written:
            if ending.kind in ("retry", "release"):
                due |= self._put_back(now, ending, refund=ending.kind == "release" and counted)
            else:
                self._end(now, ending)
        if due:
            self.wake()
        return verdicts

    def _put_back(self, now: int, ending: RawUpdate, *, refund: bool) -> bool:
        lease = self.leases.pop(ending.id)
        assert isinstance(lease, Lease)
        self.queue[ending.id] = now + ending.number if ending.number else lease.due_ms
        if refund:
            self._count_back(ending.id)
        return ending.number == 0

    def _count_back(self, job_id: str) -> None:
        left = self.attempts.get(job_id, 0) - 1
        if left > 0:
            self.attempts[job_id] = left
        else:
            self.attempts.pop(job_id, None)

    def _end(self, now: int, ending: RawUpdate) -> None:
        job_id = ending.id
        self.payloads.pop(job_id, None)
        if ending.kind == "dead":
            self.dead[job_id] = now
            self.dead_results[job_id] = ending.result
        if ending.ttl_ms >= 0:
            self.results[job_id] = ending.result
        self.attempts.pop(job_id, None)
        if ending.number:
            self.leases[job_id] = STOCK_RECORD
        else:
            del self.leases[job_id]
        self.aborts.pop(job_id, None)
        self.queue.pop(job_id, None)

    def renew(self, now: int, leases: Iterable[tuple[str, str]], lease_ms: int) -> tuple[list[str], list[str]]:
        lost, aborted = [], []
        for job_id, token in leases:
            lease = self.leases.get(job_id)
            if not isinstance(lease, Lease) or lease.token != token:
                lost.append(job_id)
                continue
            self.leases[job_id] = lease._replace(end_ms=now + lease_ms)
            if job_id in self.queue:
                self.queue[job_id] = now + lease_ms
            if job_id in self.aborts:
                aborted.append(job_id)
        return lost, aborted

    # -- abort, delete, requeue -----------------------------------------------------------------------------------

    def abort(self, now: int, job_id: str) -> str:
        if job_id not in self.queue:
            return "ended" if job_id in self.results else "missing"
        self.aborts[job_id] = now
        if job_id in self.leases:
            return "running"
        self.wake()
        return "queued"

    def delete(self, now: int, job_id: str) -> str:
        if job_id in self.queue and not self.is_free(now, job_id):
            return "running"
        places = (self.queue, self.payloads, self.leases, self.attempts, self.results, self.dead)
        found = any(job_id in place for place in places)
        for place in (*places, self.aborts, self.dead_results):
            place.pop(job_id, None)
        return "deleted" if found else "missing"

    def requeue(self, now: int, job_id: str, result: bytes, payload: bytes) -> str:
        if job_id in self.payloads:
            return "exists"
        if self.results.get(job_id) != result:
            return "changed"
        for place in (self.results, self.attempts, self.leases, self.aborts, self.dead, self.dead_results):
            place.pop(job_id, None)
        self.payloads[job_id] = payload
        self.queue[job_id] = now
        self.wake()
        return "queued"

    def leave(self, worker: str, last_used_offer: int, now: int) -> None:
        """A worker waits no longer; it may have been woken for what is due, so another one is."""
        if self._put_back_sent(worker, last_used_offer):
            self.wake()
        self.waiting.pop(worker, None)
        if any(score <= now for score in self.queue.values()):
            self.wake()

    def wake(self, now: int = 0, first: str | None = None) -> None:
        """The longest waiting worker, and no other. If it made an offer it is sent the first job, if that is next."""
        if not self.waiting:
            return
        worker = min(self.waiting, key=lambda worker: (self.waiting[worker], worker))
        del self.waiting[worker]
        number, _, terms = self.offers.get(worker, "").partition("|")
        if first is None or not terms or self._in_order()[0][0] != first:
            self.woken.append(worker)
            return
        end_ms = now + int(terms.partition("|")[0])
        self.leases[first] = Lease(f"{worker}.{number}", end_ms, now, 0)
        self.attempts[first] = 1
        self.queue[first] = end_ms
        self.offers[worker] = f"{number} {len(QUEUE)} {QUEUE}{first}"
        self.sent.append(Sent(worker, int(number), first))

    # -- as Redis holds it ----------------------------------------------------------------------------------------

    def as_redis(self) -> dict[str, object]:
        """Key -> value. A key without entries does not exist."""
        records = {
            job_id: "|".join(map(str, lease)) if isinstance(lease, Lease) else lease
            for job_id, lease in self.leases.items()
        }
        single: dict[str, object] = {
            QUEUE: self.queue,
            KEYS.aborts: self.aborts,
            KEYS.dead(QUEUE): self.dead,
            KEYS.dead_results(QUEUE): self.dead_results,
            KEYS.waiting(QUEUE): self.waiting,
            **{KEYS.job(job_id): payload for job_id, payload in self.payloads.items()},
            **{KEYS.lease(job_id): record for job_id, record in records.items()},
            **{KEYS.attempts(job_id): str(number) for job_id, number in self.attempts.items()},
            **{KEYS.result(job_id): result for job_id, result in self.results.items()},
            **{KEYS.offer(worker): offer for worker, offer in self.offers.items()},
        }
        return {key: value for key, value in single.items() if value != {}}
