"""Every error that arqestra raises, in one tree.

    ArqestraError
    ├── SettingsError          a worker setting that does not exist or has the wrong type  (also TypeError)
    │   └── FunctionsError     that of its functions and cron jobs                  (also RuntimeError, as in arq)
    ├── ArgumentsError         a call that does not fit the job's signature                (also TypeError)
    ├── PayloadTooLarge        a payload over the pool's limit                  (also arq's SerializationError)
    ├── JobRunning             deleting a job that a worker holds
    ├── JobNotRetryable        retrying a job that has not failed, or not ended
    ├── JobCancelled           a job ended itself by `Cancel(reason)`
    ├── SoftTimeLimitExceeded  raised inside a job at its soft time limit               (also CancelledError)
    ├── GraphError             a flow that cannot be: an id chosen twice, nested too deeply
    ├── FlowExists             a flow of that id exists already
    ├── FlowRunning            forgetting or retrying a flow that runs
    ├── FlowCancelled          a flow was cancelled
    ├── UpstreamFailed         a job did not run because one before it failed
    ├── NondeterminismError    a workflow asked for something else than in the run before
    ├── HistoryTooLong         a workflow has more steps than its history holds
    ├── ScheduleNotFound       there is no schedule of that name                        (also LookupError)
    ├── RemoteError            a job failed with an exception that is unknown in this process
    └── EmbeddedRedisError     no Redis was found or it did not start

`RemoteTraceback` is not raised by itself: it is the cause of an exception that a job raised in a worker.
arq's own exceptions (`Retry`, `JobExecutionFailed`, `ResultNotFound`, `SerializationError`, ...) keep arq's classes,
so that code written for arq catches them.
"""

import asyncio
import sys
from typing import Any

from arq.jobs import SerializationError

__all__ = (
    "ArgumentsError",
    "ArqestraError",
    "EmbeddedRedisError",
    "FlowCancelled",
    "FlowExists",
    "FlowRunning",
    "FunctionsError",
    "GraphError",
    "HistoryTooLong",
    "JobCancelled",
    "JobNotRetryable",
    "JobRunning",
    "NondeterminismError",
    "PayloadTooLarge",
    "RemoteError",
    "RemoteTraceback",
    "ScheduleNotFound",
    "SettingsError",
    "SoftTimeLimitExceeded",
    "UpstreamFailed",
)


class ArqestraError(Exception):
    """Root of arqestra's own errors."""


class SettingsError(ArqestraError, TypeError):
    """A setting is unknown, or has the wrong type or an impossible value."""


class FunctionsError(SettingsError, RuntimeError):
    """A `SettingsError` of a worker's functions and cron jobs, which arq refuses with a `RuntimeError`."""


class ArgumentsError(ArqestraError, TypeError):
    """The arguments of an enqueue do not fit the signature of the job function."""


class PayloadTooLarge(ArqestraError, SerializationError):
    """The encoded arguments are larger than the pool's `max_payload_bytes`."""


class JobRunning(ArqestraError):
    """The job is leased by a worker: abort it first, or wait for its end."""


class JobNotRetryable(ArqestraError):
    """Only a job that ended without success, and whose result is still kept, can be retried."""


class JobCancelled(ArqestraError):
    """A job ended itself by `Cancel(reason)`; this is what `Job.result()` raises."""


class SoftTimeLimitExceeded(ArqestraError, asyncio.CancelledError):
    """Raised inside a job function at its current await when its `soft_timeout` is over: time to save what there is.

    It is a `CancelledError` too, so that `asyncio.TaskGroup`, `asyncio.wait_for` and the like end what they had
    started. A job that lets it out fails with a `TimeoutError`.

    :param limit_s: the limit in seconds, as far as it is known where it is raised
    """

    def __init__(self, limit_s: float | None = None) -> None:
        super().__init__()
        self.name_limit(limit_s)

    def name_limit(self, limit_s: float | None) -> None:
        """Say which limit it was, in seconds."""
        of = "" if limit_s is None else f" of {limit_s:g} s"
        self.args = (f"soft time limit{of} exceeded",)
        self.limit_s = limit_s

    def __reduce__(self) -> tuple[type, tuple[float | None]]:
        return type(self), (self.limit_s,)


class GraphError(ArqestraError, ValueError):
    """A canvas that cannot be made a flow."""


class FlowExists(ArqestraError):
    """A flow of that id exists, or one of the job ids that were chosen for it."""


class FlowRunning(ArqestraError):
    """The flow has not ended: cancel it first, or wait for its end."""


class FlowCancelled(ArqestraError):
    """The flow was cancelled; this is what its `result()` raises."""


class UpstreamFailed(ArqestraError):
    """A job did not run, or an error callback does, because a job before it did not complete.

    :param job_id: of the job at fault
    :param function: name of its function
    :param error: what it raised, or why it ended; None if that is not known any more
    """

    def __init__(self, job_id: str, function: str, error: BaseException | None = None) -> None:
        super().__init__(job_id, function, error)
        self.job_id = job_id
        self.function = function
        self.error = error

    def __str__(self) -> str:
        why = "" if self.error is None else f": {type(self.error).__name__}: {self.error}"
        return f"job {self.job_id} ({self.function}) did not complete{why}"


class NondeterminismError(ArqestraError):
    """A workflow asked for something else than in the run that is replayed: its code changed, or does not depend on its
    arguments and the results of its steps alone.
    """


class HistoryTooLong(ArqestraError):
    """A workflow has asked for more than its history holds: `flow.continue_as_new()` starts a new one."""


class ScheduleNotFound(ArqestraError, LookupError):
    """There is no schedule of that name.

    :param name: that was asked for
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"expected the name of a schedule, got {self.name!r}, which is none"


class RemoteError(ArqestraError):
    """A job failed with an exception whose class is not loaded in this process.

    :param type_name: qualified name of the class in the worker, `module.Class`
    :param message: what `str()` of the exception gave there
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(type_name, message)
        self.type_name = type_name
        self.message = message

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"


def loaded_class(type_name: str) -> type[BaseException] | None:
    """The exception class of a qualified name, if this process has loaded it; nothing is imported for it."""
    parts = type_name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:split]))
        if found is None:
            continue
        for name in parts[split:]:
            found = getattr(found, name, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
        return None
    return None


class RemoteTraceback(Exception):
    """Carries the traceback of a worker as text, as `concurrent.futures` does for its process pool.

    :param traceback: the formatted traceback
    """

    def __init__(self, traceback: str) -> None:
        super().__init__(traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return f'\n"""\n{self.traceback}"""'


class EmbeddedRedisError(ArqestraError):
    """No Redis could be found or started."""
