"""Arguments and replies of the scripts, to and from the records of `records.py`."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ..definitions.limits import Entry, encode_limit_spec
from ..definitions.unique import Lock
from ..protocol.constants import BATCH, SPAN_MS, THROTTLED_SCORE
from .records import Claimed, ClaimRequest, Delivery, Duplicate, EnqueueResult, LeasedJob, NewJob
from .updates import (
    Abort,
    AcknowledgeEarly,
    Bury,
    Complete,
    ContinueAsNew,
    Ended,
    Expire,
    Fail,
    Interrupt,
    Lease,
    Park,
    PutBack,
    Release,
    Retry,
    Throttle,
    Update,
)

__all__ = (
    "claim_args",
    "claimed",
    "delivered",
    "due_ms_of",
    "encode_extra",
    "enqueued",
    "flat_jobs",
    "flat_updates",
    "verdicts",
)

_encoder = msgspec.msgpack.Encoder()
_Head = tuple[bytes | str | int, ...]
_Fields = tuple[tuple[bytes | str, ...], _Head]  # of an update: see `_fields`


def encode_extra(priority: int, lock: Lock | None, entries: Sequence[Entry]) -> bytes:
    """Priority, lock, limits and locks to give back of a job, as `lua/enqueue.lua` reads them."""
    limits = [entry[1] for entry in entries if entry[0] != "u"]
    header = _encoder.encode((priority, limits, lock or False))
    return b"%04d%b%b" % (len(header), header, encode_limit_spec(entries))


def due_ms_of(score: float) -> int:
    """When a job is due, from its score: `lua/_score.lua` tells how priorities are in it."""
    return int(score if score >= THROTTLED_SCORE else score % SPAN_MS)


def enqueued(reply: bytes | list[bytes]) -> list[EnqueueResult]:
    """The verdicts of an enqueue, and after them the jobs that stand for others."""
    if isinstance(reply, bytes):
        return [verdict == ord("1") for verdict in reply]
    fields = (field.decode() for field in reply[1:])
    duplicates = (Duplicate(job_id, queue) for job_id, queue in zip(*[fields] * 2, strict=True))
    return [next(duplicates) if verdict == ord("2") else verdict == ord("1") for verdict in reply[0]]


WRITTEN, NO_LEASE = b"12"


def verdicts(updates: Sequence[Update], reply: bytes, resent: bool) -> list[bool | None]:
    """What became of outcomes: written, or not because the lease was lost; None if nobody can tell.

    :param resent: they were sent before. A job without any lease has ended then, by the call whose reply was lost; one
        with another lease may have been put back by that call, and taken again
    """
    if not resent:
        return [verdict == WRITTEN for verdict in reply]
    return [
        True if verdict == WRITTEN or (verdict == NO_LEASE and not isinstance(update, AcknowledgeEarly)) else None
        for update, verdict in zip(updates, reply, strict=True)
    ]


def flat_jobs(jobs: Sequence[NewJob]) -> list[bytes | str | int]:
    """The arguments of an enqueue: what jobs have in common is said once."""
    flat: list[bytes | str | int] = []
    head: tuple[str, str, str, int, bytes] | None = None
    count = count_at = 0
    for queue, job_id, payload, when, nonce, attempts, extra in jobs:
        its_head = (queue, when, nonce, attempts, extra)
        if its_head != head:
            if head is not None:
                flat[count_at] = count
            head, count, count_at = its_head, 0, len(flat) + 5
            flat += (*its_head, 0)
        count += 1
        flat += (job_id, payload)
    if head is not None:
        flat[count_at] = count
    return flat


def flat_updates(updates: Sequence[Update]) -> list[bytes | str | int]:
    """The arguments of a finish: what updates have in common is said once."""
    flat: list[bytes | str | int] = []
    head: _Head | None = None
    count = count_at = 0
    for update in updates:
        own, its_head = _fields(update)
        if its_head != head:
            if head is not None:
                flat[count_at] = count
            head, count, count_at = its_head, 0, len(flat) + 6
            flat += (*its_head, 0)
        count += 1
        flat += own
    if head is not None:
        flat[count_at] = count
    return flat


def _fields(update: Update) -> _Fields:
    """An update as `lua/_finish.lua` reads it: (id, data) and (queue, token, kind, number, ttl, error).

    An error of b"=" says that this attempt has an entry in the job's history: it stands behind id and data. b"+" says
    that there may be a history, to which this attempt adds nothing. Behind a line feed in the data stands the payload
    of the next attempt.
    """
    kind, fields_of = _KINDS[type(update)]
    return fields_of(update.lease, kind, update)


def _ended(lease: Lease, kind: str, update: Ended) -> _Fields:
    if update.unstarted:
        kind += "!"
    head = (lease.queue, lease.token, kind, update.keep_id_ms, update.result_ttl_ms)
    if update.error:
        return (lease.id, update.result, update.error), (*head, b"=")
    return (lease.id, update.result), (*head, b"+" if update.had_errors else b"")


def _put_back(lease: Lease, kind: str, update: PutBack) -> _Fields:
    if update.unstarted:
        kind += "!"
    data = _with_payload(b"" if update.attempts is None else b"%d" % update.attempts, update.payload)
    head = (lease.queue, lease.token, kind, update.delay_ms, -1)
    if update.error:
        return (lease.id, data, update.error), (*head, b"=")
    return (lease.id, data), (*head, b"+" if update.had_errors else b"")


def _parked(lease: Lease, kind: str, update: Park) -> _Fields:
    data = _with_payload(b"%d" % update.seen, update.payload)
    return (lease.id, data), (lease.queue, lease.token, kind, update.delay_ms, -1, b"")


def _throttled(lease: Lease, kind: str, update: Throttle) -> _Fields:
    return (lease.id, update.limits), (lease.queue, lease.token, kind, 0, -1, b"")


def _acknowledged(lease: Lease, kind: str, update: AcknowledgeEarly) -> _Fields:
    return (lease.id, b""), (lease.queue, lease.token, kind, 0, -1, b"")


def _continued(lease: Lease, kind: str, update: ContinueAsNew) -> _Fields:
    return (lease.id, update.payload), (lease.queue, lease.token, kind, 0, -1, b"")


def _with_payload(data: bytes, payload: bytes) -> bytes:
    return data + b"\n" + payload if payload else data


# By the type of an update: the name by which `lua/_finish.lua` knows it, and what gives its fields.
_KINDS: dict[type[Update], tuple[str, Callable[[Lease, str, Any], _Fields]]] = {
    Complete: ("end", _ended),
    Fail: ("fail", _ended),
    Bury: ("dead", _ended),
    Abort: ("abort", _ended),
    Expire: ("expire", _ended),
    Retry: ("retry", _put_back),
    Release: ("release", _put_back),
    Interrupt: ("interrupt", _put_back),
    Throttle: ("limit", _throttled),
    AcknowledgeEarly: ("early", _acknowledged),
    Park: ("park", _parked),
    ContinueAsNew: ("again", _continued),
}


def claim_args(request: ClaimRequest, resent: bool) -> tuple[bytes | str | int, ...]:
    return (
        request.worker_id,
        request.number,
        min(request.slots, BATCH),
        request.lease_ms,
        request.margin_ms,
        "1" if request.wait else "0",
        "1" if request.aborts else "0",
        "1" if request.holds_suspect else "0",
        request.max_crashes,
        "1" if resent else "0",
        request.last_used_offer,
        request.offer_ms,
        "1" if request.may_have_offer else "0",
        request.quick,
        *_shares(request),
        *request.only,
    )


def _shares(request: ClaimRequest) -> tuple[str | int, ...]:
    slots = min(request.slots, BATCH)
    if not request.shares:
        return (1, request.queue, slots, slots)
    fields: list[tuple[str | int, ...]] = [
        (share.queue, min(share.quota, slots), min(share.most, slots)) for share in request.shares
    ]
    return (len(fields), *itertools.chain.from_iterable(fields))


_UNMARKED = (0, "", b"")


def _mark(mark: bytes) -> tuple[int, str, bytes]:
    """Crashes, flag and spec of a job that has some."""
    if mark.startswith(b"0  "):  # a spec alone, nearly always
        return 0, "", mark[3:]
    crashes, flag, spec = mark.split(b" ", 2)
    return int(crashes), flag.decode(), spec


def claimed(request: ClaimRequest, reply: list[Any]) -> Claimed:
    try:
        return _claimed(request, reply)
    except UnicodeDecodeError:
        return _claimed_without_aliens(request, reply)


def _claimed_without_aliens(request: ClaimRequest, reply: list[Any]) -> Claimed:
    """The claim without members that are no job ids: one of them must not keep the jobs beside it from running."""
    strangers = [at for at in range(5, len(reply), 5) if not _is_text(reply[at])]
    named = list(reply)
    for at in strangers:
        named[at] = b"?"
    found = _claimed(request, named)
    by_position = {(at - 5) // 5: reply[at] for at in strangers}
    aliens = tuple((found.jobs[position].queue, member) for position, member in by_position.items())
    return found._replace(jobs=[job for i, job in enumerate(found.jobs) if i not in by_position], aliens=aliens)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _claimed(request: ClaimRequest, reply: list[Any]) -> Claimed:
    queued, next_due_in_ms, left_for_others, now, of_queues = reply[:5]
    token = f"{request.worker_id}.{request.number}"
    fields = iter(reply[5:])
    if of_queues:
        return _claimed_of_several(request, reply)
    queue = request.queue
    # By position, in the order of the fields: one for each job, and keywords would cost twice as much.
    jobs = [
        LeasedJob(queue, token, now, job_id.decode(), payload, attempt, due, *(_mark(mark) if mark else _UNMARKED))
        for job_id, payload, attempt, due, mark in zip(*[fields] * 5, strict=True)
    ]
    return Claimed(jobs, queued, next_due_in_ms, left_for_others == b"1", now_ms=now)


def delivered(worker_id: str, message: bytes) -> Delivery:
    """The job in a message `job claim now length-of-queue length-of-id ...`, which `lua/_delivery.lua` sends."""
    _, number, now, queue_length, id_length, rest = message.split(b" ", 5)
    id_at = int(queue_length)
    payload_at = id_at + int(id_length)
    queue, job_id, payload = rest[:id_at].decode(), rest[id_at:payload_at].decode(), rest[payload_at:]
    token = f"{worker_id}.{int(number)}"
    job = LeasedJob(
        queue=queue,
        token=token,
        claimed_ms=int(now),
        id=job_id,
        payload=payload,
        attempt=1,
        due_ms=int(now),
        crashes=0,
        flag="",
    )
    return Delivery(int(number), job)


def _claimed_of_several(request: ClaimRequest, reply: list[Any]) -> Claimed:
    """A claim's reply of several queues: it says how many of the jobs, one after the other, are of which."""
    queued, next_due_in_ms, left_for_others, now, (more, *runs) = reply[:5]
    queues = [share.queue for share in request.shares]
    owners = (queues[number - 1] for number, count in zip(runs[::2], runs[1::2], strict=True) for _ in range(count))
    jobs = [
        LeasedJob(
            queue, request.token, now, job_id.decode(), payload, attempt, due, *(_mark(mark) if mark else _UNMARKED)
        )
        for queue, job_id, payload, attempt, due, mark in zip(owners, *[iter(reply[5:])] * 5, strict=True)
    ]
    with_more = frozenset(queue for queue, flag in zip(queues, more, strict=True) if flag == ord("1"))
    return Claimed(jobs, queued, next_due_in_ms, left_for_others == b"1", more=with_more, now_ms=now)
