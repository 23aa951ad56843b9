"""arqestra: an asyncio job queue on Redis or Valkey, a drop-in for arq.

`from arq import ...` becomes `from arqestra import ...`. The names below are the public API; arq's own types (`Retry`,
`RedisSettings`, `cron`, `func`, ...) are arq's. The worker is imported when one of its names is first used: a producer
needs none of it.
"""

import sys as _sys
import typing as _typing
from importlib import import_module as _import_module

from arq.cron import CronJob
from arq.jobs import (
    DeserializationError,
    JobDef,
    JobResult,
    JobStatus,
    ResultNotFound,
    SerializationError,
)
from arq.worker import FailedJobs, Function, JobExecutionFailed, Retry, RetryJob

from . import connections as connections
from . import constants as constants
from . import jobs as jobs
from . import logs as logs
from . import typing as typing
from . import utils as utils
from . import version as version
from .arq_switch import switch_arq_over as _switch_arq_over
from .client.connect import RedisSettings, create_pool
from .client.pool import Pool
from .client.pool import Pool as ArqRedis
from .cron import cron
from .definitions.context import JobContext, JobLogFilter, RunningJob, current_job
from .definitions.decorator import job
from .definitions.durations import Duration
from .definitions.function import BoundJob, Call, JobFunction, PlainJobFunction
from .definitions.limits import ConcurrencyLimit, RateLimit
from .definitions.middleware import EnqueuedBatch, EnqueuedCall, Middleware
from .definitions.options import func
from .definitions.redact import Redact
from .definitions.retry import Backoff, Cancel, Snooze
from .definitions.signature import Canvas, Chain, Group, Signature, chain, chord, group, signature
from .definitions.unique import Debounce, Unique
from .drop_in.old_paths import keep_old_paths as _keep_old_paths
from .errors import (
    ArgumentsError,
    ArqestraError,
    EmbeddedRedisError,
    FlowCancelled,
    FlowExists,
    FlowRunning,
    FunctionsError,
    GraphError,
    HistoryTooLong,
    JobCancelled,
    JobNotRetryable,
    JobRunning,
    NondeterminismError,
    PayloadTooLarge,
    RemoteError,
    RemoteTraceback,
    ScheduleNotFound,
    SettingsError,
    SoftTimeLimitExceeded,
    UpstreamFailed,
)
from .flow.handle import Edge, FlowEvent, FlowGraph, FlowHandle, FlowNode, FlowProgress
from .flow.orchestrator import Flow
from .flow.workflow import WorkflowFunction, workflow
from .handles.job import Job
from .handles.queue import DeadJob, Queue
from .observe.json_logs import JsonFormatter
from .protocol.attempt_errors import AttemptError
from .protocol.events import Event
from .protocol.presence import JobOnWorker, Presence, WorkerInfo
from .protocol.progress import LogLine, Progress
from .protocol.recent_jobs import EndedJob, Failure
from .protocol.serializers import Serializer
from .scheduling.crontab import crontab
from .scheduling.definition import Schedule, schedule
from .scheduling.scheduler import Scheduler
from .scheduling.schedules import ScheduleInfo, ScheduleRun, Schedules
from .scheduling.timetable import Timetable
from .scheduling.timing import at, every
from .store.replies import ServerNotReady
from .version import VERSION

if _typing.TYPE_CHECKING:
    from . import worker as worker
    from .worker.command_line import create_worker, run_worker, worker_settings
    from .worker.drop_in.health_check import check_health
    from .worker.worker import Worker

__version__ = VERSION

__all__ = (
    "VERSION",
    "ArgumentsError",
    "ArqRedis",
    "ArqestraError",
    "AttemptError",
    "Backoff",
    "BoundJob",
    "Call",
    "Cancel",
    "Canvas",
    "Chain",
    "ConcurrencyLimit",
    "CronJob",
    "DeadJob",
    "Debounce",
    "DeserializationError",
    "Duration",
    "Edge",
    "EmbeddedRedisError",
    "EndedJob",
    "EnqueuedBatch",
    "EnqueuedCall",
    "Event",
    "FailedJobs",
    "Failure",
    "Flow",
    "FlowCancelled",
    "FlowEvent",
    "FlowExists",
    "FlowGraph",
    "FlowHandle",
    "FlowNode",
    "FlowProgress",
    "FlowRunning",
    "Function",
    "FunctionsError",
    "GraphError",
    "Group",
    "HistoryTooLong",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobDef",
    "JobExecutionFailed",
    "JobFunction",
    "JobLogFilter",
    "JobNotRetryable",
    "JobOnWorker",
    "JobResult",
    "JobRunning",
    "JobStatus",
    "JsonFormatter",
    "LogLine",
    "Middleware",
    "NondeterminismError",
    "PayloadTooLarge",
    "PlainJobFunction",
    "Pool",
    "Presence",
    "Progress",
    "Queue",
    "RateLimit",
    "Redact",
    "RedisSettings",
    "RemoteError",
    "RemoteTraceback",
    "ResultNotFound",
    "Retry",
    "RetryJob",
    "RunningJob",
    "Schedule",
    "ScheduleInfo",
    "ScheduleNotFound",
    "ScheduleRun",
    "Scheduler",
    "Schedules",
    "SerializationError",
    "Serializer",
    "ServerNotReady",
    "SettingsError",
    "Signature",
    "Snooze",
    "SoftTimeLimitExceeded",
    "Timetable",
    "Unique",
    "UpstreamFailed",
    "Worker",
    "WorkerInfo",
    "WorkflowFunction",
    "__version__",
    "at",
    "chain",
    "check_health",
    "chord",
    "create_pool",
    "create_worker",
    "cron",
    "crontab",
    "current_job",
    "every",
    "func",
    "group",
    "job",
    "run_worker",
    "schedule",
    "signature",
    "worker_settings",
    "workflow",
)

_OF_THE_WORKER = {
    "Worker": "worker.worker",
    "check_health": "worker.drop_in.health_check",
    "create_worker": "worker.command_line",
    "run_worker": "worker.command_line",
    "worker_settings": "worker.command_line",
}
_WORKER_MODULES = ("outcome", "settings", "worker")

if not _typing.TYPE_CHECKING:  # a type checker would take it for a promise that the package has every name

    def __getattr__(name: str) -> _typing.Any:
        """A name of the worker, which is imported now."""
        if name in _WORKER_MODULES:
            return _import_module(f"{__name__}.{name}")
        if name not in _OF_THE_WORKER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(_import_module(f"{__name__}.{_OF_THE_WORKER[name]}"), name)
        return found

    def __dir__() -> list[str]:
        """All names, also those that nobody has used yet."""
        return sorted({*globals(), *__all__, *_WORKER_MODULES})


_switch_arq_over()
_keep_old_paths(_sys.modules[__name__])
