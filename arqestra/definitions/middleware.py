"""Middleware: what surrounds each enqueue and each run of a job."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import ArgumentsError
from .context import RunningJob

__all__ = (
    "EnqueuedBatch",
    "EnqueuedCall",
    "Middleware",
    "checked_headers",
    "enter_batch",
    "enter_call",
    "is_middleware",
)


@dataclass(slots=True)
class EnqueuedCall:
    """A call that is about to be enqueued.

    :ivar function: name of the function
    :ivar args, kwargs: its arguments
    :ivar queue: the queue that it goes to
    :ivar headers: text that travels with the job: add what the run has to know (a request id, a tenant)
    :ivar job_id: before the enqueue: the chosen id, if there is one. After it: the id of the job, or of the job that
        has the lock; None if the enqueue was refused
    """

    function: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str
    headers: dict[str, str] = field(default_factory=dict)
    job_id: str | None = None


@dataclass(slots=True)
class EnqueuedBatch:
    """Calls that are about to be enqueued together.

    :ivar calls: of `enqueue_many`, the nodes of a graph, or steps that a workflow asks for
    :ivar flow_id: of the graph or the workflow
    """

    calls: Sequence[EnqueuedCall]
    flow_id: str | None = None


class Middleware:
    """Code of yours around each enqueue and each attempt. Override the methods that you need.

    Each is an async context manager. What it raises is raised to the caller of the enqueue, or fails the attempt. The
    first middleware of a list is the outermost.
    """

    def around_enqueue(self, call: EnqueuedCall) -> AbstractAsyncContextManager[None]:
        """Around the enqueue of one job. It may be left in another task than it was entered in."""
        return _nothing()

    def around_enqueue_batch(self, batch: EnqueuedBatch) -> AbstractAsyncContextManager[None]:
        """Around the enqueue of several jobs in one go; by default `around_enqueue` of each."""
        return _each(self, batch.calls)

    def around_run(self, job: RunningJob) -> AbstractAsyncContextManager[None]:
        """Around one attempt. An exception of the job passes through it.

        Also around each stay of a workflow in a worker, from its replay until it is parked or has ended. There a
        middleware cannot swallow an exception.
        """
        return _nothing()


def is_middleware(value: Any) -> bool:
    """Whether it is a sequence of middleware: of objects, not of their classes."""
    methods = ("around_enqueue", "around_enqueue_batch", "around_run")
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(not isinstance(each, type) and all(callable(getattr(each, m, None)) for m in methods) for each in value)
    )


async def enter_call(stack: AsyncExitStack, middleware: Iterable[Middleware], call: EnqueuedCall) -> None:
    """Enter the middleware of the enqueue of one job. It may add headers to the call."""
    for each in middleware:
        await stack.enter_async_context(each.around_enqueue(call))


async def enter_batch(
    stack: AsyncExitStack, middleware: Iterable[Middleware], calls: Sequence[EnqueuedCall], flow_id: str | None = None
) -> None:
    """Enter the middleware of the enqueue of several jobs. It may add headers to the calls."""
    batch = EnqueuedBatch(calls, flow_id)
    for each in middleware:
        await stack.enter_async_context(each.around_enqueue_batch(batch))


def checked_headers(headers: Any) -> dict[str, str]:
    """A copy of the headers.

    :raises ArgumentsError: they are not a dict of str to str
    """
    if isinstance(headers, Mapping) and all(isinstance(text, str) for pair in headers.items() for text in pair):
        return dict(headers)
    got = type(headers).__name__
    if isinstance(headers, Mapping):  # without the values: they may be secret
        got = f"{{{', '.join(f'{name!r}: {type(value).__name__}' for name, value in headers.items())}}}"
    raise ArgumentsError(f"headers: expected a dict of str to str, got {got}")


@asynccontextmanager
async def _each(middleware: Middleware, calls: Sequence[EnqueuedCall]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for call in calls:
            await stack.enter_async_context(middleware.around_enqueue(call))
        yield


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield
