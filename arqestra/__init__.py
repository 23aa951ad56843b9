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
from .current import RunningJob, current_job
from .errors import (
    ArgumentsError,
    ArqestraError,
    EmbeddedRedisError,
    JobNotRetryable,
    JobRunning,
    PayloadTooLarge,
    RemoteError,
    RemoteTraceback,
    SettingsError,
)
from .function import BoundJob, Call, JobFunction, job
from .job import Job
from .pool import Pool
from .serializers import Serializer
from .worker.command_line import create_worker, run_worker, worker_settings
from .worker.worker import Worker

__version__ = "0.1.0"

__all__ = (
    "ArgumentsError",
    "ArqRedis",
    "ArqestraError",
    "BoundJob",
    "Call",
    "CronJob",
    "DeserializationError",
    "EmbeddedRedisError",
    "FailedJobs",
    "Function",
    "Job",
    "JobDef",
    "JobExecutionFailed",
    "JobFunction",
    "JobNotRetryable",
    "JobResult",
    "JobRunning",
    "JobStatus",
    "PayloadTooLarge",
    "Pool",
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
