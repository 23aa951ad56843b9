"""The settings of a worker: arq's keywords with arq's defaults, and ours. Checked by name, type and range."""

import dataclasses
import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any, TypedDict
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from arq.connections import ArqRedis, RedisSettings
from arq.constants import default_queue_name, expires_extra_ms
from arq.cron import CronJob
from arq.utils import to_ms, to_seconds

from ..definitions.durations import LONGEST_S, is_seconds
from ..definitions.middleware import is_middleware
from ..definitions.options import is_count
from ..definitions.redact import shown_value
from ..errors import SettingsError
from ..protocol.keys import Keys, checked_queue_name
from ..protocol.serializers import Serializer, serializer_of

__all__ = ("WorkerKeywords", "WorkerOptions")

Hook = Callable[[dict[Any, Any]], Any]
Check = Callable[[Any], bool]


def _is_seconds(value: Any) -> bool:
    return is_seconds(value, zero=True)


def _is_more_seconds(value: Any) -> bool:
    return is_seconds(value, zero=False)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_serializer(value: Any) -> bool:
    return isinstance(value, Serializer) or (isinstance(value, str) and serializer_of(value) is not None)


def _is_zone(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, tzinfo)
    try:
        return bool(datetime.strptime(value, "%z") if value[:1] in ("+", "-") else ZoneInfo(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def _is_counts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(queue, str) and queue and _is_int(count) and count >= 1 for queue, count in value.items()
    )


def _is_queues(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and _is_counts(value)
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(queue, str) and queue for queue in value)
        and len(set(value)) == len(value)
    )


MB = 1024 * 1024
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|K|M|G)", re.IGNORECASE)


def _memory_bytes(value: Any) -> int:
    """Bytes of an int or of text such as "512MB" (1 MB is 1024 * 1024 bytes); 0 for anything else."""
    if _is_int(value):
        return int(value)
    match = _MEMORY.fullmatch(value) if isinstance(value, str) else None
    return int(float(match[1]) * {"K": 1024, "M": MB, "G": 1024 * MB}[match[2][0].upper()]) if match else 0


_CHECKS: dict[str, Check] = {
    "true or false": lambda v: isinstance(v, bool),
    "seconds, 0 or more (int, float or timedelta)": _is_seconds,
    "seconds, more than 0 (int, float or timedelta)": _is_more_seconds,
    "seconds, 0.05 or more (int, float or timedelta)": lambda v: is_seconds(v, zero=False, least_s=0.05),
    "seconds to keep it, 0 or more (int, float or timedelta)": lambda v: is_seconds(v, zero=True, most_s=math.inf),
    "an int": _is_int,
    "ms as an int, 0 or more, a century at most": lambda v: _is_int(v) and 0 <= v <= LONGEST_S * 1000,
    "an int of at least 1": is_count,
    "a port, 0 to 65535": lambda v: _is_int(v) and 0 <= v <= 65535,
    "a str": lambda v: isinstance(v, str),
    "a list of queue names, most urgent first, or a dict of queue name to weight (ints of at least 1)": _is_queues,
    "a dict of queue name to an int of at least 1": _is_counts,
    "bytes of at least 1 MB, as an int or text such as '512MB'": lambda v: _memory_bytes(v) >= MB,
    "a sequence of Middleware objects": is_middleware,
    "a sequence of schedules": lambda v: isinstance(v, Sequence) and not isinstance(v, str),
    "a dict": lambda v: isinstance(v, dict),
    "a sequence of job functions": lambda v: isinstance(v, Sequence) and not isinstance(v, str),
    "an async function of ctx": lambda v: inspect.iscoroutinefunction(v) or callable(v),
    "a callable": callable,
    "RedisSettings or a URL": lambda v: isinstance(v, RedisSettings | str),
    "an arqestra or arq pool": lambda v: callable(getattr(v, "enqueue_job", None)),  # or a test's stand-in for one
    'a tzinfo, or the name of a time zone such as "Asia/Seoul"': _is_zone,
    '"pickle", "msgpack" or "json"': _is_serializer,
    '"release", "fail" or seconds, more than 0 (int, float or timedelta)': lambda v: (
        v in ("release", "fail") if isinstance(v, str) else _is_more_seconds(v)
    ),
}


def _setting(default: Any, expects: str, *, optional: bool = False, shown: bool = True) -> Any:
    """A field: its default, what it expects, whether None is allowed as well, and whether it holds nothing secret."""
    metadata = {"expects": expects, "optional": optional or default is None}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata, repr=shown)


class DefaultDelay(float):
    """A default that can be told from the same number, set."""


DEFAULT_DELAY = DefaultDelay(0.5)  # arq's


class WorkerKeywords(TypedDict, total=False):
    """The keywords of `Worker`, for type checkers. `WorkerOptions` documents them."""

    queue_name: str | None
    cron_jobs: Sequence[CronJob] | None
    redis_settings: RedisSettings | str | None
    redis_pool: ArqRedis | None
    burst: bool
    on_startup: Hook | None
    on_shutdown: Hook | None
    on_job_start: Hook | None
    on_job_end: Hook | None
    after_job_end: Hook | None
    handle_signals: bool
    job_completion_wait: float
    max_jobs: int
    job_timeout: float | timedelta | None
    keep_result: float | timedelta
    keep_result_forever: bool
    poll_delay: float | timedelta
    queue_read_limit: int | None
    max_tries: int
    health_check_interval: float | timedelta
    health_check_key: str | None
    ctx: dict[Any, Any] | None
    retry_jobs: bool
    allow_abort_jobs: bool
    max_burst_jobs: int
    job_serializer: Callable[[dict[str, Any]], bytes] | None
    job_deserializer: Callable[[bytes], dict[str, Any]] | None
    expires_extra_ms: int
    timezone: tzinfo | str | None
    log_results: bool
    lease: float | timedelta
    serializer: str | Serializer | None
    max_crashes: int
    stuck_after: float | timedelta
    queues: Sequence[str] | Mapping[str, int] | None
    queue_slots: Mapping[str, int] | None
    cron_queue: str | None
    schedules: Sequence[Any] | None
    scheduler: bool
    queue_concurrency: Mapping[str, int] | None
    middleware: Sequence[Any]
    on_retries_exhausted: Callable[..., Any] | None
    on_expired: Hook | None
    keep_dead: float | timedelta
    threads: int
    processes: int | None
    max_calls_per_process: int | None
    cancel_grace: float | timedelta
    max_jobs_per_child: int | None
    max_memory_per_child: int | str | None
    metrics_port: int | None
    metrics_host: str
    unknown_functions: str | float | timedelta | None
    uvloop: bool
    key_prefix: str | None


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Every setting of a worker. Seconds may be int, float or timedelta.

    arq's (see its documentation; the defaults are arq's):

    :ivar functions: job functions: coroutine functions, `func(...)`, `@job` functions, import strings
    :ivar queue_name: queue to work on; None for that of redis_pool
    :ivar cron_jobs: made by `cron(...)`
    :ivar redis_settings: `RedisSettings` or a URL
    :ivar redis_pool: a pool to use instead
    :ivar burst: stop when the queue is empty
    :ivar on_startup, on_shutdown: async functions of ctx, around the worker's life
    :ivar on_job_start, on_job_end, after_job_end: async functions of ctx, around each attempt; the last one after the
        result was written
    :ivar handle_signals: stop on SIGINT and SIGTERM
    :ivar job_completion_wait: seconds of grace for running jobs after a signal; what still runs then is given back
    :ivar max_jobs: jobs that run at once
    :ivar job_timeout: seconds that one attempt may run
    :ivar keep_result, keep_result_forever: how long results are kept (seconds)
    :ivar poll_delay: seconds between looks at the queue without being woken; unless it is set 0.5 s where there is a
        reason to look (see `worker/leasing/polling.py`), and else once a minute
    :ivar queue_read_limit: jobs to claim at once at most; default the greater of 5 * max_jobs and 100
    :ivar max_tries: attempts of a job
    :ivar health_check_interval: seconds between writes of the health check key
    :ivar health_check_key: default `<queue>:health-check`
    :ivar ctx: what job functions find in ctx beside ours
    :ivar retry_jobs: whether Retry and cancellations run a job again
    :ivar allow_abort_jobs: whether `Job.abort()` works on this worker's jobs
    :ivar max_burst_jobs: jobs to run in burst mode at most; negative for no limit
    :ivar job_serializer, job_deserializer: default pickle
    :ivar expires_extra_ms: for jobs enqueued through ctx["redis"], see `Pool`
    :ivar timezone: of cron jobs (default the system's) and of schedules that name none (default UTC): a tzinfo, or its
        name, such as "Asia/Seoul"
    :ivar log_results: show results in the log

    ours:

    :ivar lease: seconds after which another worker takes the jobs of one that died; renewed three times as often
    :ivar serializer: "pickle", "msgpack" or "json", in place of job_serializer and job_deserializer
    :ivar max_crashes: leases of a job that may run out before it goes to the dead set
    :ivar stuck_after: seconds that a job may block the event loop before the worker's leases are no longer renewed;
        default the greater of 60 and 4 * lease
    :ivar queues: queues to work on, in place of queue_name: a list in strict order, the most urgent first, or a dict of
        weights, by which the slots are shared
    :ivar queue_slots: by queue: slots of this worker that its jobs may occupy at most
    :ivar cron_queue: queue of cron jobs, and of schedules that name none; default the first
    :ivar schedules: made by `schedule(...)`, or a `Timetable`
    :ivar scheduler: whether this worker fires schedules: its own, its cron jobs, and those of its queues that were made
        at run time
    :ivar queue_concurrency: by queue: jobs of it that run at once in the whole fleet
    :ivar middleware: what surrounds each run, see `Middleware`
    :ivar on_retries_exhausted: async function of (ctx, error), called when the last allowed attempt of a job has
        failed; a function's own `on_exhausted` comes before it
    :ivar on_expired: async function of ctx, called when a job expired
    :ivar keep_dead: seconds that a job that failed for good stays in the dead set; 0 keeps none
    :ivar threads: plain functions that run at once in threads
    :ivar processes: plain functions that run at once in processes of their own; default the number of processors
    :ivar max_calls_per_process: calls after which such a process is replaced, to give its memory back
    :ivar cancel_grace: seconds that a cancelled job may take to end; after that it counts as stuck
    :ivar max_jobs_per_child: jobs after which the worker process ends, to be replaced by its supervisor
    :ivar max_memory_per_child: resident memory after which it does; bytes, or text such as "512MB"
    :ivar metrics_port: port at which Prometheus scrapes this worker, or its supervisor for all its processes; 0 for any
        free one. Needs the extra `metrics`
    :ivar metrics_host: address at which it does
    :ivar unknown_functions: what becomes of a job whose function the worker does not know. "release": it is given back
        to other workers, later each time, and fails after 45 minutes; or seconds in the place of these; "fail": it
        fails at once, as in arq. None: "release", and "fail" in burst mode
    :ivar uvloop: whether `run_worker` and the command lines run it on uvloop, where that is installed and nobody has
        chosen another event loop policy
    :ivar key_prefix: of this application on a Redis that others use too: all its keys and channels begin with it, as
        `create_pool` describes. Not together with stock arq; default that of redis_pool, else arq's own keys
    """

    functions: Sequence[Any] = _setting((), "a sequence of job functions")
    queue_name: str | None = _setting(default_queue_name, "a str", optional=True)
    cron_jobs: Sequence[CronJob] | None = _setting(None, "a sequence of job functions")
    redis_settings: RedisSettings | str | None = _setting(None, "RedisSettings or a URL", shown=False)
    redis_pool: ArqRedis | None = _setting(None, "an arqestra or arq pool", shown=False)
    burst: bool = _setting(False, "true or false")
    on_startup: Hook | None = _setting(None, "an async function of ctx")
    on_shutdown: Hook | None = _setting(None, "an async function of ctx")
    on_job_start: Hook | None = _setting(None, "an async function of ctx")
    on_job_end: Hook | None = _setting(None, "an async function of ctx")
    after_job_end: Hook | None = _setting(None, "an async function of ctx")
    handle_signals: bool = _setting(True, "true or false")
    job_completion_wait: float = _setting(0, "seconds, 0 or more (int, float or timedelta)")
    max_jobs: int = _setting(10, "an int of at least 1")
    job_timeout: float | timedelta | None = _setting(
        300, "seconds, more than 0 (int, float or timedelta)", optional=True
    )
    keep_result: float | timedelta = _setting(3600, "seconds to keep it, 0 or more (int, float or timedelta)")
    keep_result_forever: bool = _setting(False, "true or false")
    poll_delay: float | timedelta = _setting(DEFAULT_DELAY, "seconds, 0 or more (int, float or timedelta)")
    queue_read_limit: int | None = _setting(None, "an int of at least 1")
    max_tries: int = _setting(5, "an int of at least 1")
    health_check_interval: float | timedelta = _setting(3600, "seconds, 0 or more (int, float or timedelta)")
    health_check_key: str | None = _setting(None, "a str")
    ctx: dict[Any, Any] | None = _setting(None, "a dict", shown=False)
    retry_jobs: bool = _setting(True, "true or false")
    allow_abort_jobs: bool = _setting(False, "true or false")
    max_burst_jobs: int = _setting(-1, "an int")
    job_serializer: Callable[[dict[str, Any]], bytes] | None = _setting(None, "a callable")
    job_deserializer: Callable[[bytes], dict[str, Any]] | None = _setting(None, "a callable")
    expires_extra_ms: int = _setting(expires_extra_ms, "ms as an int, 0 or more, a century at most")
    timezone: tzinfo | str | None = _setting(None, 'a tzinfo, or the name of a time zone such as "Asia/Seoul"')
    log_results: bool = _setting(True, "true or false")
    lease: float | timedelta = _setting(15, "seconds, 0.05 or more (int, float or timedelta)")
    serializer: str | Serializer | None = _setting(None, '"pickle", "msgpack" or "json"')
    max_crashes: int = _setting(3, "an int of at least 1")
    stuck_after: float | timedelta | None = _setting(None, "seconds, more than 0 (int, float or timedelta)")
    queues: Sequence[str] | Mapping[str, int] | None = _setting(
        None, "a list of queue names, most urgent first, or a dict of queue name to weight (ints of at least 1)"
    )
    cron_queue: str | None = _setting(None, "a str")
    schedules: Sequence[Any] | None = _setting(None, "a sequence of schedules")
    scheduler: bool = _setting(True, "true or false")
    queue_slots: Mapping[str, int] | None = _setting(None, "a dict of queue name to an int of at least 1")
    queue_concurrency: Mapping[str, int] | None = _setting(None, "a dict of queue name to an int of at least 1")
    middleware: Sequence[Any] = _setting((), "a sequence of Middleware objects")
    on_retries_exhausted: Callable[..., Any] | None = _setting(None, "a callable")
    on_expired: Hook | None = _setting(None, "an async function of ctx")
    keep_dead: float | timedelta = _setting(7 * 86_400, "seconds, 0 or more (int, float or timedelta)")
    threads: int = _setting(32, "an int of at least 1")
    processes: int | None = _setting(None, "an int of at least 1")
    max_calls_per_process: int | None = _setting(None, "an int of at least 1")
    cancel_grace: float | timedelta = _setting(5, "seconds, more than 0 (int, float or timedelta)")
    max_jobs_per_child: int | None = _setting(None, "an int of at least 1")
    max_memory_per_child: int | str | None = _setting(None, "bytes of at least 1 MB, as an int or text such as '512MB'")
    metrics_port: int | None = _setting(None, "a port, 0 to 65535")
    metrics_host: str = _setting("127.0.0.1", "a str")
    unknown_functions: str | float | timedelta | None = _setting(
        None, '"release", "fail" or seconds, more than 0 (int, float or timedelta)'
    )
    uvloop: bool = _setting(True, "true or false")
    key_prefix: str | None = _setting(None, "a str")

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            if value is None and setting.metadata["optional"]:
                continue
            expects = setting.metadata["expects"]
            if not _CHECKS[expects](value):
                raise SettingsError(f"{setting.name}: expected {expects}, got {shown_value(value)}")
        self._check_queues()
        self._check_key_prefix()

    def _check_key_prefix(self) -> None:
        keys = Keys.of(self.key_prefix)
        for queue in self.queues or (self.queue_name, self.cron_queue):
            if queue is not None:
                checked_queue_name(queue, keys)
        if (
            keys.prefix
            and self.redis_pool is not None
            and getattr(self.redis_pool, "key_prefix", None) != self.key_prefix
        ):
            raise SettingsError(
                f"key_prefix: expected a redis_pool of the same prefix, made by arqestra.create_pool(key_prefix="
                f"{self.key_prefix!r}): stock arq's pools and others know other keys"
            )

    def _check_queues(self) -> None:
        if self.queues is None:
            queues = {self.queue_name}
        else:
            queues = set(self.queues)
            if self.queue_name not in (None, default_queue_name):
                both = f"{shown_value(self.queues)} and {shown_value(self.queue_name)}"
                raise SettingsError(f"expected queues or queue_name, got both: {both}")
        if self.cron_queue is not None and self.cron_queue not in queues and None not in queues:
            raise SettingsError(f"cron_queue: expected a queue of this worker, got {shown_value(self.cron_queue)}")
        for name in ("queue_slots", "queue_concurrency"):
            for queue in getattr(self, name) or ():
                if queue not in queues and None not in queues:
                    known = ", ".join(map(shown_value, queues))
                    raise SettingsError(f"{name}: expected queues of this worker ({known}), got {shown_value(queue)}")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "WorkerOptions":
        """Options of keywords.

        :raises SettingsError: an unknown name, a wrong type, an impossible value
        """
        refuse_unknown(settings)
        listed = {name: _listed(settings[name]) for name in ("functions", "cron_jobs") if name in settings}
        return cls(**{**settings, **listed})

    @property
    def chosen_poll_delay(self) -> float | timedelta | None:
        """The `poll_delay` that was set; None if it was not."""
        return None if isinstance(self.poll_delay, DefaultDelay) else self.poll_delay

    @property
    def queue_weights(self) -> dict[str, int] | None:
        """Queue -> weight; None where the queues have a strict order."""
        return dict(self.queues) if isinstance(self.queues, Mapping) else None

    @property
    def max_memory_bytes(self) -> int | None:
        return None if self.max_memory_per_child is None else _memory_bytes(self.max_memory_per_child)

    @property
    def lease_ms(self) -> int:
        return to_ms(self.lease)

    @property
    def stuck_after_s(self) -> float:
        if self.stuck_after is not None:
            return to_seconds(self.stuck_after)
        return max(60.0, 4 * to_seconds(self.lease))


SETTING_NAMES = tuple(setting.name for setting in dataclasses.fields(WorkerOptions))


def _listed(value: Any) -> Any:
    """Any other iterable of functions than a sequence as a tuple; anything else as it is, for the check to refuse."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping | Sequence) else value


def refuse_unknown(settings: Mapping[str, Any], where: str = "worker settings") -> None:
    """Raise `SettingsError` for a name that is no setting, and say which one was probably meant."""
    for name in settings:
        if name not in SETTING_NAMES:
            close = difflib.get_close_matches(name, SETTING_NAMES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(sorted(SETTING_NAMES))}"
            raise SettingsError(f"{where}: unknown setting {name!r}; {hint}")
