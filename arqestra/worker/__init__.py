"""What runs jobs; and the names of `arq.worker`.

`worker.py` is a worker with arq's API, `parts.py` what it is made of, `session.py` what it has while it is connected,
`main_loop.py` what it does while it runs, `shutdown.py` how it stops. `leasing/` gets jobs and keeps their leases,
`run/` runs one job, `telemetry/` tells about it, `processes/` is the supervisor over several workers, `drop_in/` puts
our worker into arq's command line. Start with `run/execute.py`, then `leasing/sync_loop.py`.
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

from ..client.connect import create_pool
from ..client.pool import Pool as ArqRedis
from ..definitions.options import func
from ..drop_in.modules import DropInModule
from ..protocol.clock import timestamp_ms
from .command_line import create_worker, get_kwargs, run_worker
from .drop_in.health_check import async_check_health, check_health
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
