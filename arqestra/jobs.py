"""The names of `arq.jobs`. `Job` is ours; the functions that read and write arq's data are arq's."""

import sys

from arq.constants import (
    abort_jobs_ss,
    default_queue_name,
    in_progress_key_prefix,
    job_key_prefix,
    result_key_prefix,
)
from arq.jobs import (
    DeserializationError,
    Deserializer,
    JobDef,
    JobResult,
    JobStatus,
    ResultNotFound,
    SerializationError,
    Serializer,
    deserialize_job,
    deserialize_job_raw,
    deserialize_result,
    serialize_job,
    serialize_result,
)
from arq.utils import ms_to_datetime, poll

from .drop_in.modules import DropInModule
from .handles.job import Job, logger
from .protocol.clock import timestamp_ms

__all__ = (
    "DeserializationError",
    "Deserializer",
    "Job",
    "JobDef",
    "JobResult",
    "JobStatus",
    "ResultNotFound",
    "SerializationError",
    "Serializer",
    "abort_jobs_ss",
    "default_queue_name",
    "deserialize_job",
    "deserialize_job_raw",
    "deserialize_result",
    "in_progress_key_prefix",
    "job_key_prefix",
    "logger",
    "ms_to_datetime",
    "poll",
    "result_key_prefix",
    "serialize_job",
    "serialize_result",
    "timestamp_ms",
)

sys.modules[__name__].__class__ = DropInModule
