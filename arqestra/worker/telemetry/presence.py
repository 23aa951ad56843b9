"""What a worker says of itself, once a second."""

import os
import resource
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ...protocol.presence import JobOnWorker, Presence
from ...version import VERSION
from ..run.attempt import Attempt
from ..run.context import JobCounts

__all__ = ("WorkerState", "memory_bytes", "presence_of")

MAX_JOBS_TOLD = 100
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class WorkerState:
    """How a connected worker is at a moment.

    :ivar running: the attempts that occupy slots, by job id
    :ivar parked: how many workflows wait in memory
    :ivar draining: it takes no more jobs
    :ivar redis_errors: round trips that Redis did not answer
    :ivar fires: it fires schedules
    :ivar timezone: of schedules that were defined at run time and name none
    """

    queues: Sequence[str]
    max_jobs: int
    running: Mapping[str, Attempt]
    parked: int
    counts: JobCounts
    draining: bool
    redis_errors: int
    fires: bool
    timezone: str


def presence_of(state: WorkerState, started_ms: int, lag_s: float) -> Presence:
    """What others are told of a worker.

    :param started_ms: when it was made
    :param lag_s: how late its event loop was, at most
    """
    running = state.running
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Presence(
        host=socket.gethostname(),
        pid=os.getpid(),
        version=VERSION,
        started_ms=started_ms,
        queues=list(state.queues),
        slots=state.max_jobs,
        running=len(running),
        waiting=state.parked,
        jobs=[_on_worker(job_id, attempt) for job_id, attempt in islice(list(running.items()), MAX_JOBS_TOLD)],
        complete=state.counts.complete,
        failed=state.counts.failed,
        retried=state.counts.retried,
        rss_bytes=memory_bytes(),
        cpu_s=round(used.ru_utime + used.ru_stime, 2),
        lag_ms=round(lag_s * 1000),
        draining=state.draining,
        redis_errors=state.redis_errors,
        fires=state.fires,
        timezone=state.timezone,
    )


def _on_worker(job_id: str, attempt: Attempt) -> JobOnWorker:
    latest = None if attempt.notes is None else attempt.notes.latest
    job = (job_id, attempt.payload.function, attempt.leased.queue, attempt.job_try, attempt.started_ms)
    return JobOnWorker(*job) if latest is None else JobOnWorker(*job, latest.done, latest.total, latest.message)


def memory_bytes() -> int:
    """Resident memory of this process; where /proc is not there, the most that it ever was."""
    try:
        return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
