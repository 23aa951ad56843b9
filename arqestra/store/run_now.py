"""The transition from deferred to due, by hand."""

from typing import Literal, cast

from .store import Store

__all__ = ("run_now",)


async def run_now(store: Store, job_id: str, queue: str) -> Literal["queued", "running", "held", "missing"]:
    """Make a deferred job due at once. Sent again after a lost connection, without harm."""
    reply = await store.call("run_now", queue, job_id)
    return cast(Literal["queued", "running", "held", "missing"], reply.decode())
