"""The options under which a worker runs one function: the function's own, else the worker's."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from arq.cron import CronJob
from arq.utils import to_seconds
from arq.worker import Function

from ...definitions.coerce import ArgumentCoercer
from ...definitions.durations import keep_ms
from ...definitions.job_options import JobOptions
from ...definitions.redact import Redactor, redactor_of
from ...definitions.retry import Backoff
from ...flow.workflow import WorkflowFunction
from ...protocol.serializers import Serializer
from ..settings import WorkerOptions

__all__ = ("KEEP_NO_RESULT", "EffectiveOptions", "Observed", "effective_options", "options_of_unknown")

KEEP_NO_RESULT = -1


class Observed(NamedTuple):
    """A function that others observe: see `observed.py`.

    :ivar through: what they have put around a run of it
    :ivar bare: the coroutine function itself, without that
    """

    through: Callable[..., Coroutine[Any, Any, Any]]
    bare: Callable[..., Coroutine[Any, Any, Any]]


class EffectiveOptions(NamedTuple):
    """The options of one function on one worker.

    :ivar function: what runs the job; None where the job is only recorded
    :ivar timeout_s: limit of one attempt, or None
    :ivar max_tries: attempts
    :ivar result_ttl_ms: ms to keep the result; 0 for ever, `KEEP_NO_RESULT`
    :ivar is_cron: an arq cron job
    :ivar job_options: the options that arq's `Function` does not have
    :ivar limited: it falls under limits of the fleet
    :ivar invoked: `invoke` calls it: in a thread or process, within middleware or wrappers, under a soft limit
    :ivar early: it is acknowledged before it starts
    :ivar retry: policy for failed attempts
    :ivar workflow: the function, if it is a durable workflow
    :ivar redactor: masks what the log must not show of its arguments; None where the job is only recorded
    :ivar coercer: coerces the arguments to their hints, where the serializer gives back plain data
    :ivar observed: set while somebody observes arq's functions
    """

    function: Function | CronJob | None
    timeout_s: float | None
    max_tries: int
    result_ttl_ms: int
    is_cron: bool
    coercer: ArgumentCoercer | None
    job_options: JobOptions | None = None
    limited: bool = False
    invoked: bool = False
    early: bool = False
    retry: Backoff | None = None
    workflow: WorkflowFunction[..., Any] | None = None
    redactor: Redactor | None = None
    observed: Observed | None = None


def effective_options(function: Function | CronJob, options: WorkerOptions, serializer: Serializer) -> EffectiveOptions:
    """The options of a function on a worker.

    :param options: the worker's, for what the function does not say
    :param serializer: of the arguments
    """
    forever, keep_s = function.keep_result_forever, function.keep_result_s
    job_options: JobOptions | None = getattr(function, "job_options", None)
    target = getattr(function, "sync_function", None) or function.coroutine
    coercer = ArgumentCoercer(target) if serializer.plain else None
    return EffectiveOptions(
        function=function,
        timeout_s=to_seconds(options.job_timeout) if function.timeout_s is None else function.timeout_s,
        max_tries=options.max_tries if function.max_tries is None else function.max_tries,
        result_ttl_ms=_ttl_ms(
            options.keep_result_forever if forever is None else forever,
            to_seconds(options.keep_result) if keep_s is None else keep_s,
        ),
        is_cron=hasattr(function, "next_run"),
        coercer=coercer if coercer is not None and coercer.needed else None,
        job_options=job_options,
        limited=job_options is not None and bool(job_options.rate_limit or job_options.concurrency),
        invoked=bool(options.middleware)
        or (job_options is not None and (job_options.executor != "loop" or job_options.soft_timeout_s is not None)),
        early=job_options is not None and job_options.acks == "early",
        retry=None if job_options is None else job_options.retry,
        workflow=function if isinstance(function, WorkflowFunction) else None,
        redactor=getattr(function, "redactor", None) or redactor_of(target),
    )


def options_of_unknown(options: WorkerOptions) -> EffectiveOptions:
    """The options of jobs whose function is not known: they are only recorded."""
    ttl_ms = _ttl_ms(options.keep_result_forever, to_seconds(options.keep_result))
    return EffectiveOptions(None, None, options.max_tries, ttl_ms, is_cron=False, coercer=None)


def _ttl_ms(forever: bool, keep_s: float) -> int:
    return 0 if forever else keep_ms(keep_s) or KEEP_NO_RESULT
