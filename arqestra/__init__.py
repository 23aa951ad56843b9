"""arqestra: an asyncio job queue on Redis or Valkey, a drop-in for arq.

`from arq import ...` becomes `from arqestra import ...`. The names below are the public API; arq's own types (`Retry`,
`RedisSettings`, `cron`, `func`, ...) are arq's. All others are imported when they are first used: a producer needs
neither flows, nor schedules, nor the worker.
"""

import sys as _sys
import typing as _typing

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

from .arq_switch import switch_arq_over as _switch_arq_over
from .drop_in.old_paths import FOLDER_OF as _FOLDER_OF
from .drop_in.old_paths import find_old_paths as _find_old_paths
from .lazy_package import LazyPackage as _LazyPackage
from .version import VERSION

if _typing.TYPE_CHECKING:  # type checkers and editors read this, the interpreter reads the table below
    from . import connections as connections
    from . import constants as constants
    from . import jobs as jobs
    from . import logs as logs
    from . import typing as typing
    from . import utils as utils
    from . import version as version
    from . import worker as worker
    from .client.connect import RedisSettings, create_pool
    from .client.default_pool import set_default_pool
    from .client.pool import Pool
    from .client.pool import Pool as ArqRedis
    from .client.sync_handles import SyncFlow, SyncJob, SyncQueue
    from .client.sync_pool import SyncPool
    from .client.sync_schedules import SyncSchedules
    from .cron import cron
    from .definitions.context import JobContext, JobLogFilter, RunningJob, current_job
    from .definitions.decorator import job
    from .definitions.default_pool import EnqueuedJob
    from .definitions.durations import Duration
    from .definitions.function import BoundJob, Call, JobFunction, PlainJobFunction
    from .definitions.limits import ConcurrencyLimit, RateLimit
    from .definitions.middleware import EnqueuedBatch, EnqueuedCall, Middleware
    from .definitions.options import func
    from .definitions.redact import Redact
    from .definitions.retry import Backoff, Cancel, Snooze
    from .definitions.signature import Canvas, Chain, Group, Signature, chain, chord, group, signature
    from .definitions.unique import Debounce, Unique
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
    "EnqueuedJob",
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
    "SyncFlow",
    "SyncJob",
    "SyncPool",
    "SyncQueue",
    "SyncSchedules",
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
    "set_default_pool",
    "signature",
    "worker_settings",
    "workflow",
)

_NAMES_OF = {
    "client.connect": "RedisSettings create_pool",
    "client.default_pool": "set_default_pool",
    "client.pool": "Pool",
    "client.sync_handles": "SyncFlow SyncJob SyncQueue",
    "client.sync_pool": "SyncPool",
    "client.sync_schedules": "SyncSchedules",
    "connections": "ArqRedis",
    "cron": "cron",
    "definitions.context": "JobContext JobLogFilter RunningJob current_job",
    "definitions.decorator": "job",
    "definitions.default_pool": "EnqueuedJob",
    "definitions.durations": "Duration",
    "definitions.function": "BoundJob Call JobFunction PlainJobFunction",
    "definitions.limits": "ConcurrencyLimit RateLimit",
    "definitions.middleware": "EnqueuedBatch EnqueuedCall Middleware",
    "definitions.options": "func",
    "definitions.redact": "Redact",
    "definitions.retry": "Backoff Cancel Snooze",
    "definitions.signature": "Canvas Chain Group Signature chain chord group signature",
    "definitions.unique": "Debounce Unique",
    "errors": (
        "ArgumentsError ArqestraError EmbeddedRedisError FlowCancelled FlowExists FlowRunning FunctionsError "
        "GraphError HistoryTooLong JobCancelled JobNotRetryable JobRunning NondeterminismError PayloadTooLarge "
        "RemoteError RemoteTraceback ScheduleNotFound SettingsError SoftTimeLimitExceeded UpstreamFailed"
    ),
    "flow.handle": "Edge FlowEvent FlowGraph FlowHandle FlowNode FlowProgress",
    "flow.orchestrator": "Flow",
    "flow.workflow": "WorkflowFunction workflow",
    "handles.job": "Job",
    "handles.queue": "DeadJob Queue",
    "observe.json_logs": "JsonFormatter",
    "protocol.attempt_errors": "AttemptError",
    "protocol.events": "Event",
    "protocol.presence": "JobOnWorker Presence WorkerInfo",
    "protocol.progress": "LogLine Progress",
    "protocol.recent_jobs": "EndedJob Failure",
    "protocol.serializers": "Serializer",
    "scheduling.crontab": "crontab",
    "scheduling.definition": "Schedule schedule",
    "scheduling.scheduler": "Scheduler",
    "scheduling.schedules": "ScheduleInfo ScheduleRun Schedules",
    "scheduling.timetable": "Timetable",
    "scheduling.timing": "at every",
    "store.replies": "ServerNotReady",
    "worker.command_line": "create_worker run_worker worker_settings",
    "worker.drop_in.health_check": "check_health",
    "worker.worker": "Worker",
}
_module_of = {name: module for module, names in _NAMES_OF.items() for name in names.split()}
# Attributes of the package without an import of their own. The command line and the dashboard are none.
_SUBMODULES = (
    "client connections constants definitions drop_in errors flow handles jobs logs observe outcome protocol "
    "scheduling settings store typing utils version worker"
)
_modules = (*_SUBMODULES.split(), *_FOLDER_OF)

_sys.modules[__name__].__class__ = _LazyPackage
_switch_arq_over()
_find_old_paths()
