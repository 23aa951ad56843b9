"""Promises that are kept book of outside the model: what was accepted, handed out and ended, and by which token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from arqestra.store.records import LeasedJob
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE


@dataclass
class Life:
    """One incarnation of an id, from its acceptance to its end."""

    started: int
    refunded: int = 0
    holder: tuple[str, int] | None = None  # token and end of the lease that is known to its worker
    crashes: int = 0
    payload_expired: bool = False


@dataclass
class Ledger:
    lives: dict[str, Life] = field(default_factory=dict)
    handed_out: list[LeasedJob] = field(default_factory=list)  # held by somebody, or believed to be

    def accepted(self, job_id: str, attempts: int = 0) -> None:
        self.lives[job_id] = Life(attempts)

    def ended(self, job_id: str) -> None:
        self.lives.pop(job_id, None)

    def claimed(self, now: int, jobs: Iterable[LeasedJob], *, again: bool, resent: bool) -> None:
        """:param again: the jobs of an earlier claim whose reply was lost
        :param resent: that claim was sent again; if its leases ran out since, its token may take them once more
        """
        for job in jobs:
            life = self.lives.get(job.id)
            assert life is not None, f"{job.id} was handed out and was never accepted, or has ended"
            if life.holder is not None and not again:
                token, end_ms = life.holder
                assert end_ms <= now, f"{job.id} is leased to {token} until {end_ms}, and to {job.token} at {now}"
                assert resent or token != job.token
            if job.crashes > life.crashes:
                assert life.holder is not None, f"{job.id} counts a crash, and no lease of it ran out"
                assert job.crashes == life.crashes + 1
            life.crashes = job.crashes
            if job.flag == "" and not again:
                life.started += 1
            life.holder = (job.token, now + LEASE_MS)
            if job not in self.handed_out:
                self.handed_out.append(job)

    def taken_back(self, job_id: str) -> None:
        """It was sent to a worker that has not taken it in."""
        life = self.lives[job_id]
        life.started -= 1
        life.holder, life.crashes = None, 0
        self.handed_out = [job for job in self.handed_out if job.id != job_id]

    def renewed(self, now: int, job_id: str) -> None:
        life = self.lives[job_id]
        assert life.holder is not None
        life.holder = (life.holder[0], now + LEASE_MS)

    def put_back(self, job: LeasedJob, *, refund: bool) -> None:
        life = self.lives[job.id]
        if refund and life.started - life.refunded > 0:
            life.refunded += 1
        life.holder, life.crashes = None, 0

    def check(self, found: dict[str, object]) -> None:
        """Against what Redis holds."""
        queue = found.get(QUEUE, {})
        assert isinstance(queue, dict)
        for job_id, life in self.lives.items():
            assert job_id in queue, f"{job_id} was accepted, has not ended, and is in no queue"
            assert life.payload_expired or KEYS.job(job_id) in found, f"{job_id} lost its payload"
            counted = int(str(found.get(KEYS.attempts(job_id), 0)))
            assert counted == life.started - life.refunded, f"{job_id}: {counted} attempts counted, {life}"
