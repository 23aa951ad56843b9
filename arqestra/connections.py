"""The names of `arq.connections`. `ArqRedis` is our `Pool`, and `create_pool` makes one."""

import sys

from arq.connections import BaseRedis, RedisSettings, log_redis_info
from arq.constants import default_queue_name, expires_extra_ms, job_key_prefix, result_key_prefix
from arq.jobs import Deserializer, JobDef, JobResult, Serializer, deserialize_job, serialize_job
from arq.utils import to_ms, to_unix_ms

from .client.connect import create_pool, logger
from .client.pool import Pool as ArqRedis
from .drop_in.modules import DropInModule
from .handles.job import Job
from .protocol.clock import timestamp_ms

__all__ = (
    "ArqRedis",
    "BaseRedis",
    "Deserializer",
    "Job",
    "JobDef",
    "JobResult",
    "RedisSettings",
    "Serializer",
    "create_pool",
    "default_queue_name",
    "deserialize_job",
    "expires_extra_ms",
    "job_key_prefix",
    "log_redis_info",
    "logger",
    "result_key_prefix",
    "serialize_job",
    "timestamp_ms",
    "to_ms",
    "to_unix_ms",
)

sys.modules[__name__].__class__ = DropInModule
