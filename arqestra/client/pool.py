"""`Pool`: what a producer enqueues with. An `arq.connections.ArqRedis`, so a redis client as well."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from arq.constants import default_queue_name as arq_queue_name
from arq.constants import expires_extra_ms as arq_expires_extra_ms
from arq.jobs import Deserializer
from arq.jobs import Serializer as ArqSerializer
from arq.utils import to_ms, to_unix_ms
from redis.asyncio import ConnectionPool

from ..definitions.durations import keep_ms
from ..definitions.function import Seconds
from ..definitions.graph import Graph, graph_of
from ..definitions.middleware import Middleware
from ..definitions.options import check_options
from ..definitions.signature import Canvas
from ..errors import ArgumentsError
from ..flow.handle import FlowHandle
from ..flow.signals import send_signal
from ..flow.submit import start_flow
from ..handles.job import Job
from ..handles.queue import Queue
from ..protocol.clock import new_job_id, timestamp_ms
from ..protocol.keys import Keys, checked_queue_name
from ..protocol.serializers import Serializer, serializer_of
from ..store.enqueue import EnqueueBatch
from ..store.link import close_sentinels
from ..store.listener import Listener
from ..store.store import Store
from .enqueue import EnqueuingPool, JobSpec
from .pool_options import check_pool_options

if TYPE_CHECKING:
    from ..scheduling.schedules import Schedules

__all__ = ("MAX_PAYLOAD_BYTES", "JobSpec", "Pool")

FLOW_KEEP_S = 3600  # as arq keeps results
R = TypeVar("R")
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024


class Pool(EnqueuingPool):
    """A redis client that enqueues jobs. Takes arq's constructor arguments; see `create_pool` for ours.

    :param pool_or_conn: redis-py's connection pool
    :param job_serializer: arq's argument: a function from dict to bytes; default pickle
    :param job_deserializer: arq's argument: its inverse
    :param default_queue_name: queue where none is given
    :param expires_extra_ms: ms after it is due that a job without `_expires` may still start
    :param serializer: `"pickle"`, `"msgpack"` or `"json"`, in place of arq's two arguments
    :param max_payload_bytes: size limit of one job's encoded arguments
    :param middleware: what surrounds each enqueue, the outermost first
    :param key_prefix: of this application, see `create_pool`
    :param kwargs: passed to `redis.asyncio.Redis`
    """

    def __init__(
        self,
        pool_or_conn: ConnectionPool | None = None,
        job_serializer: ArqSerializer | None = None,
        job_deserializer: Deserializer | None = None,
        default_queue_name: str = arq_queue_name,
        expires_extra_ms: int = arq_expires_extra_ms,
        *,
        serializer: str | Serializer | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        middleware: Sequence[Middleware] = (),
        key_prefix: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_pool_options(
            "Pool",
            {
                **{"job_serializer": job_serializer, "job_deserializer": job_deserializer, "serializer": serializer},
                **{"default_queue_name": default_queue_name, "expires_extra_ms": expires_extra_ms},
                **{"max_payload_bytes": max_payload_bytes, "middleware": middleware, "key_prefix": key_prefix},
            },
        )
        super().__init__(pool_or_conn, job_serializer, job_deserializer, default_queue_name, expires_extra_ms, **kwargs)
        self.use_serializer(serializer)
        self.max_payload_bytes = max_payload_bytes
        self.middleware = tuple(middleware)
        self.clock_offset_ms = 0  # Redis' clock less ours; `create_pool` measures it
        self.listener = Listener(self.connection_pool)
        self.use_key_prefix(key_prefix)

    def use_key_prefix(self, key_prefix: str | None) -> None:
        """Set what all keys and channels begin with, before the first call; None for arq's own keys.

        :raises SettingsError: the prefix is impossible, or the default queue's name begins with it already
        """
        self.store = Store(self, Keys.of(key_prefix), pulse=self.listener.pulse)
        self._batch = EnqueueBatch(self.store)
        checked_queue_name(self.default_queue_name, self.store.keys)

    @property
    def key_prefix(self) -> str | None:
        """What all keys and channels begin with; None where they are arq's."""
        return self.store.keys.key_prefix

    def use_serializer(self, serializer: str | Serializer | None) -> None:
        """Set how payloads and results are written; None for arq's `job_serializer` and `job_deserializer`."""
        self.serializer = serializer_of(serializer, self.job_serializer, self.job_deserializer)
        if serializer is not None:
            self.job_serializer = self.serializer.dumps
            self.job_deserializer = self.serializer.loads

    async def enqueue_flow(
        self,
        canvas: Canvas[R],
        *,
        flow_id: str | None = None,
        name: str | None = None,
        keep_result: Seconds = FLOW_KEEP_S,
        defer_by: Seconds | None = None,
        defer_until: datetime | None = None,
    ) -> FlowHandle[R]:
        """Enqueue a signature, chain, group or chord. Nothing of it starts before the whole of it is stored.

        :param canvas: `f.s(1) | g.s()`, `group(...)`, `chord(...)`, nested as you like
        :param flow_id: its id; default a new one
        :param name: for people; default the name of its last function
        :param keep_result: seconds that the flow and its jobs' results are kept after its end, a century at most
        :param defer_by: seconds (or timedelta) from now before which none of it starts; delays of its first jobs
            (`.set(defer_by=)`) come on top
        :param defer_until: time before which none of it starts
        :returns: a handle on the flow
        :raises FlowExists: a flow of this id exists, or a job of an id that was chosen
        :raises GraphError, ArgumentsError, SerializationError, PayloadTooLarge: nothing was stored then
        :raises SettingsError: both defer_by and defer_until, or an impossible value
        """
        if not isinstance(canvas, Canvas):
            raise ArgumentsError(f"enqueue_flow: expected a signature, chain or group, got {canvas!r}")
        check_options(
            "enqueue_flow",
            {
                **{"flow_id": flow_id, "name": name, "keep_result": keep_result},
                **{"defer_by": defer_by, "defer_until": defer_until},
            },
        )
        start_ms = None if defer_until is None else to_unix_ms(defer_until)
        if defer_by:
            start_ms = timestamp_ms() + round(self.clock_offset_ms) + to_ms(defer_by)
        graph = graph_of(canvas)
        chosen = flow_id or new_job_id()
        kept_ms = max(1000, keep_ms(keep_result))
        await start_flow(self, graph, chosen, name=name or _flow_name(graph), keep_ms=kept_ms, start_ms=start_ms)
        return FlowHandle(chosen, self, graph)

    def flow(self, flow_id: str) -> FlowHandle[Any]:
        """A handle on a flow by its id."""
        return FlowHandle(flow_id, self)

    async def signal(
        self, flow_id: str, event: str, value: Any = None, *, queue: str | None = None, key: str | None = None
    ) -> bool:
        """Send an event to a workflow. Its `flow.wait_for(event)` receives it, also if it waits only later.

        A job that has not begun counts as a workflow if the function itself was enqueued, or if a worker that has a
        workflow of its function's name was started in the last 30 days.

        :param flow_id: the workflow's job id
        :param event: name of the event
        :param value: what it carries
        :param queue: the queue that the workflow was put in; default the pool's, else where it is
        :param key: events with the same key count once, whoever sends them: for 30 days, and among the newest 10,000
            keys of the workflow
        :returns: False if there is no such workflow, or it has ended; nothing was sent then
        :raises SerializationError: the value does not fit the serializer
        """
        return await send_signal(self, flow_id, event, value=value, key=key, queue=queue)

    def job(self, job_id: str, *, queue: str | None = None) -> Job[Any]:
        """A handle on a job by its id.

        :param queue: the queue that it was put in; default the pool's
        """
        return Job(job_id, self, checked_queue_name(queue or self.default_queue_name, self.store.keys))

    def queue(self, name: str | None = None) -> Queue:
        """A handle on a queue: pause, resume, purge, its dead set.

        :param name: default the pool's queue
        """
        return Queue(checked_queue_name(name or self.default_queue_name, self.store.keys), self)

    @property
    def schedules(self) -> "Schedules":
        """Define, pause, run and list schedules at run time."""
        from ..scheduling.schedules import Schedules  # few producers have schedules, and it takes its time to import

        return Schedules(self)

    async def close(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections."""
        await self.aclose(close_connection_pool)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections."""
        await self.listener.close()
        await self.store.close()
        await super().aclose(close_connection_pool)
        await close_sentinels(self.connection_pool)


def _flow_name(graph: Graph) -> str:
    named = [node.call.name for node in graph.jobs if node.call is not None and not node.is_callback]
    return named[-1] if named else "empty"
