"""Queues as they stand, for people: their entries, and how many of which state there are. Nothing is changed."""

from typing import Any, NamedTuple

from arq.constants import health_check_key_suffix
from redis.asyncio import Redis

from ..protocol.keys import Keys
from .codec import due_ms_of
from .link import with_retries
from .store import Store

__all__ = (
    "QueueEntry",
    "QueuePage",
    "QueueSurvey",
    "browse",
    "entries_of",
    "is_paused",
    "queue_depth",
    "survey",
)

PAGE = 500
STUCK_AFTER_MS = 60_000


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


async def queue_depth(redis: Redis, keys: Keys, queue: str) -> int:
    """Entries in the queue: deferred, due and in progress."""
    depth: int = await redis.zcard(keys.queue(queue))
    return depth


async def is_paused(redis: Redis, keys: Keys, queue: str) -> bool:
    """Whether no worker takes jobs of the queue."""
    return bool(await redis.sismember(keys.paused, queue))  # type: ignore[misc]
