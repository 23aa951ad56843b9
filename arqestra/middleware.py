"""Middleware: what surrounds each enqueue and each run of a job."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from .current import RunningJob

__all__ = ("EnqueuedCall", "Middleware")


@dataclass(slots=True)
class EnqueuedCall:
    """A call that is about to be enqueued.

    :ivar function: name of the function
    :ivar args, kwargs: its arguments
    :ivar queue: the queue that it goes to
    :ivar headers: text that travels with the job: add to it what the run is to know (a request id, a tenant)
    """

    function: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str
    headers: dict[str, str] = field(default_factory=dict)


class Middleware:
    """Override what is needed. Each method is an async context manager; what it raises is raised to the caller, or
    fails the attempt. The first middleware of a list is the outermost.
    """

    def around_enqueue(self, call: EnqueuedCall) -> AbstractAsyncContextManager[None]:
        """Around the enqueue of one job."""
        return _nothing()

    def around_run(self, job: RunningJob) -> AbstractAsyncContextManager[None]:
        """Around one attempt: an exception of the job passes through it."""
        return _nothing()


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield
