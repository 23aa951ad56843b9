"""Jobs that were given back because a worker does not know their function: how often, and since when."""

from .store import Store

__all__ = ("note_unknown",)


async def note_unknown(store: Store, job_id: str, enqueued_ms: int, token: str, keep_ms: int) -> tuple[int, int]:
    """Note that a job is given back once more.

    :param enqueued_ms: when it was enqueued: a later job of the same id begins anew
    :param token: of the lease that ends so
    :param keep_ms: after that the note is forgotten
    :returns: how often it was given back, and ms since the first time
    :raises redis.exceptions.RedisError: Redis does not answer
    """
    count, since_ms = await store.call("unknown", store.keys.unknown(job_id), enqueued_ms, token, keep_ms)
    return count, since_ms
