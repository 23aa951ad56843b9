"""The transitions of schedules, and what is read of them. `lua/_schedule.lua` explains the data."""

from collections.abc import Awaitable, Iterator, Sequence
from typing import Literal, cast

from ..protocol.constants import NEVER_DUE_MS
from .link import with_retries
from .records import Duplicate
from .schedule_records import (
    DuePage,
    DueSchedule,
    FiringKind,
    Kept,
    NewFiring,
    NotedRun,
    ScheduleRecord,
    StoredSchedule,
)
from .store import Store

__all__ = ("ScheduleStore",)

NAMES_PER_CALL = 500
RECORDS_PER_CALL = 500
_RECORD = [
    "home",
    "rev",
    "source",
    "serializer",
    "spec",
    "payload",
    "extra",
    "mark",
    "paused",
    "removed",
    "problem",
    "zone",
]
_VERDICTS: dict[int, FiringKind] = {
    **{ord("1"): "fired", ord("."): "done", ord("0"): "changed", ord("e"): "early"},
    **{ord("s"): "overlap", ord("r"): "refused", ord("2"): "fired", ord("x"): "not storable"},
}


class ScheduleStore:
    """The schedules of one home.

    :param store: its connection
    :param home: the queue to which they belong
    """

    def __init__(self, store: Store, home: str) -> None:
        self._store = store
        self.home = home

    async def keep(
        self,
        age_ms: int,
        digests: Sequence[tuple[str, str]],
        *,
        started_ms: int | None = None,
        rev: str = "",
    ) -> Kept:
        """Say that this process defines schedules.

        :param age_ms: ms since it started
        :param digests: name and digest of each
        :param started_ms: when it started, as the call before this one told
        :param rev: as the call before this one told, if all of these were defined so then: if nothing has changed
            since, nothing is compared
        """
        verdicts, first_rev = "", ""
        for first in range(0, max(1, len(digests)), NAMES_PER_CALL):
            flat = [field for pair in digests[first : first + NAMES_PER_CALL] for field in pair]
            before = "" if started_ms is None else started_ms
            reply = await self._store.call("schedule_keep", age_ms, before, rev, *flat)
            started_ms, new_rev, of_piece = reply[0], reply[1].decode(), reply[2].decode()
            rev = new_rev if rev == new_rev else ""  # something has changed: the rest is compared
            first_rev = first_rev or new_rev
            verdicts += of_piece
        assert started_ms is not None
        of_names = dict(zip((name for name, _ in digests), verdicts, strict=True))
        return Kept(started_ms, first_rev if first_rev == new_rev else "", of_names)

    async def put(self, record: ScheduleRecord, *, started_ms: int | None) -> tuple[str, str]:
        """Define a schedule.

        :param started_ms: of one that code defines: when its process started, as `keep` told; None at run time
        :returns: "new", "changed", "same", "stay" (what was changed at run time stays) or "others" (define it
            differently), and the source of the definition before
        """
        source = ("api", 0) if started_ms is None else ("code", started_ms)
        mark = "" if record.first_mark is None else record.first_mark
        fields = (record.digest, record.timing, mark, record.serializer, record.spec, record.payload, record.extra)
        what, before = await self._store.call("schedule_put", self.home, record.name, *source, *fields)
        return what.decode(), before.decode()

    async def set(self, name: str, what: Literal["pause", "resume", "remove"]) -> bool | None:
        """Pause, resume or remove a schedule; whether that changed anything, None if it does not exist."""
        reply = await self._store.call("schedule_set", name, what)
        return None if reply < 0 else bool(reply)

    async def fetch_due(self, ahead_ms: int, most: int, skip: int = 0) -> DuePage:
        """What is due, or will be.

        :param ahead_ms: by when
        :param most: how many at most
        :param skip: how many to pass over
        """
        reply = await self._store.call("schedule_due", self.home, ahead_ms, most, skip)
        now_ms, next_in_ms, went_back, *fields = reply
        due = [
            DueSchedule(name.decode(), int(float(at)), rev.decode(), int(float(mark)))
            for name, at, rev, mark in zip(*[iter(fields)] * 4, strict=True)
        ]
        return DuePage(now_ms, None if next_in_ms < 0 else next_in_ms, due, went_back == b"1")

    async def fire(self, firings: Sequence[NewFiring]) -> list[FiringKind]:
        """Fire ticks, all in one script call. Sent again after a lost connection, without harm."""
        return (await self._fire(firings))[0]

    async def fire_by_hand(self, firing: NewFiring) -> tuple[FiringKind, Duplicate | None]:
        """Fire one run, not a tick.

        :returns: what came of it, and another job that stands for its job: it holds the lock
        """
        (kind,), duplicates = await self._fire([firing])
        return kind, Duplicate(duplicates[0].decode(), duplicates[1].decode()) if duplicates else None

    async def _fire(self, firings: Sequence[NewFiring]) -> tuple[list[FiringKind], list[bytes]]:
        flat: list[bytes | str | int] = []
        for firing in firings:
            flat += ("" if field is None else field for field in firing)
        reply: bytes | list[bytes] = await self._store.call("schedule_fire", self.home, *flat)
        verdicts, *duplicates = [reply] if isinstance(reply, bytes) else reply
        return [_VERDICTS[verdict] for verdict in verdicts], duplicates

    async def rewind(self) -> None:
        """The clock was wrong, and was put back: draw what was noted of a time to come back to the present."""
        names = [name for name, _ in await self.names()]
        for first in range(0, len(names), NAMES_PER_CALL):
            await self._store.call("schedule_rewind", self.home, *names[first : first + NAMES_PER_CALL])
        await self._store.call("schedule_rewind", self.home)

    async def names(self) -> list[tuple[str, float]]:
        """All schedules, and when they are due, the next first."""
        key = self._store.keys.schedules(self.home)
        found = await with_retries(lambda _: self._store.redis.zrange(key, 0, -1, withscores=True))
        return [(name.decode(), score) for name, score in found]

    async def read(self, names: Sequence[str]) -> dict[str, StoredSchedule]:
        """What is stored of schedules; those that do not exist are left out."""
        found: dict[str, StoredSchedule] = {}
        for first in range(0, len(names), RECORDS_PER_CALL):
            batch = names[first : first + RECORDS_PER_CALL]
            found |= {stored.name: stored for stored in await with_retries(lambda _, batch=batch: self._read(batch))}  # type: ignore[misc]
        return found

    async def _read(self, names: Sequence[str]) -> list[StoredSchedule]:
        redis, keys = self._store.redis, self._store.keys
        async with redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hmget(keys.schedule(name), _RECORD)
            records = await pipeline.execute()
        found = [(name, record) for name, record in zip(names, records, strict=True) if record[0] is not None]
        async with redis.pipeline(transaction=False) as pipeline:
            for name, (home, *_) in found:
                pipeline.zscore(keys.schedules(home.decode()), name)
            scores = await pipeline.execute()
        return list(_stored(found, scores))

    async def runs(self, name: str) -> list[NotedRun]:
        """The latest runs of a schedule, the latest first."""
        return await with_retries(lambda _: self._runs(name))

    async def _runs(self, name: str) -> list[NotedRun]:
        redis, keys = self._store.redis, self._store.keys
        found = await cast(Awaitable[list[bytes]], redis.hvals(keys.schedule_runs(name)))
        noted = _with_ends(sorted(map(_run, found), reverse=True))
        async with redis.pipeline(transaction=False) as pipeline:
            for run in noted:
                pipeline.exists(keys.lease(run.job_id), keys.job(run.job_id))
                pipeline.exists(keys.job(run.job_id))
                pipeline.exists(keys.result(run.job_id))
            replies = await pipeline.execute()
        states = zip(*[iter(replies)] * 3, strict=True)
        return [
            run if run.outcome else run._replace(state=_state(*state)) for run, state in zip(noted, states, strict=True)
        ]


def _with_ends(runs: list[NotedRun]) -> list[NotedRun]:
    """Where a job stands for the tick of several runs, its end is noted at the first: the others get it from there."""
    ends = {run.job_id: run for run in runs if run.ended_ms is not None}
    return [
        run._replace(outcome=end.outcome, ended_ms=end.ended_ms)
        if not run.outcome and (end := ends.get(run.job_id)) is not None
        else run
        for run in runs
    ]


def _state(lease_and_job: int, job: int, result: int) -> str:
    if job:
        return "running" if lease_and_job == 2 else "queued"
    return "ended" if result else "gone"


def _run(data: bytes) -> NotedRun:
    fired, due, tick, how, outcome, ended, job_id = data.decode().split("|", 6)
    return NotedRun(
        fired_ms=int(fired),
        due_ms=int(float(due)),
        tick=int(tick),
        how=how,
        outcome=outcome,
        ended_ms=int(ended) if ended else None,
        job_id=job_id,
    )


def _stored(
    records: Sequence[tuple[str, list[bytes | None]]], scores: Sequence[float | None]
) -> Iterator[StoredSchedule]:
    for (name, record), score in zip(records, scores, strict=True):
        home, rev, source, serializer, spec, payload, extra, mark, paused, removed, problem, zone = record
        if removed is not None or score is None:
            continue
        yield StoredSchedule(
            name=name,
            due_ms=None if score >= NEVER_DUE_MS else int(score),
            home=(home or b"").decode(),
            rev=(rev or b"").decode(),
            source=(source or b"").decode(),
            serializer=(serializer or b"").decode(),
            spec=spec or b"",
            payload=payload or b"",
            extra=extra or b"",
            mark=int(float(mark or 0)),
            paused=paused is not None,
            problem=(problem or b"").decode(errors="replace"),
            zone=(zone or b"").decode(),
        )
