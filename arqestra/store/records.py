"""What goes into the store's methods and comes out of them."""

from typing import NamedTuple

__all__ = (
    "ClaimRequest",
    "Claimed",
    "Delivery",
    "Duplicate",
    "EnqueueResult",
    "JobSnapshot",
    "LeaseRef",
    "LeasedJob",
    "NewJob",
    "Offer",
    "QueueShare",
    "Renewal",
)


class Duplicate(NamedTuple):
    """The job that stands for one that was not enqueued: it has the lock."""

    id: str
    queue: str


# Of one enqueue: accepted, refused, or the job that stands for it.
EnqueueResult = bool | Duplicate


class NewJob(NamedTuple):
    """A job to be stored.

    :ivar when: '' due at once, `+ms` due that much later, `=ms` due at that time
    :ivar nonce: of a chosen id, which is refused if it exists: also found in the payload; '' for a generated id
    :ivar attempts: attempts that count as started already
    :ivar extra: priority, limits and lock as `enqueue.lua` reads them; b"" for none
    """

    queue: str
    id: str
    payload: bytes
    when: str = ""
    nonce: str = ""
    attempts: int = 0
    extra: bytes = b""


class QueueShare(NamedTuple):
    """What a claim may take of one queue.

    :ivar quota: slots that it gets before the others get the rest
    :ivar most: slots that it may get in all
    """

    queue: str
    quota: int
    most: int


class ClaimRequest(NamedTuple):
    """What a worker asks for.

    :ivar number: of this claim within the worker; its leases carry the token `<worker id>.<number>`
    :ivar wait: register as waiting when slots stay free
    :ivar aborts: also take jobs that are to be aborted, beyond the slots
    :ivar holds_suspect: the worker runs a job already that has ended several workers
    :ivar only: claim just these ids, if they are due
    :ivar shares: of several queues, the most urgent first; () for all slots to the one queue
    :ivar last_used_offer: number of the offer on which the worker took in a job last; 0 for none
    :ivar offer_ms: how long the worker, which holds no job, offers to be sent the next one if this claim finds none; 0:
        it makes no offer
    :ivar may_have_offer: Redis may have an offer of this worker, which is over now
    :ivar quick: jobs that the worker gets done in a moment: where others wait, it takes these at once, up to half
    """

    queue: str
    worker_id: str
    number: int
    slots: int
    lease_ms: int
    margin_ms: int
    wait: bool = True
    aborts: bool = False
    holds_suspect: bool = False
    max_crashes: int = 3
    only: tuple[str, ...] = ()
    shares: tuple[QueueShare, ...] = ()
    last_used_offer: int = 0
    offer_ms: int = 0
    may_have_offer: bool = True
    quick: int = 1

    @property
    def token(self) -> str:
        return f"{self.worker_id}.{self.number}"


class LeasedJob(NamedTuple):
    """A job that this worker holds.

    :ivar payload: None if it expired in Redis
    :ivar attempt: number of this attempt, from 1
    :ivar due_ms: when it became due
    :ivar crashes: leases of it that ran out
    :ivar flag: '' run it. 'abort', 'dead': do not run it, write its end: `check` in worker/run/execute.py
    :ivar claimed_ms: when it was claimed, on Redis' clock
    :ivar spec: the limits and locks under which it was admitted; b"" for none
    """

    queue: str
    token: str
    claimed_ms: int
    id: str
    payload: bytes | None
    attempt: int
    due_ms: int
    crashes: int
    flag: str
    spec: bytes = b""


class Offer(NamedTuple):
    """A worker that waits and has ended its last job offers to be sent the next one.

    :ivar number: as of a claim: the lease will carry the token `<worker id>.<number>`
    :ivar stands_ms: how long the offer stands
    """

    queue: str
    worker_id: str
    number: int
    lease_ms: int
    margin_ms: int
    stands_ms: int


class Delivery(NamedTuple):
    """A job that came with a wake-up.

    :ivar number: of the offer on which it was sent
    """

    number: int
    job: LeasedJob


class Claimed(NamedTuple):
    """Reply to a claim.

    :ivar queued: entries in the queue, those in progress included
    :ivar next_due_in_ms: ms until the next job becomes due, for the worker that has to watch for it; else -1
    :ivar left_jobs_for_others: due jobs were left for other waiting workers
    :ivar more: of several queues: those that may have more due jobs
    :ivar now_ms: the time on Redis' clock
    :ivar aliens: queue and member of what was leased and is no job id: it is no UTF-8
    """

    jobs: list[LeasedJob]
    queued: int
    next_due_in_ms: int
    left_jobs_for_others: bool
    more: frozenset[str] = frozenset()
    now_ms: int = 0
    aliens: tuple[tuple[str, bytes], ...] = ()


class LeaseRef(NamedTuple):
    """A lease to be renewed."""

    id: str
    queue: str
    token: str


class Renewal(NamedTuple):
    """Leases that are lost, and those whose jobs are to be aborted."""

    lost: list[LeaseRef]
    aborted: list[LeaseRef]


class JobSnapshot(NamedTuple):
    """What is known of a job: its result, when it is due, lease record, the time on Redis' clock, payload, errors."""

    result: bytes | None
    score: int | None
    lease: bytes | None
    now_ms: int
    payload: bytes | None
    errors: tuple[bytes, ...] = ()

    @property
    def in_progress(self) -> bool:
        """A worker holds it: a stock worker's record says so by being there, ours until the lease has run out."""
        if self.lease is None:
            return False
        fields = self.lease.split(b"|")
        return len(fields) != 4 or int(fields[1]) > self.now_ms
