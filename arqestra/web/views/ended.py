"""Pages of ended attempts, read from the capped lists that workers write."""

from collections.abc import Sequence
from typing import NamedTuple

from ...protocol.recent_jobs import EndedJob
from ...store.recent import read_recent
from ...store.store import Store

__all__ = ("EndedFilter", "EndedPage", "ended_page")

READ_PER_CALL = 1_000


class EndedFilter(NamedTuple):
    """Which attempts. "" and None choose nothing."""

    state: str
    function: str = ""
    id: str = ""
    error: str = ""
    place: str = ""
    since_ms: int | None = None
    before_ms: int | None = None

    def fits(self, job: EndedJob) -> bool:
        """Whether an attempt passes the parts of the filter that Redis does not apply."""
        if self.id and self.id not in job.job_id:
            return False
        if not (self.error or self.place):
            return True
        return job.failure is not None and (self.error, self.place) == (job.failure.type, job.failure.place)


class EndedPage(NamedTuple):
    """A page of ended attempts.

    :ivar next: cursor of the next page, "" if there is none: the time of the last attempt read, and how many attempts
        of that time the pages so far have shown
    :ivar inspected: how many attempts were read
    """

    jobs: list[EndedJob]
    next: str
    inspected: int


async def ended_page(
    store: Store, queues: Sequence[str], chosen: EndedFilter, *, after: str, limit: int, max_inspected: int
) -> EndedPage:
    """The latest attempts that fit the filter, from a cursor on.

    :param after: `next` of the page before; "" for the first page
    :param max_inspected: attempts to read at most
    """
    cursor = _cursor(after)
    by_redis_alone = not (chosen.id or chosen.error or chosen.place)
    jobs: list[EndedJob] = []
    inspected = 0
    while True:
        before_ms, skip = cursor or (chosen.before_ms, 0)
        wanted = limit - len(jobs) + 1 + skip if by_redis_alone else max(READ_PER_CALL, limit) + skip
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
            if len(jobs) == limit or inspected == max_inspected:
                return EndedPage(jobs, _cursor_text_after(found[:at], before_ms, skip), inspected)
            inspected += 1
            if chosen.fits(job):
                jobs.append(job)
        if len(found) < wanted:
            return EndedPage(jobs, "", inspected)
        cursor = _cursor_after(found, before_ms, skip)


def _cursor(after: str) -> tuple[int | None, int] | None:
    """The time and number of a cursor `before.skip`; None, which is the beginning, for any other text."""
    before, found, skip = after.partition(".")
    if not (found and before.isdigit() and skip.isdigit() and len(before) < 15 and len(skip) < 6):
        return None
    return int(before), int(skip)


def _cursor_after(seen: Sequence[EndedJob], before_ms: int | None, skip: int) -> tuple[int | None, int]:
    if not seen:
        return before_ms, skip
    last_ms = _ms(seen[-1])
    return last_ms + 1, sum(_ms(job) == last_ms for job in seen)


def _cursor_text_after(seen: Sequence[EndedJob], before_ms: int | None, skip: int) -> str:
    before, passed = _cursor_after(seen, before_ms, skip)
    return f"{before}.{passed}"


def _ms(job: EndedJob) -> int:
    return round(job.ended.timestamp() * 1000)
