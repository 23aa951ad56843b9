"""arqestra: an asyncio job queue on Redis or Valkey, a drop-in for arq.

`from arq import ...` becomes `from arqestra import ...`. The names below are the public API; arq's own types (`Retry`,
`RedisSettings`, `cron`, `func`, ...) are arq's.
"""

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
from . import worker as worker
from .connect import create_pool
from .cron import cron
from .current import JobContext, JobLogFilter, RunningJob, current_job
from .durations import Duration
from .ended import EndedJob, Failure
from .errors import (
    ArgumentsError,
    ArqestraError,
    EmbeddedRedisError,
    FlowCancelled,
    FlowExists,
    FlowRunning,
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
from .events import Event
from .flow.handle import Edge, FlowEvent, FlowGraph, FlowHandle, FlowNode, FlowProgress
from .flow.orchestrator import Flow
from .flow.workflow import WorkflowFunction, workflow
from .function import BoundJob, Call, JobFunction, PlainJobFunction, job
from .history import AttemptError
from .job import Job
from .limits import ConcurrencyLimit, RateLimit
from .middleware import EnqueuedBatch, EnqueuedCall, Middleware
from .observe.json_logs import JsonFormatter
from .options import func
from .pool import Pool
from .pool import Pool as ArqRedis
from .presence import JobOnWorker, Presence, WorkerInfo
from .progress import LogLine, Progress
from .queue import DeadJob, Queue
from .redact import Redact
from .redis_settings import RedisSettings
from .retry import Backoff, Cancel, Snooze
from .scheduling.crontab import crontab
from .scheduling.definition import Schedule, schedule
from .scheduling.scheduler import Scheduler
from .scheduling.schedules import ScheduleInfo, ScheduleRun, Schedules
from .scheduling.timetable import Timetable
from .scheduling.timing import at, every
from .serializers import Serializer
from .signature import Canvas, Chain, Group, Signature, chain, chord, group, signature
from .store.replies import ServerNotReady
from .unique import Debounce, Unique
from .version import VERSION
from .worker.arq_switch import switch_arq_over as _switch_arq_over
from .worker.command_line import create_worker, run_worker, worker_settings
from .worker.health_check import check_health
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

_switch_arq_over()
