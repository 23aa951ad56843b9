"""arqestra: an asyncio job queue on Redis or Valkey, a drop-in for arq.

`from arq import ...` becomes `from arqestra import ...`. The names below are the public API; arq's own types (`Retry`,
`RedisSettings`, `cron`, `func`, ...) are arq's.
"""

from arq.connections import ArqRedis, RedisSettings
from arq.cron import CronJob
from arq.jobs import (
    DeserializationError,
    JobDef,
    JobResult,
    JobStatus,
    ResultNotFound,
    SerializationError,
)
from arq.worker import FailedJobs, Function, JobExecutionFailed, Retry, RetryJob, check_health, func

from .connect import create_pool
from .cron import cron
from .current import JobLogFilter, RunningJob, current_job
from .durations import Duration
from .errors import (
    ArgumentsError,
    ArqestraError,
    EmbeddedRedisError,
    JobCancelled,
    JobNotRetryable,
    JobRunning,
    PayloadTooLarge,
    RemoteError,
    RemoteTraceback,
    SettingsError,
    SoftTimeLimitExceeded,
)
from .function import BoundJob, Call, JobFunction, PlainJobFunction, job
from .history import AttemptError
from .job import Job
from .limits import ConcurrencyLimit, RateLimit
from .middleware import EnqueuedCall, Middleware
from .pool import Pool
from .queue import DeadJob, Queue
from .retry import Backoff, Cancel, Snooze
from .serializers import Serializer
from .unique import Debounce, Unique
from .worker.command_line import create_worker, run_worker, worker_settings
from .worker.worker import Worker

__version__ = "0.1.0"

__all__ = (
    "ArgumentsError",
    "ArqRedis",
    "ArqestraError",
    "AttemptError",
    "Backoff",
    "BoundJob",
    "Call",
    "Cancel",
    "ConcurrencyLimit",
    "CronJob",
    "DeadJob",
    "Debounce",
    "DeserializationError",
    "Duration",
    "EmbeddedRedisError",
    "EnqueuedCall",
    "FailedJobs",
    "Function",
    "Job",
    "JobCancelled",
    "JobDef",
    "JobExecutionFailed",
    "JobFunction",
    "JobLogFilter",
    "JobNotRetryable",
    "JobResult",
    "JobRunning",
    "JobStatus",
    "Middleware",
    "PayloadTooLarge",
    "PlainJobFunction",
    "Pool",
    "Queue",
    "RateLimit",
    "RedisSettings",
    "RemoteError",
    "RemoteTraceback",
    "ResultNotFound",
    "Retry",
    "RetryJob",
    "RunningJob",
    "SerializationError",
    "Serializer",
    "SettingsError",
    "Snooze",
    "SoftTimeLimitExceeded",
    "Unique",
    "Worker",
    "__version__",
    "check_health",
    "create_pool",
    "create_worker",
    "cron",
    "current_job",
    "func",
    "job",
    "run_worker",
    "worker_settings",
)
