"""What a `SyncPool` gives out: `SyncJob`, `SyncFlow` and `SyncQueue`.

Each has the methods of the handle that it stands for. `blocking` makes them, with the parameters, types and docstring
of the asynchronous method; but they return the value, and not something to await.
"""

from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec

from ..flow.handle import FlowEvent, FlowHandle
from ..handles.job import WATCH_POLL_S, Job
from ..handles.queue import Queue
from ..protocol.progress import Progress
from .pool import Pool
from .sync_connection import SyncConnection

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers bring it: `default` comes to `typing` with Python 3.13

    R = TypeVar("R", default=Any)  # `SyncJob` alone is `SyncJob[Any]`, as `Job` is
else:
    from typing import TypeVar

    R = TypeVar("R")

__all__ = ("SyncFlow", "SyncHandle", "SyncJob", "SyncQueue", "blocking", "sync_job")

P = ParamSpec("P")
T = TypeVar("T")
H = TypeVar("H")
H_co = TypeVar("H_co", covariant=True)


class SyncHandle(Generic[H_co]):
    """Stands for an asynchronous handle, which it makes for the pool of this process: a fork changes nothing.

    :param connection: of the `SyncPool`
    :param make: makes the asynchronous handle
    """

    def __init__(self, connection: SyncConnection, make: Callable[[Pool], H_co]) -> None:
        self._connection, self._make = connection, make
        self._made: tuple[Pool, H_co] | None = None

    def _of(self, pool: Pool) -> H_co:
        if self._made is None or self._made[0] is not pool:
            self._made = pool, self._make(pool)
        return self._made[1]


def blocking(
    method: Callable[Concatenate[H, P], Coroutine[Any, Any, T]], *, is_wait: bool = False
) -> Callable[Concatenate[SyncHandle[H], P], T]:
    """Make of a method of an asynchronous handle one of the handle that stands for it.

    :param is_wait: it waits for a job, maybe for ever
    """

    @wraps(method)
    def call(self: SyncHandle[H], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._connection.run(lambda pool: method(self._of(pool), *args, **kwargs), is_wait=is_wait)

    return call


class SyncJob(SyncHandle[Job[R]], Generic[R]):
    """A handle on one job, for code without asyncio: it has the methods of `Job`. Made by a `SyncPool`.

    :ivar job_id: id of the job
    """

    def __init__(self, connection: SyncConnection, job_id: str, make: Callable[[Pool], Job[R]]) -> None:
        super().__init__(connection, make)
        self.job_id = job_id

    def __repr__(self) -> str:
        return f"<SyncJob {self.job_id}>"

    def result(self, timeout: float | None = None, *, poll_delay: float = 0.5) -> R:
        """Wait for the job's end and return its result. Ctrl-C ends the wait; the job goes on.

        :param timeout: seconds to wait at most; None waits for ever
        :param poll_delay: seconds between polls, while no message comes
        :returns: what the job function returned
        :raises TimeoutError: the job has not ended in time
        :raises ResultNotFound: the job is unknown, or its result is not kept
        :raises JobCancelled: it was aborted, or ended itself by `Cancel`
        :raises BaseException: what the job raised, with the worker's traceback as its cause
        """
        return self._connection.run(lambda pool: self._of(pool).result(timeout, poll_delay=poll_delay), is_wait=True)

    def watch(self, *, poll_delay: float = WATCH_POLL_S) -> Iterator[Progress]:
        """The job's progress, each time that it changes, until the job has ended.

        :param poll_delay: seconds between polls; the job's end is pushed
        """
        return self._connection.iterate(lambda pool: self._of(pool).watch(poll_delay=poll_delay))

    status = blocking(Job.status)
    info = blocking(Job.info)
    result_info = blocking(Job.result_info)
    errors = blocking(Job.errors)
    progress = blocking(Job.progress)
    log = blocking(Job.log)
    abort = blocking(Job.abort, is_wait=True)
    retry = blocking(Job.retry)
    retry_dead = blocking(Job.retry_dead)
    delete = blocking(Job.delete)


class SyncFlow(SyncHandle[FlowHandle[R]], Generic[R]):
    """A handle on a flow, for code without asyncio: it has the methods of `FlowHandle`. Made by a `SyncPool`.

    :ivar flow_id: id of the flow
    """

    def __init__(self, connection: SyncConnection, flow_id: str, make: Callable[[Pool], FlowHandle[R]]) -> None:
        super().__init__(connection, make)
        self.flow_id = flow_id

    def __repr__(self) -> str:
        return f"<SyncFlow {self.flow_id}>"

    def result(self, timeout: float | None = None) -> R:
        """Wait for the flow's last job (or group) and return its result. Ctrl-C ends the wait; the flow goes on.

        :param timeout: seconds to wait at most; None waits for ever
        :raises TimeoutError: it has not ended in time
        :raises ResultNotFound: there is no such flow, or it is not kept any more
        :raises FlowCancelled: it was cancelled
        :raises JobCancelled: it is a workflow, and was aborted
        :raises Exception: what the job at fault raised, with the worker's traceback as its cause
        """
        return self._connection.run(lambda pool: self._of(pool).result(timeout), is_wait=True)

    def events(self) -> Iterator[FlowEvent]:
        """The changes from now on, as they come, until the flow has ended."""
        return self._connection.iterate(lambda pool: self._of(pool).events())

    wait = blocking(FlowHandle.wait, is_wait=True)
    status = blocking(FlowHandle.status)
    progress = blocking(FlowHandle.progress)
    graph = blocking(FlowHandle.graph)
    cancel = blocking(FlowHandle.cancel)
    signal = blocking(FlowHandle.signal)
    retry = blocking(FlowHandle.retry)
    resume = blocking(FlowHandle.resume)
    forget = blocking(FlowHandle.forget)


class SyncQueue(SyncHandle[Queue]):
    """A handle on a queue, for code without asyncio: it has the methods of `Queue`. Made by `SyncPool.queue(name)`."""

    pause = blocking(Queue.pause)
    resume = blocking(Queue.resume)
    is_paused = blocking(Queue.is_paused)
    depth = blocking(Queue.depth)
    purge = blocking(Queue.purge)
    dead_count = blocking(Queue.dead_count)
    dead = blocking(Queue.dead)
    retry_dead = blocking(Queue.retry_dead)
    discard_dead = blocking(Queue.discard_dead)


def sync_job(connection: SyncConnection, job_id: str, queue: str, result_type: Any) -> SyncJob[Any]:
    """A handle on a job that this process has enqueued."""
    return SyncJob(connection, job_id, lambda pool: Job(job_id, pool, queue, _result_type=result_type))
