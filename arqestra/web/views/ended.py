"""Attempts that have ended, in pages, out of the capped lists that the workers write."""

from collections.abc import Sequence
from typing import NamedTuple

from ...protocol.recent_jobs import EndedJob
from ...store.recent import read_recent
from ...store.store import Store

__all__ = ("EndedFilter", "EndedPage", "ended_page")

READ_AT_ONCE = 1_000


class EndedFilter(NamedTuple):
    """Which attempts: "" and None do not choose."""

    state: str
    function: str = ""
    id: str = ""
    error: str = ""
    place: str = ""
    since_ms: int | None = None
    before_ms: int | None = None

    def fits(self, job: EndedJob) -> bool:
        """Whether an attempt is one of those, by what the lists are not sorted by."""
        if self.id and self.id not in job.job_id:
            return False
        if not (self.error or self.place):
            return True
        return job.failure is not None and (self.error, self.place) == (job.failure.type, job.failure.place)


class EndedPage(NamedTuple):
    """A page of them.

    :ivar next: cursor of the next page, "" if there is none: the time of the last one that was looked at, and how many
        of that time have been
    """

    jobs: list[EndedJob]
    next: str
    looked_at: int


async def ended_page(
    store: Store, queues: Sequence[str], chosen: EndedFilter, after: str, limit: int, look_at: int
) -> EndedPage:
    """The latest attempts that fit, after those of the pages before.

    :param after: cursor, "" for the first page
    :param look_at: attempts to look at, at most
    """
    cursor = _cursor(after)
    plain = not (chosen.id or chosen.error or chosen.place)
    jobs: list[EndedJob] = []
    looked_at = 0
    while True:
        before_ms, skip = cursor or (chosen.before_ms, 0)
        wanted = limit - len(jobs) + 1 + skip if plain else max(READ_AT_ONCE, limit) + skip
        found = await read_recent(
            store,
            queues,
            state=chosen.state,
            function=chosen.function or None,
            since_ms=chosen.since_ms,
            before_ms=before_ms,
            limit=wanted,
        )
        for at, job in enumerate(found[skip:], skip):
            if len(jobs) == limit or looked_at == look_at:
                return EndedPage(jobs, _place_after(found[:at], before_ms, skip), looked_at)
            looked_at += 1
            if chosen.fits(job):
                jobs.append(job)
        if len(found) < wanted:
            return EndedPage(jobs, "", looked_at)
        cursor = _place_of(found, before_ms, skip)


def _cursor(after: str) -> tuple[int | None, int] | None:
    """Time and number of `before.skip`; anything else is the beginning."""
    before, found, skip = after.partition(".")
    if not (found and before.isdigit() and skip.isdigit() and len(before) < 15 and len(skip) < 6):
        return None
    return int(before), int(skip)


def _place_of(seen: Sequence[EndedJob], before_ms: int | None, skip: int) -> tuple[int | None, int]:
    if not seen:
        return before_ms, skip
    last_ms = _ms(seen[-1])
    return last_ms + 1, sum(_ms(job) == last_ms for job in seen)


def _place_after(seen: Sequence[EndedJob], before_ms: int | None, skip: int) -> str:
    before, passed = _place_of(seen, before_ms, skip)
    return f"{before}.{passed}"


def _ms(job: EndedJob) -> int:
    return round(job.ended.timestamp() * 1000)
