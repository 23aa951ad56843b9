"""The actors of the store's tests: a clock set by hand, workers that claim and finish, stock arq beside them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from arqestra.definitions.limits import Entry
from arqestra.definitions.unique import Lock
from arqestra.flow.submit import child_pieces
from arqestra.protocol.keys import Keys
from arqestra.store.codec import delivered, encode_extra
from arqestra.store.flows import FlowStore, NodeRecord, encode_node, node_spec
from arqestra.store.records import (
    Claimed,
    ClaimRequest,
    Duplicate,
    LeasedJob,
    LeaseRef,
    NewJob,
    QueueShare,
)
from arqestra.store.store import Store
from tests.support.replies import reply_of
from tests.support.updates import ENDS as ENDS
from tests.support.updates import Kind as Kind
from tests.support.updates import RawUpdate

QUEUE = "arq:queue"
LEASE_MS = 15_000
MARGIN_MS = 600_000
OFFER_MS = 60_000
KEYS = Keys()


def extra(
    *entries: tuple[object, ...], priority: int = 0, lock: tuple[Any, ...] | None = None, until: str = ""
) -> bytes:
    """What an enqueue says of a job beyond the plain one: priority, limits, lock."""
    if lock is not None and lock[1]:
        entries = (*entries, ("u", lock[0], lock[1]))
    return encode_extra(priority, None if lock is None else Lock(*lock), entries)


@dataclass
class Plan:
    """A flow, node by node: `job` and `join` give the number of what they add."""

    id: str = "f"
    nodes: list[NodeRecord] = field(default_factory=lambda: [NodeRecord("source")])
    parents: dict[int, tuple[int, ...]] = field(default_factory=dict)
    chosen_ids: dict[int, str] = field(default_factory=dict)
    terms: dict[int, tuple[tuple[Entry, ...], bool]] = field(
        default_factory=dict
    )  # limits, and whether it is an output

    def job(
        self,
        *after: int,
        on_error: bool = False,
        on_failure: str = "fail",
        queue: str = QUEUE,
        when: str = "",
        limits: tuple[Entry, ...] = (),
        job_id: str = "",
        output: bool = False,
    ) -> int:
        number = len(self.nodes)
        if job_id:
            self.chosen_ids[number] = job_id
        self.terms[number] = (limits, output)
        limit, runs, payload = str(limits[0][1]) if limits else "", "error" if on_error else "ok", b"payload"
        return self._add(NodeRecord("job", runs, on_failure, queue, 0, limit, when, payload=payload), after)

    def jobs(self, count: int, *after: int, queue: str = QUEUE, output: bool = False) -> list[int]:
        """So many jobs beside each other."""
        return [self.job(*after, queue=queue, output=output) for _ in range(count)]

    def join(self, *after: int, on_failure: str = "fail") -> int:
        return self._add(NodeRecord("join", on_failure=on_failure), after)

    def _add(self, node: NodeRecord, after: tuple[int, ...]) -> int:
        self.nodes.append(node)
        number = len(self.nodes) - 1
        self.parents[number] = after
        return number

    @property
    def last(self) -> int:
        return len(self.nodes) - 1

    @property
    def left(self) -> int:
        return sum(node.kind == "job" for node in self.nodes)

    def job_id(self, number: int) -> str:
        return self.chosen_ids.get(number, f"{self.id}~{number}")

    def fields(self) -> list[tuple[str, bytes | str]]:
        """The nodes as they are stored."""
        children: dict[int, list[int]] = {}
        for number, after in self.parents.items():
            for parent in after or (0,):
                children.setdefault(parent, []).append(number)
        fields: list[tuple[str, bytes | str]] = []
        for number, node in enumerate(self.nodes):
            fields += child_pieces(number, children.get(number, []))
            if number in self.terms:
                limits, output = self.terms[number]
                spec = node_spec(limits, self.id, number, children.get(number, []), output=output)
                node = node._replace(spec=spec)
            if number:
                fields.append((str(number), encode_node(node)))
            if node.kind == "join":
                fields.append((f"{number}p", msgspec.msgpack.encode(self.parents[number])))
        return [*fields, *((f"{number}i", job_id) for number, job_id in self.chosen_ids.items())]

    def pending(self) -> list[tuple[str, int]]:
        return [(str(number), len(after)) for number, after in self.parents.items() if self._waits(number)]

    def _waits(self, number: int) -> bool:
        return self.nodes[number].kind == "join" and bool(self.parents[number])


class ManualClock:
    """Ms since the epoch, standing still until it is moved. It starts near the real clock, by which TTLs run."""

    def __init__(self) -> None:
        self.now_ms = int(time.time() * 1000)

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, ms: int) -> None:
        self.now_ms += ms


class Lease(NamedTuple):
    """A lease record of ours, taken apart."""

    token: str
    end_ms: int
    due_ms: int
    crashes: int


class RenewedIds(NamedTuple):
    """What a renewal found, ids only."""

    lost: list[str]
    aborted: list[str]


@dataclass
class StoreWorker:
    """A worker as the store sees it: an id and the number of its latest claim."""

    store: Store
    id: str
    queue: str = QUEUE
    number: int = 0
    request: ClaimRequest | None = None
    last_used_offer: int = 0

    async def claim(
        self,
        slots: int = 10,
        *,
        wait: bool = False,
        aborts: bool = False,
        holds_suspect: bool = False,
        max_crashes: int = 3,
        only: tuple[str, ...] = (),
        lease_ms: int = LEASE_MS,
        shares: tuple[QueueShare, ...] = (),
        offer_ms: int = 0,
        quick: int = 1,
    ) -> Claimed:
        """Claim under a new number."""
        self.number += 1
        self.request = ClaimRequest(
            self.queue,
            self.id,
            self.number,
            slots,
            lease_ms,
            MARGIN_MS,
            wait,
            aborts,
            holds_suspect,
            max_crashes,
            only,
            shares,
            self.last_used_offer,
            offer_ms,
            quick=quick,
        )
        return await self._send(resent=False)

    async def offer(self) -> None:
        """Wait to be woken, and offer to be sent a job."""
        assert (await self.claim(wait=True, offer_ms=OFFER_MS)).jobs == []

    def take_in(self, message: str) -> LeasedJob:
        """A job that came with a wake-up."""
        delivery = delivered(self.id, message.encode())
        self.last_used_offer = delivery.number
        return delivery.job

    async def leave(self, *queues: str) -> None:
        for queue in queues or (self.queue,):
            await self.store.leave(queue, self.id, self.last_used_offer, self.number)

    async def claim_again(self) -> Claimed:
        """Send the latest claim once more, as after a reply that was lost."""
        return await self._send(resent=True)

    async def _send(self, *, resent: bool) -> Claimed:
        assert self.request is not None
        _, claimed = await self.store.turn((), self.request, resent=resent)
        assert claimed is not None
        return claimed

    async def claim_ids(self, slots: int = 10, *, wait: bool = False, aborts: bool = False) -> list[str]:
        """Claim; the ids only."""
        return [job.id for job in (await self.claim(slots, wait=wait, aborts=aborts)).jobs]

    async def claim_one(self, *, aborts: bool = False, holds_suspect: bool = False) -> LeasedJob:
        """Claim the one job that there is."""
        claimed = await self.claim(1, aborts=aborts, holds_suspect=holds_suspect)
        assert len(claimed.jobs) == 1, f"expected one job for {self.id}, got {claimed}"
        return claimed.jobs[0]

    async def finish(
        self,
        job: LeasedJob,
        kind: Kind = "end",
        number: int = 0,
        *,
        ttl_ms: int = 60_000,
        result: bytes = b"",
        unstarted: bool = False,
    ) -> bool:
        """Write one outcome; whether the lease still held."""
        kept_ms = ttl_ms if kind in ENDS else -1
        update = RawUpdate(job.id, job.queue, job.token, kind, number, kept_ms, result, b"", unstarted)
        written, _ = await self.store.turn([update.update()], None)
        return written[0] is True

    async def finish_all(self, jobs: Iterable[LeasedJob], kind: Kind = "end", *, ttl_ms: int = 60_000) -> bool:
        """Write the same outcome of several jobs in one call; whether all leases still held."""
        endings = [
            RawUpdate(job.id, job.queue, job.token, kind, ttl_ms=ttl_ms if kind in ENDS else -1, result=b"result")
            for job in jobs
        ]
        written, _ = await self.store.turn([each.update() for each in endings], None)
        return all(written)

    async def renew(self, *jobs: LeasedJob, aborts: bool = True, lease_ms: int = LEASE_MS) -> RenewedIds:
        held = [LeaseRef(job.id, job.queue, job.token) for job in jobs]
        renewal = await self.store.renew(held, lease_ms, aborts=aborts)
        return RenewedIds([lease.id for lease in renewal.lost], [lease.id for lease in renewal.aborted])


@dataclass
class StoreHarness:
    """A Redis with nothing in it, the store over it, and the time."""

    redis: Redis
    clock: ManualClock = field(default_factory=ManualClock)
    functions: bool = True

    def __post_init__(self) -> None:
        self.store = Store(self.redis, clock=self.clock, functions=self.functions)
        self.flows = FlowStore(self.store)

    def worker(self, name: str = "w1", *, queue: str = QUEUE) -> StoreWorker:
        return StoreWorker(self.store, name, queue)

    async def enqueue(
        self,
        *ids: str,
        when: str = "",
        unique: bool = False,
        attempts: int = 0,
        payload: bytes = b"payload",
        queue: str = QUEUE,
        extra: bytes = b"",
    ) -> list[bool | str]:
        """Enqueue jobs that differ in their ids alone; for each whether it was accepted, or the id of its stand-in.

        The payload of a unique one is its nonce.
        """
        nonce = payload.decode() if unique else ""
        verdicts = await self.store.enqueue(
            [NewJob(queue, job_id, payload, when, nonce, attempts, extra) for job_id in ids]
        )
        return [verdict.id if isinstance(verdict, Duplicate) else verdict for verdict in verdicts]

    # -- flows ----------------------------------------------------------------------------------------------------

    async def store_flow(
        self, plan: Plan, *, output: int | None = None, keep_ms: int = 60_000, nonce: str = "nonce"
    ) -> str:
        record: dict[str, str | int] = {
            **{"kind": "g", "nonce": nonce, "name": "flow", "keep": keep_ms, "total": plan.left},
            **{"output": plan.last if output is None else output},
            "queues": "\n".join(sorted({node.queue for node in plan.nodes if node.queue})),
        }
        if plan.chosen_ids:
            record["ids"] = 1
        return await self.flows.store(plan.id, nonce, record, plan.fields(), plan.pending())

    async def start_stored(self, plan: Plan, *, nonce: str = "nonce") -> str:
        return await self.flows.start(plan.id, nonce, source=0, left=plan.left, nodes=plan.last)

    async def start_flow(self, plan: Plan, *, output: int | None = None, keep_ms: int = 60_000) -> None:
        """Store it and start it."""
        assert await self.store_flow(plan, output=output, keep_ms=keep_ms) == "stored"
        assert await self.start_stored(plan) == "started"

    async def states(self, flow_id: str = "f") -> dict[int, str]:
        """Of the nodes that have one; the source is left out."""
        states = await reply_of(self.redis.hgetall(KEYS.flow_states(flow_id)))
        return {int(number): state.decode() for number, state in states.items() if number != b"0"}

    async def flow_field(self, name: str, flow_id: str = "f") -> str | None:
        value = await reply_of(self.redis.hget(KEYS.flow(flow_id), name))
        return None if value is None else value.decode()

    async def continuations(self) -> int:
        """How many continuations flows have left."""
        return await reply_of(self.redis.llen(KEYS.continuations))

    async def without_ttl(self) -> set[str]:
        return {key for key in await self.keys() if await self.redis.pttl(key) == -1}

    # -- what is in Redis -----------------------------------------------------------------------------------------

    async def keys(self) -> set[str]:
        return {key.decode() for key in await self.redis.keys("*")}

    async def queued(self, queue: str = QUEUE) -> list[str]:
        """Ids in the queue, in its order."""
        return [member.decode() for member in await self.redis.zrange(queue, 0, -1)]

    async def score(self, job_id: str, queue: str = QUEUE) -> int | None:
        score = await self.redis.zscore(queue, job_id)
        return None if score is None else int(score)

    async def lease(self, job_id: str) -> Lease | None:
        record = await self.redis.get(KEYS.lease(job_id))
        if record is None:
            return None
        token, end_ms, due_ms, crashes = record.decode().split("|")
        return Lease(token, int(end_ms), int(due_ms), int(crashes))

    async def attempts(self, job_id: str) -> int:
        return int(await self.redis.get(KEYS.attempts(job_id)) or 0)

    async def waiting(self, queue: str = QUEUE) -> list[str]:
        """Ids of the workers that wait to be woken, the longest waiting first."""
        return [member.decode() for member in await self.redis.zrange(KEYS.waiting(queue), 0, -1)]

    # -- stock arq 0.28 -------------------------------------------------------------------------------------------

    async def stock_enqueue(self, job_id: str, *, due_ms: int | None = None, queue: str = QUEUE) -> None:
        """What `arq.connections.ArqRedis.enqueue_job` writes; its payload has a TTL of 24 hours."""
        await self.redis.psetex(KEYS.job(job_id), 86_400_000, b"payload")
        await self.redis.zadd(queue, {job_id: self.clock() if due_ms is None else due_ms})

    async def stock_claim(self, *ids: str) -> None:
        """What `arq.worker.Worker.start_jobs` writes: the record `1`; the score stays where it is."""
        for job_id in ids:
            await self.redis.psetex(KEYS.lease(job_id), 310_000, b"1")
            await self.redis.incr(KEYS.attempts(job_id))

    async def stock_finish(self, job_id: str, *, queue: str = QUEUE, result: bytes = b"stock result") -> None:
        """What `arq.worker.Worker.finish_job` writes. It looks at no token."""
        await self.redis.psetex(KEYS.result(job_id), 60_000, result)
        await self.redis.delete(KEYS.attempts(job_id), KEYS.lease(job_id), KEYS.job(job_id))
        await self.redis.zrem(KEYS.aborts, job_id)
        await self.redis.zrem(queue, job_id)

    async def stock_abort(self, job_id: str, *, queue: str = QUEUE) -> None:
        """What `arq.jobs.Job.abort` writes: a job that is not due gets the score 1."""
        score = await self.redis.zscore(queue, job_id)
        if score is not None and score > self.clock():
            await self.redis.zadd(queue, {job_id: 1})
        await self.redis.zadd(KEYS.aborts, {job_id: self.clock()})


class Subscriber:
    """Listens to channels of Redis; what was heard is complete, without waiting for a time."""

    _END = b"end of what was heard"

    def __init__(self, redis: Redis, channels: Iterable[str]) -> None:
        self._redis = redis
        self._channels = tuple(channels)
        self._pubsub: PubSub = redis.pubsub(ignore_subscribe_messages=False)

    async def __aenter__(self) -> Subscriber:
        await self._pubsub.subscribe(*self._channels)
        for _ in self._channels:
            message = await self._pubsub.get_message(timeout=10)
            assert message is not None, "expected the subscription within 10 s"
            assert message["type"] == "subscribe"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pubsub.aclose()

    async def heard(self) -> dict[str, list[str]]:
        """The messages of each channel since the last time; channels without any are left out.

        A message of our own goes out last, and a server delivers in order: what comes before it is all there was.
        """
        for channel in self._channels:
            await self._redis.publish(channel, self._END)
        heard: dict[str, list[str]] = {}
        for _ in self._channels:
            while True:
                message = await self._pubsub.get_message(timeout=10)
                assert message is not None, "expected the end mark within 10 s"
                if message["data"] == self._END:
                    break
                heard.setdefault(message["channel"].decode(), []).append(message["data"].decode())
        return heard


def worker_subscriber(redis: Redis, *workers: str) -> Subscriber:
    """A subscriber to the channels of workers: the subscription makes them count as alive."""
    return Subscriber(redis, [KEYS.worker_channel(worker) for worker in workers])
