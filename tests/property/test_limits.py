"""Random transitions of jobs under limits and locks, over two queues, with workers that lose their leases and go on.

After each step lanes, lines and gates must fit together and no cap may be exceeded; at the end all is worked off by
what the claims say of the next due time, and nothing may stay.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import msgspec
import pytest
from redis.asyncio import Redis

from arqestra.definitions.limits import encode_limit_spec
from arqestra.store.records import LeasedJob, NewJob, QueueShare
from tests.support.store_harness import KEYS, LEASE_MS, QUEUE, Kind, StoreHarness, StoreWorker, extra

QUEUES = (QUEUE, "other")
LIMITS: tuple[tuple[object, ...], ...] = (
    ("r", "r:y", 2000.0, 1),
    ("r", "r:z", 500.0, 3),
    ("c", "c:x", 1),
    ("c", "c:y", 2),
    ("c", "c:shared", 1),
)
CAPS = {limit[1]: limit[2] for limit in LIMITS if limit[0] == "c"}
KINDS: tuple[Kind, ...] = ("end", "end", "dead", "retry", "release", "limit", "early")
STEPS_MS = (1, 10, 300, 1000, 5000, LEASE_MS + 1)
HELD_SCORE = 8639999999999000


class World:
    """A store, three workers, and what these believe to hold."""

    def __init__(self, store_harness: StoreHarness, seed: int) -> None:
        self.store_harness = store_harness
        self.dice = random.Random(seed)
        self.workers = [store_harness.worker(f"w{number}") for number in range(3)]
        self.believed: dict[str, tuple[StoreWorker, LeasedJob, int]] = {}  # and when the lease ends
        self.count = 0

    def limits(self) -> list[tuple[object, ...]]:
        return [limit for limit in LIMITS if self.dice.random() < 0.3]

    # -- steps ----------------------------------------------------------------------------------------------------

    async def step(self) -> None:
        steps = {
            self.enqueue: 6,
            self.claim: 5,
            self.finish: 5,
            self.renew: 2,
            self.ask: 3,
            self.time_passes: 2,
        }
        await self.dice.choices(list(steps), list(steps.values()))[0]()

    async def enqueue(self) -> None:
        jobs = []
        for _ in range(self.dice.randint(1, 4)):
            self.count += 1
            priority, when = self.dice.choice((0, 0, 5)), self.dice.choice(("", "", "+1", "+900", "+4000"))
            lock: tuple[object, ...] | None = None
            if self.dice.random() < 0.4:
                until, on_conflict = (
                    self.dice.choice(("started", "finished")),
                    self.dice.choice(("reject", "return", "replace")),
                )
                lock = (f"k{self.dice.randint(0, 2)}", until, on_conflict, 0, 0)
            told = extra(*self.limits(), priority=priority, lock=lock)
            jobs.append(NewJob(self.dice.choice(QUEUES), f"j{self.count}", b"payload", when, extra=told))
        await self.store_harness.store.enqueue(jobs)

    async def claim(self) -> None:
        slots = self.dice.randint(1, 5)
        shares = tuple(QueueShare(queue, self.dice.randint(0, slots), slots) for queue in QUEUES)
        worker = self.dice.choice(self.workers)
        claimed = await worker.claim(slots, aborts=self.dice.random() < 0.5, shares=shares)
        if self.dice.random() < 0.2:
            claimed = await worker.claim_again()
        for job in claimed.jobs:
            assert self.lease_end(job.id) <= self.store_harness.clock(), f"{job.id} is leased to two workers"
            self.believed[job.id] = (worker, job, self.store_harness.clock() + LEASE_MS)

    def lease_end(self, job_id: str) -> int:
        return self.believed[job_id][2] if job_id in self.believed else 0

    async def finish(self) -> None:
        if not self.believed:
            return
        job_id = self.dice.choice(list(self.believed))
        worker, job, _ = self.believed[job_id]
        kind = "end" if job.flag else self.dice.choice(KINDS)
        result = b"result"
        if kind == "limit":
            known = msgspec.msgpack.decode(job.spec) if job.spec else []
            result = encode_limit_spec([*self.limits(), *(entry for entry in known if entry[0] == "u")])
        elif kind in ("retry", "release"):
            result = b""
        delay_ms = self.dice.choice((0, 700)) if kind in ("retry", "release") else 0
        unstarted = bool(job.spec) and not job.flag and kind != "early" and self.dice.random() < 0.3
        await worker.finish(job, kind, delay_ms, result=result, unstarted=unstarted, ttl_ms=-1)
        if kind != "early":
            del self.believed[job_id]

    async def renew(self) -> None:
        """Also of a worker whose lease has ended."""
        if self.believed:
            worker, job, _ = self.believed[job_id := self.dice.choice(list(self.believed))]
            if (await worker.renew(job)).lost:
                del self.believed[job_id]
            else:
                self.believed[job_id] = (worker, job, self.store_harness.clock() + LEASE_MS)

    async def ask(self) -> None:
        """What clients ask for."""
        job_id, queue = f"j{self.dice.randint(1, self.count + 1)}", self.dice.choice(QUEUES)
        is_there = await self.store_harness.redis.zscore(queue, job_id) is not None
        what = self.dice.choice(("abort", "stock abort", "delete", "pause", "resume", "purge" * (self.count % 5 == 0)))
        if what == "abort":
            await self.store_harness.store.abort(job_id, queue)
        elif what == "stock abort" and is_there:
            await self.store_harness.stock_abort(job_id, queue=queue)
        elif what == "delete" and is_there:
            await self.store_harness.store.delete(job_id, queue)
        elif what in ("pause", "resume"):
            await self.store_harness.store.pause(queue, paused=what == "pause")
        elif what == "purge":
            await self.store_harness.store.purge(queue)

    async def time_passes(self) -> None:
        self.store_harness.clock.advance(self.dice.choice(STEPS_MS))

    # -- what must hold -------------------------------------------------------------------------------------------

    async def check(self) -> None:
        for queue in QUEUES:
            await self.check_lanes(queue)
        await self.check_caps()

    async def members(self, prefix: str) -> dict[str, list[str]]:
        """The sorted sets below a prefix, by the rest of their names."""
        keys = [key.decode() async for key in self.store_harness.redis.scan_iter(f"{prefix}*")]
        return {
            key.removeprefix(prefix): [member.decode() for member in await self.store_harness.redis.zrange(key, 0, -1)]
            for key in keys
        }

    async def check_lanes(self, queue: str) -> None:
        redis = self.store_harness.redis
        lanes = await self.members(KEYS.limit_group(queue, ""))
        lines = await self.members(KEYS.wait_list(queue, ""))
        held = {job.decode(): lane.decode() for job, lane in (await redis.hgetall(KEYS.throttled(queue))).items()}  # type: ignore[misc]
        entries = dict(await redis.zrange(queue, 0, -1, withscores=True))

        assert {job_id: lane for lane, jobs in lanes.items() for job_id in jobs} == held
        assert sum(map(len, lanes.values())) == len(held)
        assert sorted(lane for line in lines.values() for lane in line) == sorted(lanes)
        assert {gate.decode() for gate in await redis.zrange(KEYS.retry_at(queue), 0, -1)} == set(lines)
        for limit in lines:
            assert await redis.sismember(KEYS.throttled_queues(limit), queue)  # type: ignore[misc]
        for job_id in held:
            assert entries[job_id.encode()] in (HELD_SCORE, 1.0)
            assert self.lease_end(job_id) <= self.store_harness.clock(), f"{job_id} waits in a lane and is leased"
            assert await redis.exists(KEYS.job(job_id))
        for job_id in await redis.hkeys(KEYS.specs(queue)):  # type: ignore[misc]
            assert job_id in entries

    async def check_caps(self) -> None:
        running: dict[object, list[str]] = {}
        for job_id, (_, job, lease_end) in self.believed.items():
            if lease_end > self.store_harness.clock() and not job.flag and job.spec:
                for entry in msgspec.msgpack.decode(job.spec):
                    running.setdefault(entry[1], []).append(job_id)
        for limit, jobs in CAPS.items():
            holders = {job.decode() for job in await self.store_harness.redis.zrange(KEYS.holders(str(limit)), 0, -1)}
            assert len(running.get(limit, [])) <= int(str(jobs))
            assert set(running.get(limit, [])) <= holders

    async def work_off(self) -> None:
        """A single worker comes to an end by the times that it is told."""
        for queue in QUEUES:
            await self.store_harness.store.pause(queue, paused=False)
        self.believed.clear()
        shares = tuple(QueueShare(queue, 3, 5) for queue in QUEUES)
        for _ in range(2_000):
            claimed = await self.workers[0].claim(5, aborts=True, shares=shares)
            for job in claimed.jobs:
                await self.workers[0].finish(job, ttl_ms=-1)
            if not await self.store_harness.redis.exists(*QUEUES):
                break
            if not claimed.jobs:
                assert 0 <= claimed.next_due_in_ms <= 30_000
                self.store_harness.clock.advance(claimed.next_due_in_ms)
        left = {
            key for key in await self.store_harness.keys() if not key.startswith(("arqestra:rate:", "arqestra:dead"))
        }
        assert left == set()


@pytest.fixture
async def store_harness(redis_url: str) -> AsyncIterator[StoreHarness]:
    async with Redis.from_url(redis_url) as client:
        store_harness = StoreHarness(client)
        yield store_harness
        await store_harness.store.close()


async def _run(store_harness: StoreHarness, seed: int) -> None:
    world = World(store_harness, seed)
    try:
        for _ in range(100):
            await world.step()
            await world.check()
        await world.work_off()
    except AssertionError as error:
        error.add_note(f"seed {seed}")
        raise


@pytest.mark.parametrize("seed", range(40))
async def test_jobs_under_limits_all_end_and_leave_nothing(store_harness: StoreHarness, seed: int) -> None:
    await _run(store_harness, seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_jobs_under_limits_all_end_and_leave_nothing_at_length(store_harness: StoreHarness) -> None:
    for seed in range(1_000, 1_500):
        await store_harness.redis.flushall()
        await _run(store_harness, seed)
