"""What runs jobs; and the names of `arq.worker`.

`worker.py` is the life of a worker and arq's API of it; `exchange.py` the one conversation with Redis: outcomes go
out and claimed jobs come in, in the same round trip; `claim.py` decides when and how much to claim; `execute.py` is
the life of one job; `heartbeat.py` renews the leases from a thread of its own; `bookkeeper.py` writes once a second
what was counted and told; `command_line.py` and `arq_switch.py` let arq's command line build our worker.
"""

import sys

from arq.connections import RedisSettings, log_redis_info
from arq.constants import (
    abort_job_max_age,
    abort_jobs_ss,
    default_queue_name,
    expires_extra_ms,
    health_check_key_suffix,
    in_progress_key_prefix,
    job_key_prefix,
    keep_cronjob_progress,
    result_key_prefix,
    retry_key_prefix,
)
from arq.cron import CronJob
from arq.jobs import (
    Deserializer,
    JobResult,
    SerializationError,
    Serializer,
    deserialize_job_raw,
    serialize_result,
)
from arq.utils import (
    args_to_string,
    import_string,
    ms_to_datetime,
    poll,
    to_ms,
    to_seconds,
    to_unix_ms,
    truncate,
)
from arq.worker import FailedJobs, Function, JobExecutionFailed, Retry, RetryJob, no_result

from ..clock import timestamp_ms
from ..connect import create_pool
from ..drop_in import DropInModule
from ..options import func
from ..pool import Pool as ArqRedis
from .command_line import create_worker, get_kwargs, run_worker
from .health_check import async_check_health, check_health
from .worker import Worker, logger

__all__ = (
    "ArqRedis",
    "CronJob",
    "Deserializer",
    "FailedJobs",
    "Function",
    "JobExecutionFailed",
    "JobResult",
    "RedisSettings",
    "Retry",
    "RetryJob",
    "SerializationError",
    "Serializer",
    "Worker",
    "abort_job_max_age",
    "abort_jobs_ss",
    "args_to_string",
    "async_check_health",
    "check_health",
    "create_pool",
    "create_worker",
    "default_queue_name",
    "deserialize_job_raw",
    "expires_extra_ms",
    "func",
    "get_kwargs",
    "health_check_key_suffix",
    "import_string",
    "in_progress_key_prefix",
    "job_key_prefix",
    "keep_cronjob_progress",
    "log_redis_info",
    "logger",
    "ms_to_datetime",
    "no_result",
    "poll",
    "result_key_prefix",
    "retry_key_prefix",
    "run_worker",
    "serialize_result",
    "timestamp_ms",
    "to_ms",
    "to_seconds",
    "to_unix_ms",
    "truncate",
)

sys.modules[__name__].__class__ = DropInModule
