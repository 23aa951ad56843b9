"""The transitions of a job: one method and one script each (`lua/`). Python never reads and then writes."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ..protocol.clock import script_time
from ..protocol.constants import BATCH
from ..protocol.keys import Keys
from .calls import Pulse, ScriptCall
from .codec import claim_args, claimed, due_ms_of, enqueued, flat_jobs, flat_updates, verdicts
from .commands import CommandClient
from .enqueue import EnqueueCounts, batches
from .link import Links, with_retries
from .records import Claimed, ClaimRequest, EnqueueResult, JobSnapshot, LeaseRef, NewJob, Offer, Renewal
from .replies import ClaimRefused
from .scripts import NAMES, script
from .statistics_writer import StatisticsWriter
from .time_limits import REPLY_LIMIT_S
from .updates import Update

__all__ = (
    "MARGIN_MS",
    "ScriptRunner",
    "Store",
)


# A lease record outlives its lease by this, so that after an outage of Redis a live worker finds its lease again.
MARGIN_MS = 600_000
KEEP_DEAD_MS = 7 * 86_400_000
PURGE_BATCH = 200


class Store:
    """The transitions, over one Redis.

    :param redis: a client; its connection pool makes our connections
    :param keys: the namespace
    :param clock: ms since the epoch, for tests; default Redis' own clock
    :param reply_timeout_s: seconds that a script's reply may take before its connection is given up
    :param functions: call scripts as functions of the library where the server has functions
    :ivar pulse: whether Redis answers
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys | None = None,
        clock: Callable[[], int] | None = None,
        reply_timeout_s: float = REPLY_LIMIT_S,
        pulse: Pulse | None = None,
        functions: bool = True,
    ) -> None:
        self.keys = keys or Keys()
        links = Links(redis.connection_pool, reply_timeout_s, pulse, functions)
        self.redis: Redis = CommandClient(redis, links)  # for what is read outside of scripts
        self._runner = ScriptRunner(links, self.keys, clock)
        self._call, self._run = self._runner.prepare, self._runner.run
        self.call = self._runner.call
        self.pulse = links.pulse
        # They get the runner, not this store: what refers to itself is not closed when it is dropped.
        self.statistics = StatisticsWriter(self._runner.call, self.keys)
        self.enqueued = EnqueueCounts(self.statistics)

    async def connect(self) -> None:
        """Connect now, not with the first call.

        :raises redis.exceptions.ConnectionError, redis.exceptions.TimeoutError: no connection
        """
        await self._runner.links.connect()

    async def close(self) -> None:
        """Write what was counted of enqueues, and close this store's connections."""
        await self.enqueued.close()
        await self._runner.links.close()

    async def enqueue(self, jobs: Sequence[NewJob]) -> list[EnqueueResult]:
        """Store jobs. Sent again after a lost connection, without harm.

        :returns: for each True, False if it was refused, or the job that stands for it: it holds the lock
        """
        accepted: list[EnqueueResult] = []
        for batch in batches(jobs):
            accepted += await self.enqueue_batch(batch)
        return accepted

    async def enqueue_batch(self, jobs: Sequence[NewJob], *, resent: bool = False) -> list[EnqueueResult]:
        """Store jobs in one script call.

        :param resent: they were sent before, and the reply was lost
        """
        flat = flat_jobs(jobs)

        async def send(resent: bool) -> list[EnqueueResult]:
            return enqueued((await self._run(self._enqueue_call(flat, resent)))[0])

        return await with_retries(send, resent=resent)

    def enqueue_now(self, jobs: Sequence[NewJob], receive: Callable[[list[EnqueueResult] | Exception], None]) -> bool:
        """Store jobs in one script call, sent right away; the reply goes to `receive`.

        :returns: False if there is no connection yet: nothing was sent, and `receive` will not be called
        """
        link = self._runner.links.open_link
        if link is None:
            return False

        def pass_on(replies: list[Any] | Exception) -> None:
            reply = replies if isinstance(replies, Exception) else replies[0]
            receive(reply if isinstance(reply, Exception) else enqueued(reply))

        link.send((self._enqueue_call(flat_jobs(jobs), False),), pass_on)
        return True

    def _enqueue_call(self, flat: Sequence[bytes | str | int], resent: bool) -> ScriptCall:
        return self._call("enqueue", "1" if resent else "0", *flat)

    async def turn(
        self,
        updates: Sequence[Update],
        request: ClaimRequest | None,
        *,
        offer: Offer | None = None,
        resent: bool = False,
        keep_dead_ms: int = KEEP_DEAD_MS,
    ) -> tuple[list[bool | None], Claimed | None]:
        """Finish and claim in one round trip: what ended makes room for what is claimed.

        :param updates: at most `BATCH`
        :param offer: after them, of a worker that does not claim now
        :param resent: the same call was sent before and its reply was lost
        :param keep_dead_ms: how long the dead set keeps a job
        :returns: for each update whether it was written (False: the lease was lost; None: an earlier call may have
            written it), and the claim
        :raises ClaimRefused: Redis refused the claim, and has taken the outcomes
        """
        if not updates and request is None and offer is None:
            return [], None
        flat = flat_updates(updates)
        what: tuple[bytes | str | int, ...] = ()
        if request is not None:
            what = ("claim", *claim_args(request, resent))
        elif offer is not None:
            what = ("offer", *offer[1:])
        verdict_text, reply = (await self._run(self._call("turn", keep_dead_ms, len(flat), *flat, *what)))[0]
        written = verdicts(updates, verdict_text, resent)
        if isinstance(reply, Exception):
            if not updates or not isinstance(reply, ResponseError):
                raise reply
            raise ClaimRefused(reply, written) from reply
        return written, None if request is None else claimed(request, reply)

    async def renew(self, leases: Sequence[LeaseRef], lease_ms: int, *, aborts: bool) -> Renewal:
        """Extend leases; says which are lost and which jobs are to be aborted."""
        lost: list[LeaseRef] = []
        aborted: list[LeaseRef] = []
        for first in range(0, len(leases), BATCH):
            batch = leases[first : first + BATCH]
            flat = [field for lease in batch for field in lease]
            call = self._call("renew", lease_ms, MARGIN_MS, "1" if aborts else "0", *flat)
            batch_lost, batch_aborted = (await self._run(call))[0]
            lost += [batch[number - 1] for number in batch_lost]
            aborted += [batch[number - 1] for number in batch_aborted]
        return Renewal(lost, aborted)

    async def abort(self, job_id: str, queue: str) -> Literal["running", "queued", "aborted", "ended", "missing"]:
        """Ask for the abort of a job."""
        reply = await with_retries(lambda _: self._run(self._call("abort", queue, job_id)))
        return cast(Literal["running", "queued", "aborted", "ended", "missing"], reply[0].decode())

    async def leave(self, queue: str, worker_id: str, last_used_offer: int = 0, number: int = 0) -> None:
        """This worker waits no longer for jobs of the queue, and its offer is over.

        :param last_used_offer: number of the offer on which it took in a job last
        :param number: of its latest claim or offer
        """
        await with_retries(lambda _: self._run(self._call("leave", queue, worker_id, last_used_offer, number)))

    async def delete(
        self, job_id: str, queue: str, *, ended: bool = False
    ) -> Literal["running", "again", "elsewhere", "deleted", "missing"]:
        """Remove every trace of a job that no worker holds.

        :param ended: only if it has ended; "again" if it is in its queue
        :returns: "elsewhere" if it is in another queue; nothing was done then, nor if it is "running"
        """
        only_ended = "1" if ended else "0"
        reply = await with_retries(
            lambda resent: self._run(self._call("delete", queue, job_id, "1" if resent else "0", only_ended))
        )
        return cast(Literal["running", "again", "elsewhere", "deleted", "missing"], reply[0].decode())

    async def requeue(
        self, job_id: str, queue: str, result: bytes, payload: bytes, priority: int = 0
    ) -> Literal["queued", "changed", "exists"]:
        """Run an ended job once more, if its result is still this one."""
        call = self._call("requeue", queue, job_id, result, payload, priority)
        reply = await with_retries(lambda _: self._run(call))
        return cast(Literal["queued", "changed", "exists"], reply[0].decode())

    async def run_now(self, job_id: str, queue: str) -> Literal["queued", "running", "held", "missing"]:
        """Make a deferred job due at once."""
        reply = await self.call("run_now", queue, job_id)
        return cast(Literal["queued", "running", "held", "missing"], reply.decode())

    async def note_unknown(self, job_id: str, *, enqueued_ms: int, token: str, keep_ms: int) -> tuple[int, int]:
        """Note that a worker gives a job back because it does not know the job's function.

        :param enqueued_ms: when the job was enqueued: for a later job of the same id the count begins anew
        :param token: of the lease that ends so
        :param keep_ms: the note is kept for so long
        :returns: how often the job was given back, and ms since the first time
        """
        count, since_ms = await self.call("unknown", self.keys.unknown(job_id), enqueued_ms, token, keep_ms)
        return count, since_ms

    async def peek(self, job_id: str, queue: str, *, payload: bool = False, result: bool = True) -> JobSnapshot:
        """What is known of a job.

        :param payload: with its payload and errors
        :param result: with its result, which may be large; else b"" stands for one that is there
        """
        what = "1" if payload else "0" if result else "s"
        reply = await with_retries(lambda _: self._run(self._call("peek", queue, job_id, what)))
        value, score, lease, now_ms, stored, errors = reply[0]
        return JobSnapshot(
            result=value,
            score=None if score is None else due_ms_of(float(score)),
            lease=lease,
            now_ms=now_ms,
            payload=stored,
            errors=tuple(errors),
        )

    async def pause(self, queue: str, *, paused: bool) -> bool:
        """Pause or resume a queue for the whole fleet; whether that changed anything."""
        reply = await with_retries(lambda _: self._run(self._call("pause", queue, "1" if paused else "0")))
        return bool(reply[0])

    async def purge(self, queue: str) -> int:
        """Remove the jobs of a queue that no worker holds; how many."""
        removed = skip = 0
        while True:
            call = self._call("purge", queue, skip, PURGE_BATCH)
            count, skip, ended = (await with_retries(lambda _, call=call: self._run(call)))[0]  # type: ignore[misc]
            removed += count
            if ended == b"1":
                return cast(int, removed)

    async def cast_out(self, queue: str, member: bytes) -> None:
        """Take what is no job id out of a queue, where this caller has leased it. What else has its name stays."""

        async def cast_out(_: bool) -> None:
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.zrem(queue, member)
                pipe.delete(self.keys.lease_prefix.encode() + member, self.keys.attempts_prefix.encode() + member)
                await pipe.execute()

        await with_retries(cast_out)

    async def discard(self, queue: str, job_ids: Sequence[str]) -> int:
        """Take jobs out of the dead set for good; how many were there."""
        reply = await with_retries(lambda _: self._run(self._call("discard", queue, *job_ids)))
        return cast(int, reply[0])


class ScriptRunner:
    """Makes calls of scripts, and sends them.

    :param links: the connection
    :param keys: the namespace
    :param clock: ms since the epoch, for tests; None for Redis' own clock
    """

    def __init__(self, links: Links, keys: Keys, clock: Callable[[], int] | None) -> None:
        self.links = links
        self._clock = clock
        self._key = keys.deployment
        self._scripts = {name: script(name) for name in NAMES}

    def prepare(self, name: str, *args: bytes | str | int) -> ScriptCall:
        """A call of a script, to be sent by `run`."""
        called = self._scripts[name]
        clock = str(self._clock()) if self._clock else script_time()
        return ScriptCall(called, ("FCALL", called.function, 1, self._key, clock, *args))

    async def run(self, *calls: ScriptCall) -> list[Any]:
        """Send calls in one round trip.

        :raises redis.exceptions.RedisError: the first error among the replies, or no reply
        """
        replies = await self.links.call(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def call(self, name: str, *args: bytes | str | int) -> Any:
        """One script by its name, sent again after a lost connection: for subjects with a file of their own."""
        return (await with_retries(lambda _: self.run(self.prepare(name, *args)), links=self.links))[0]
