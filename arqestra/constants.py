"""The names of `arq.constants`: arq's keys in Redis, which are ours as well."""

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
    timezone_env_vars,
)

__all__ = (
    "abort_job_max_age",
    "abort_jobs_ss",
    "default_queue_name",
    "expires_extra_ms",
    "health_check_key_suffix",
    "in_progress_key_prefix",
    "job_key_prefix",
    "keep_cronjob_progress",
    "result_key_prefix",
    "retry_key_prefix",
    "timezone_env_vars",
)
