"""Looking at queues, for people: bounded looks at their sorted sets, and which queues there are. Nothing is changed."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from arq.constants import health_check_key_suffix
from redis.exceptions import NoPermissionError

from ..errors import SettingsError
from ..protocol.keys import Keys
from .codec import due_ms_of
from .link import with_retries
from .statistics import read_queues
from .store import Store

__all__ = (
    "JobFacts",
    "QueueEntry",
    "QueuePage",
    "QueueSurvey",
    "browse",
    "count_queued",
    "entries_of",
    "find_jobs",
    "find_queues",
    "queue_of",
    "queue_of_job",
    "queued_in",
    "read_job_facts",
    "results_kept",
    "survey",
)

PAGE = 500
STUCK_AFTER_MS = 60_000
KEYS_PER_SCAN = 1_000
MAX_SCANS = 100
MAX_QUEUES = 1_000
MEMBERS_TRIED = 3
RESULTS_PER_CALL = 1_000


class QueueEntry(NamedTuple):
    """A job in a queue.

    :ivar state: "queued" (due), "deferred", "running", "held" by a limit, or "waiting": a workflow that waits for news
    :ivar due_ms: when it is or became due; None if that is not known
    :ivar lease: the lease record, if there is one
    """

    id: str
    state: str
    due_ms: int | None
    lease: bytes | None
    payload: bytes | None


class QueuePage(NamedTuple):
    """A piece of a queue.

    :ivar now_ms: on Redis' clock
    :ivar total: entries in the queue
    :ivar next_place: of the page after this; -1 if this one was the last
    """

    now_ms: int
    total: int
    next_place: int
    entries: list[QueueEntry]


class QueueSurvey(NamedTuple):
    """How a queue stands.

    :ivar waiting: workflows that wait for news
    :ivar stock_running: of the running: those of stock arq workers
    :ivar stuck: jobs whose lease ended a minute ago or more, and which nobody took
    :ivar oldest_due_ms: when the oldest due job became due; None if none is due
    :ivar idle_workers: workers that wait for jobs of it
    :ivar cut: there are more running jobs than were looked at, some count as due or deferred
    :ivar blocked: workflows that are blocked by code
    :ivar has_health_check: a worker of it wrote arq's health check key
    :ivar registered: a worker in the registry serves it; `survey` does not look there
    """

    name: str
    now_ms: int
    entries: int
    due: int
    deferred: int
    running: int
    held: int
    waiting: int
    stock_running: int
    stuck: int
    oldest_due_ms: int | None
    paused: bool
    idle_workers: int
    dead: int
    cut: bool
    has_health_check: bool = False
    blocked: int = 0
    registered: bool = False

    @property
    def oldest_due_age_ms(self) -> int:
        """How long the oldest due job has been due; 0 if none is."""
        return 0 if self.oldest_due_ms is None else max(0, self.now_ms - self.oldest_due_ms)

    @property
    def served(self) -> bool:
        """Whether there is a sign of a worker. A health check is a weak one: it outlives a killed worker by an hour."""
        if self.registered or self.idle_workers > 0 or self.running > 0:
            return True
        return self.has_health_check and self.oldest_due_age_ms < STUCK_AFTER_MS


class JobFacts(NamedTuple):
    """What Redis has of a job besides payload, lease and result.

    :ivar died_ms: when it was put into the dead set of its queue
    :ivar result_ttl_ms: how long the result is kept; None if there is none, or for ever
    """

    attempts: int
    abort_requested_ms: int | None
    died_ms: int | None
    result_ttl_ms: int | None


async def browse(store: Store, queue: str, *, state: str = "", place: int = 0, payloads: int = PAGE) -> QueuePage:
    """A page of a queue: 500 entries are looked at, and those of a state returned.

    :param state: see `QueueEntry`; "" for all
    :param place: of the first entry; -1 for where that state begins
    :param payloads: how many of them come with their payloads
    """
    reply: list[Any] = await store.call("browse", queue, state, place, PAGE, payloads)
    now_ms, total, next_place = reply[:3]
    fields = iter(reply[3:])
    entries = [
        QueueEntry(job_id.decode(errors="replace"), state.decode(), _due_ms(state, score, lease), lease, payload)
        for job_id, state, score, lease, payload in zip(*[fields] * 5, strict=True)
    ]
    return QueuePage(now_ms, total, next_place, entries)


async def entries_of(store: Store, queue: str) -> list[tuple[bytes, int, bytes | None]]:
    """All members of a queue in its order: the member, when it is due or its lease ends (ms), and its payload."""
    members = await with_retries(lambda _: store.redis.zrange(store.keys.queue(queue), 0, -1, withscores=True))
    found: list[tuple[bytes, int, bytes | None]] = []
    for first in range(0, len(members), PAGE):
        page = members[first : first + PAGE]
        names = [store.keys.job_prefix.encode() + member for member, _ in page]
        payloads = await with_retries(lambda _, names=names: store.redis.mget(names))  # type: ignore[misc]
        found += [(member, due_ms_of(score), payload) for (member, score), payload in zip(page, payloads, strict=True)]
    return found


def _due_ms(state: bytes, score: bytes, lease: bytes | None) -> int | None:
    if state in (b"held", b"waiting"):
        return None
    if state != b"running":
        return due_ms_of(float(score))
    parts = (lease or b"").split(b"|")
    return due_ms_of(float(parts[2])) if len(parts) == 4 else due_ms_of(float(score))


async def survey(store: Store, queue: str) -> QueueSurvey:
    """How a queue stands."""
    reply: list[Any] = await store.call("survey", queue, STUCK_AFTER_MS)
    now_ms, entries, due, deferred, running, held, waiting, stock, stuck, oldest, paused, idle, dead, *last = reply
    cut, blocked = last
    oldest_ms = int(oldest)
    return QueueSurvey(
        *(queue, now_ms, entries, due, deferred, running, held, waiting, stock, stuck),
        oldest_due_ms=None if oldest_ms < 0 else oldest_ms,
        paused=bool(paused),
        idle_workers=idle,
        dead=dead,
        cut=bool(cut),
        blocked=blocked,
        has_health_check=bool(await store.redis.exists(store.keys.health_check(queue + health_check_key_suffix))),
    )


async def find_queues(store: Store) -> tuple[list[str], bool]:
    """Queues that leave a trace in Redis, and whether not all keys were looked at: there are more than 100,000, or this
    user may not list them.

    Redis has no list of queues: a queue is there as long as it holds jobs.
    """
    redis, keys = store.redis, store.keys
    found = {name.decode() for name in await redis.smembers(keys.paused)}  # type: ignore[misc]
    found |= {name.decode() for name in await redis.smembers(keys.schedule_queues)}  # type: ignore[misc]
    maybe: set[str] = set()
    cursor, scans = 0, 0
    while True:
        try:
            cursor, names = await redis.scan(cursor, keys.prefix + "*", count=KEYS_PER_SCAN, _type="zset")
        except NoPermissionError:  # those that nothing of ours has used are not found then
            cursor = -1
            break
        for name in names:
            _sort_in(keys, name.decode(errors="replace"), found, maybe)
        scans += 1
        if cursor == 0 or scans == MAX_SCANS:
            break
    for name in sorted(maybe - found)[:MAX_QUEUES]:
        if await _holds_jobs(store, name):
            found.add(name)
    return sorted(found)[:MAX_QUEUES], cursor != 0


def _sort_in(keys: Keys, name: str, found: set[str], maybe: set[str]) -> None:
    """What the name of a sorted set says of queues."""
    for prefix in (keys.waiting(""), keys.resting(""), keys.dead(""), keys.gates(""), keys.promote("")):
        if name.startswith(prefix):
            found.add(name.removeprefix(prefix))
            return
    if not name.startswith(keys.ours) and name != keys.aborts:
        maybe.add(name.removeprefix(keys.prefix))


async def _holds_jobs(store: Store, name: str) -> bool:
    """Whether a sorted set is a queue: other programs may keep theirs in this Redis."""
    try:
        members = await store.redis.zrange(store.keys.queue(name), 0, MEMBERS_TRIED - 1)
    except NoPermissionError:  # SCAN names the keys of others, too
        return False
    ids = [member.decode(errors="replace") for member in members]
    return await _has_job(store, store.keys, ids) and not await _is_of_another(store, name, ids)


async def _has_job(store: Store, keys: Keys, ids: Sequence[str]) -> bool:
    names = [key for job_id in ids for key in (keys.job(job_id), keys.lease(job_id))]
    return bool(names) and bool(await store.redis.exists(*names))


async def _is_of_another(store: Store, name: str, ids: Sequence[str]) -> bool:
    """Whether it is a queue of an application with a key prefix, whose jobs may have the ids of ours."""
    if store.keys.prefix or ":" not in name:
        return False
    try:
        other = Keys.of(name.partition(":")[0])
    except SettingsError:
        return False  # no such application can be
    return bool(other.prefix) and await _has_job(store, other, ids)


async def queue_of(store: Store, job_id: str, queues: list[str]) -> str | None:
    """The first of these queues that holds a job, or has it in its dead set; None if none does."""
    async with store.redis.pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.zscore(store.keys.queue(queue), job_id)
            pipe.zscore(store.keys.dead(queue), job_id)
        replies = await pipe.execute()
    for queue, queued, dead in zip(queues, replies[::2], replies[1::2], strict=True):
        if queued is not None or dead is not None:
            return queue
    return None


async def queued_in(store: Store, job_id: str, queues: Sequence[str]) -> str | None:
    """The first of these queues that a job waits or runs in; None if it does in none."""

    async def read(_: bool) -> list[Any]:
        async with store.redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.zscore(store.keys.queue(queue), job_id)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
            return replies

    scores = await with_retries(read)  # errors among them: what is no queue, or another's
    return next((queue for queue, score in zip(queues, scores, strict=True) if isinstance(score, float)), None)


async def queue_of_job(store: Store, job_id: str, likely: Sequence[str]) -> tuple[str | None, bool]:
    """The queue that holds a job, wherever that is, and whether all queues were looked at.

    The likely queues are asked first, then those that were used in the last 30 days, then all that Redis has: an id
    does not say in which queue its job is.
    """
    if not await with_retries(lambda _: store.redis.exists(store.keys.job(job_id))):
        return None, True
    asked = list(dict.fromkeys([*likely, *await with_retries(lambda _: read_queues(store.redis, store.keys))]))
    found = await queued_in(store, job_id, asked)
    if found is not None:
        return found, True
    others, cut = await find_queues(store)
    return await queued_in(store, job_id, [queue for queue in others if queue not in asked]), not cut


async def count_queued(store: Store, job_ids: Collection[str], queues: Sequence[str]) -> int:
    """How many of these jobs wait or run in one of the queues."""
    scores = [score for queue in queues for score in await store.redis.zmscore(store.keys.queue(queue), list(job_ids))]
    return sum(score is not None for score in scores)


async def results_kept(store: Store, jobs: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether the result of each job is still kept, as its own or in the dead set.

    :param jobs: queues and ids
    """
    kept: list[bool] = []
    for first in range(0, len(jobs), RESULTS_PER_CALL):
        kept += await _results_kept(store, jobs[first : first + RESULTS_PER_CALL])
    return kept


async def _results_kept(store: Store, jobs: Sequence[tuple[str, str]]) -> list[bool]:
    async def read(_: bool) -> list[Any]:
        async with store.redis.pipeline(transaction=False) as pipe:
            for queue, job_id in jobs:
                pipe.exists(store.keys.result(job_id))
                pipe.hexists(store.keys.dead_results(queue), job_id)
            replies: list[Any] = await pipe.execute()
            return replies

    replies = await with_retries(read)
    return [bool(own or dead) for own, dead in zip(replies[::2], replies[1::2], strict=True)]


async def find_jobs(store: Store, job_ids: Sequence[str], queues: Sequence[str]) -> list[tuple[str, str]]:
    """Of these ids those that are jobs, each with the first of the queues that has it, else with the first queue."""
    async with store.redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.exists(store.keys.job(job_id), store.keys.result(job_id))
            for queue in queues:
                pipe.zscore(store.keys.queue(queue), job_id)
                pipe.zscore(store.keys.dead(queue), job_id)
        replies = iter(await pipe.execute())
    found = []
    for job_id in job_ids:
        kept = next(replies)
        has = [queue for queue in queues if [next(replies), next(replies)] != [None, None]]
        if has or kept:
            found.append((job_id, has[0] if has else ""))
    return found


async def read_job_facts(store: Store, queue: str, job_id: str) -> JobFacts:
    """What else Redis has of a job."""
    keys = store.keys

    async def read(_: bool) -> list[Any]:
        async with store.redis.pipeline(transaction=False) as pipe:
            pipe.get(keys.attempts(job_id))
            pipe.zscore(keys.aborts, job_id)
            pipe.zscore(keys.dead(queue), job_id)
            pipe.pttl(keys.result(job_id))
            replies: list[Any] = await pipe.execute()
            return replies

    attempts, abort, died, ttl_ms = await with_retries(read)
    return JobFacts(
        int(attempts or 0),
        None if abort is None else int(abort),
        None if died is None else int(died),
        ttl_ms if ttl_ms > 0 else None,
    )
