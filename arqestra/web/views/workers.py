"""Workers: slots, running jobs, memory, processor time, and how late their event loops are."""

from msgspec import Struct

from ...protocol.presence import WorkerInfo
from ..app_state import AppState

__all__ = ("RunningJob", "WorkerList", "WorkerView", "WorkersQuery", "read_workers")


class RunningJob(Struct, frozen=True):
    """A job that a worker runs, with the progress that it told."""

    id: str
    function: str
    queue: str
    attempt: int
    since_ms: int
    done: float | None
    total: float | None
    message: str

    @property
    def share(self) -> float | None:
        """From 0 to 1; None if it is not known."""
        if self.done is None or not self.total or self.total <= 0:
            return None
        return min(1.0, max(0.0, self.done / self.total))


class WorkerView(Struct, frozen=True):
    """A worker as it was last heard of.

    :ivar state: "busy", "idle", "draining"; or "gone": it was killed, or is cut off from Redis; or "silent": it tells
        nothing, and Redis still holds its connection
    :ivar cpu_share: processor time by time, since the reading before; since its start if there was none
    """

    id: str
    host: str
    pid: int
    version: str
    state: str
    queues: list[str]
    slots: int
    running: int
    waiting: int
    jobs: list[RunningJob]
    complete: int
    failed: int
    retried: int
    rss_bytes: int
    cpu_share: float
    lag_ms: int
    redis_errors: int
    started_ms: int
    seen_ms: int


class WorkersQuery(Struct, frozen=True):
    """Nothing to choose."""


class WorkerList(Struct, frozen=True):
    """The workers that were heard of in the last ten minutes."""

    now_ms: int
    workers: list[WorkerView]
    slots: int
    running: int


async def read_workers(app_state: AppState, query: WorkersQuery) -> WorkerList:
    """All workers, the longest running first."""
    found = await app_state.cache.get("workers", app_state.pool.workers)
    views = [_view(app_state, worker) for worker in found]
    alive = [view for view, worker in zip(views, found, strict=True) if worker.alive]
    return WorkerList(app_state.now_ms(), views, sum(view.slots for view in alive), sum(view.running for view in alive))


def _view(app_state: AppState, worker: WorkerInfo) -> WorkerView:
    presence = worker.presence
    seen_ms = int(worker.seen.timestamp() * 1000)
    state = "draining" if presence.draining else "busy" if presence.running else "idle"
    return WorkerView(
        id=worker.worker_id,
        host=presence.host,
        pid=presence.pid,
        version=presence.version,
        state=worker.absence or state,
        queues=presence.queues,
        slots=presence.slots,
        running=presence.running,
        waiting=presence.waiting,
        jobs=[
            RunningJob(
                id=job.id,
                function=job.function,
                queue=job.queue,
                attempt=job.attempt,
                since_ms=job.since_ms,
                done=job.done,
                total=job.total,
                message=job.message,
            )
            for job in presence.jobs
        ],
        complete=presence.complete,
        failed=presence.failed,
        retried=presence.retried,
        rss_bytes=presence.rss_bytes,
        cpu_share=app_state.cpu.share(worker.worker_id, presence.started_ms, seen_ms, presence.cpu_s),
        lag_ms=presence.lag_ms,
        redis_errors=presence.redis_errors,
        started_ms=presence.started_ms,
        seen_ms=seen_ms,
    )
