"""What running jobs tell of themselves: progress and log lines, written once a second by their workers."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

from ..protocol.progress import LOG_LINES, LogLine, Progress, decode_line, decode_progress
from .link import with_retries
from .store import Store

__all__ = ("JOBS_PER_CALL", "ProgressUpdate", "Written", "read_log", "read_progress", "write_progress")

TTL_MS = 86_400_000
JOBS_PER_CALL = 50


Written = Literal["written", "leased", "free"]


class ProgressUpdate(NamedTuple):
    """What one job has told since the last time.

    :ivar token: of its lease
    :ivar number: of this write within the attempt
    :ivar enqueued_ms: tells the job from an earlier one of the same id
    :ivar progress: encoded; b"" for none
    :ivar lines: encoded
    :ivar ended: Redis has taken this attempt's outcome, so its lease is gone and it may still write
    """

    job_id: str
    token: str
    number: int
    enqueued_ms: int
    progress: bytes
    lines: Sequence[bytes]
    ended: bool = False


async def write_progress(store: Store, updates: Sequence[ProgressUpdate]) -> list[Written]:
    """Add to what jobs have told.

    :param updates: of `JOBS_PER_CALL` jobs at most
    :returns: for each "written", "leased": somebody else holds the job or has run it since, or "free": nobody holds it,
        and this attempt is not known to have ended by itself. Nothing was written then
    """
    flat: list[str | int | bytes] = []
    for each in updates:
        flat += (each.job_id, each.token, each.number, each.enqueued_ms, int(each.ended), each.progress)
        flat += (len(each.lines), *each.lines)
    replies = await store.call("progress", TTL_MS, LOG_LINES, *flat)
    return [cast(Written, reply.decode()) for reply in replies]


async def read_progress(store: Store, job_id: str) -> Progress | None:
    """How far a job said it is; None if it did not say."""

    async def read(_: bool) -> bytes | None:
        data: bytes | None = await store.redis.hget(store.keys.progress(job_id), "progress")  # type: ignore[misc]
        return data

    data = await with_retries(read)
    return None if data is None else decode_progress(data)


async def read_log(store: Store, job_id: str, limit: int = LOG_LINES) -> list[LogLine]:
    """The last lines of a job's log, the first first."""

    async def read(_: bool) -> list[bytes]:
        lines: list[bytes] = await store.redis.lrange(store.keys.job_log(job_id), -limit, -1)  # type: ignore[misc]
        return lines

    return [decode_line(line) for line in await with_retries(read)]
