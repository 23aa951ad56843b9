"""The settings of a worker: arq's keywords with arq's defaults, and ours. They stand here once, in `WorkerOptions`.

A line has a setting's name, type and default, its rule (what it may be, as a check and in words, with the unit), and a
sentence for people. Everything else is made of it: the keywords of `Worker` that type checkers see, the checks and
their messages, the help of the command line's options, and docs/settings.md.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta, tzinfo
from types import NoneType
from typing import Any, Concatenate, NamedTuple, ParamSpec, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from arq.connections import ArqRedis, RedisSettings
from arq.constants import default_queue_name, expires_extra_ms
from arq.cron import CronJob
from arq.utils import to_ms, to_seconds

from ..client.pool_options import MIDDLEWARE, NAME, REDIS, SERIALIZER
from ..definitions.redact import shown_value
from ..definitions.rules import (
    CALLABLE,
    COUNT,
    CRASHES,
    DICT,
    FLAG,
    HOOK,
    HOOK_OF_ERROR,
    KEEP_SECONDS,
    LEASE_SECONDS,
    MEMORY,
    MORE_SECONDS,
    MS,
    PORT,
    SECONDS,
    Rule,
    is_count,
    is_int,
    is_sequence,
    memory_bytes,
)
from ..errors import FunctionsError, SettingsError
from ..protocol.keys import KEY_PREFIX, Keys, checked_queue_name
from ..protocol.serializers import Serializer
from ..scheduling.definition import Schedule

__all__ = ("FUNCTIONS", "SETTINGS", "SETTING_NAMES", "Setting", "WorkerOptions", "takes_settings")

P = ParamSpec("P")
Hook = Callable[[dict[Any, Any]], Any]


# -- what only a worker's settings may be -----------------------------------------------------------------------------


def _is_zone(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, tzinfo)
    try:
        return bool(datetime.strptime(value, "%z") if value[:1] in ("+", "-") else ZoneInfo(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def _is_counts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(queue, str) and queue and is_count(count) for queue, count in value.items()
    )


def _is_queues(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and _is_counts(value)
    names = is_sequence(value) and bool(value) and all(isinstance(queue, str) and queue for queue in value)
    return names and len(set(value)) == len(value)


def _is_time_of_unknown(value: Any) -> bool:
    return value in ("release", "fail") if isinstance(value, str) else MORE_SECONDS.accepts(value)


def _all_are(kinds: type | tuple[type, ...]) -> Callable[[Any], bool]:
    return lambda value: is_sequence(value) and all(isinstance(each, kinds) for each in value)


WHOLE = Rule("an int", is_int)
FUNCTIONS = Rule("a sequence of job functions, func(...) or import strings", is_sequence)
CRON_JOBS = Rule("a sequence of cron(...)", _all_are(CronJob))
SCHEDULES = Rule("a sequence of schedule(...) or cron(...), or a Timetable", _all_are((Schedule, CronJob)))
POOL = Rule("an arqestra or arq pool", lambda value: callable(getattr(value, "enqueue_job", None)))  # or a test's mock
QUEUES = Rule(
    "a list of queue names, each once, most urgent first, or a dict of queue name to weight (ints of at least 1)",
    _is_queues,
)
COUNTS = Rule("a dict of queue name to an int of at least 1", _is_counts)
ZONE = Rule('a tzinfo, or the name of a time zone such as "Asia/Seoul"', _is_zone)
UNKNOWN = Rule(f'"release", "fail" or {MORE_SECONDS.expects}', _is_time_of_unknown)


# -- the settings -----------------------------------------------------------------------------------------------------


class DefaultDelay(float):
    """A default that can be told from the same number, set."""


DEFAULT_DELAY = DefaultDelay(0.5)  # arq's


def _setting(default: Any, rule: Rule, about: str, *, shown: bool = True) -> Any:
    """A line of the table. Where the type allows None, so does the check.

    :param about: what it does, for people
    :param shown: whether it holds nothing secret
    """
    return field(default=default, repr=shown, metadata={"rule": rule, "about": about})


@dataclass(frozen=True)
class WorkerOptions:
    """Every setting of a worker. See docs/settings.md, which is made of this table.

    :raises SettingsError: a value that is none for its setting, or that does not go with others
    """

    # arq's; the defaults are arq's
    functions: Sequence[Any] = _setting((), FUNCTIONS, "what the worker runs; `@job` makes job functions")
    _: KW_ONLY
    queue_name: str | None = _setting(default_queue_name, NAME, "queue to work on; None for that of `redis_pool`")
    cron_jobs: Sequence[CronJob] | None = _setting(None, CRON_JOBS, "jobs that the worker enqueues by the clock")
    redis_settings: RedisSettings | str | None = _setting(None, REDIS, "where Redis is; default localhost", shown=False)
    redis_pool: ArqRedis | None = _setting(None, POOL, "a pool to use in place of `redis_settings`", shown=False)
    burst: bool = _setting(False, FLAG, "end when the queues are empty")
    on_startup: Hook | None = _setting(None, HOOK, "called when the worker starts")
    on_shutdown: Hook | None = _setting(None, HOOK, "called when the worker ends")
    on_job_start: Hook | None = _setting(None, HOOK, "called before each attempt of a job")
    on_job_end: Hook | None = _setting(None, HOOK, "called after each attempt, before its result is written")
    after_job_end: Hook | None = _setting(None, HOOK, "called after each attempt, when its result was written")
    handle_signals: bool = _setting(True, FLAG, "stop on SIGINT and SIGTERM")
    job_completion_wait: float | timedelta = _setting(
        0, SECONDS, "seconds of grace for running jobs after a signal; what still runs then is given back"
    )
    max_jobs: int = _setting(10, COUNT, "jobs that run at once in a process")
    job_timeout: float | timedelta | None = _setting(300, MORE_SECONDS, "seconds that one attempt may run")
    keep_result: float | timedelta = _setting(3600, KEEP_SECONDS, "seconds that results are kept")
    keep_result_forever: bool = _setting(False, FLAG, "keep results until they are deleted")
    poll_delay: float | timedelta = _setting(
        DEFAULT_DELAY,
        SECONDS,
        "seconds between polls of the queue; unless it is set, 0.5 s where there is a reason to poll, and else once a "
        "minute",
    )
    queue_read_limit: int | None = _setting(
        None, COUNT, "jobs to claim at once at most; default the greater of 5 * `max_jobs` and 100"
    )
    max_tries: int = _setting(5, COUNT, "attempts of a job, the first included")
    health_check_interval: float | timedelta = _setting(3600, SECONDS, "seconds between writes of the health check key")
    health_check_key: str | None = _setting(None, NAME, "key of the health check; default `<queue>:health-check`")
    ctx: dict[Any, Any] | None = _setting(None, DICT, "what job functions find in ctx beside ours", shown=False)
    retry_jobs: bool = _setting(True, FLAG, "whether `Retry` and cancellations run a job again")
    allow_abort_jobs: bool = _setting(False, FLAG, "whether `Job.abort()` works on this worker's jobs")
    max_burst_jobs: int = _setting(-1, WHOLE, "jobs to run in burst mode at most; negative for no limit")
    job_serializer: Callable[[dict[str, Any]], bytes] | None = _setting(
        None, CALLABLE, "from the dict of a job or result to bytes; default pickle"
    )
    job_deserializer: Callable[[bytes], dict[str, Any]] | None = _setting(
        None, CALLABLE, "the inverse of `job_serializer`"
    )
    expires_extra_ms: int = _setting(
        expires_extra_ms, MS, "ms after it is due that a job enqueued through `ctx['redis']` may still start"
    )
    timezone: tzinfo | str | None = _setting(
        None, ZONE, "of cron jobs (default the system's), and of schedules that name none (default UTC)"
    )
    log_results: bool = _setting(True, FLAG, "show results in the log")
    # ours
    lease: float | timedelta = _setting(
        15,
        LEASE_SECONDS,
        "seconds after which others take the jobs of a worker that died; renewed three times as often",
    )
    serializer: str | Serializer | None = _setting(
        None, SERIALIZER, "how jobs and results are written, in place of `job_serializer` and `job_deserializer`"
    )
    max_crashes: int = _setting(3, CRASHES, "leases of a job that may run out before it goes to the dead set")
    stuck_after: float | timedelta | None = _setting(
        None,
        MORE_SECONDS,
        "seconds that a job may block the event loop; then the worker's leases are no longer renewed. Default the "
        "greater of 60 and 4 * `lease`",
    )
    queues: Sequence[str] | Mapping[str, int] | None = _setting(
        None,
        QUEUES,
        "queues to work on, in place of `queue_name`: in strict order, or with weights that share the slots",
    )
    queue_slots: Mapping[str, int] | None = _setting(
        None, COUNTS, "by queue: slots of this worker that its jobs may occupy at most"
    )
    queue_concurrency: Mapping[str, int] | None = _setting(
        None, COUNTS, "by queue: jobs of it that run at once in the whole fleet"
    )
    cron_queue: str | None = _setting(
        None, NAME, "queue of cron jobs, and of schedules that name none; default the first"
    )
    schedules: Sequence[Any] | None = _setting(None, SCHEDULES, "what this worker enqueues by the clock")
    scheduler: bool = _setting(
        True,
        FLAG,
        "whether this worker fires schedules: its own, its cron jobs, and its queues' schedules made at run time",
    )
    middleware: Sequence[Any] = _setting((), MIDDLEWARE, "what surrounds each run, the outermost first")
    on_retries_exhausted: Callable[..., Any] | None = _setting(
        None,
        HOOK_OF_ERROR,
        "called when the last allowed attempt of a job has failed; a function's own `on_exhausted` comes before it",
    )
    on_expired: Hook | None = _setting(None, HOOK, "called when a job expired")
    keep_dead: float | timedelta = _setting(
        7 * 86_400, SECONDS, "seconds that a job that failed for good stays in the dead set; 0 keeps none"
    )
    threads: int = _setting(32, COUNT, "plain functions that run at once in threads")
    processes: int | None = _setting(
        None, COUNT, "plain functions that run at once in processes of their own; default the number of processors"
    )
    max_calls_per_process: int | None = _setting(
        None, COUNT, "calls after which such a process is replaced, to give its memory back"
    )
    cancel_grace: float | timedelta = _setting(
        5, MORE_SECONDS, "seconds that a cancelled job may take to end; after that it counts as stuck"
    )
    max_jobs_per_child: int | None = _setting(
        None, COUNT, "jobs after which the worker process ends, to be replaced by its supervisor"
    )
    max_memory_per_child: int | str | None = _setting(
        None, MEMORY, "resident memory after which the worker process ends, to be replaced by its supervisor"
    )
    preload: bool = _setting(
        True,
        FLAG,
        "whether `arqestra worker` imports the settings once and forks its processes (on Linux); false if the import "
        "leaves something that processes must not share",
    )
    metrics_port: int | None = _setting(
        None,
        PORT,
        "port at which Prometheus scrapes this worker, or its supervisor for all its processes; 0 for any free one. "
        "Needs the extra `metrics`",
    )
    metrics_host: str = _setting("127.0.0.1", NAME, "address of that port; 0.0.0.0 for all")
    unknown_functions: str | float | timedelta | None = _setting(
        None,
        UNKNOWN,
        'what becomes of a job whose function the worker does not know. "release": it is given back to other workers, '
        'later each time, and fails after 45 minutes, or these seconds; "fail": it fails at once, as in arq. Default '
        '"release", and "fail" in burst mode',
    )
    uvloop: bool = _setting(
        True,
        FLAG,
        "whether `run_worker` and the command lines use uvloop, where it is installed and nobody has chosen another "
        "event loop policy",
    )
    key_prefix: str | None = _setting(
        None,
        KEY_PREFIX,
        "of this application on a Redis that others use too: all its keys and channels begin with it, see "
        "`create_pool`. Not together with stock arq. Default that of `redis_pool`, else arq's own keys",
    )

    def __post_init__(self) -> None:
        for setting in SETTINGS.values():
            setting.check(getattr(self, setting.name))
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
        _refuse_unknown(settings)
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
        return None if self.max_memory_per_child is None else memory_bytes(self.max_memory_per_child)

    @property
    def lease_ms(self) -> int:
        return to_ms(self.lease)

    @property
    def stuck_after_s(self) -> float:
        if self.stuck_after is not None:
            return to_seconds(self.stuck_after)
        return max(60.0, 4 * to_seconds(self.lease))


# -- what comes from them ---------------------------------------------------------------------------------------------


class Setting(NamedTuple):
    """One setting, as a line of `WorkerOptions` has it.

    :ivar optional: whether it may be None
    :ivar about: what it does, for people
    """

    name: str
    default: Any
    optional: bool
    rule: Rule
    about: str

    def check(self, value: Any, what: str = "") -> None:
        """Refuse what the setting cannot be.

        :param what: how the message calls it: an option of the command line; default its name
        :raises SettingsError: says what was expected and what was got
        """
        if value is None and self.optional:
            return
        if not self.rule.accepts(value):
            error = FunctionsError if self.name in ("functions", "cron_jobs") else SettingsError
            raise error(f"{what or self.name}: expected {self.rule.expects}, got {shown_value(value)}")


SETTINGS = {
    each.name: Setting(each.name, each.default, optional=NoneType in get_args(each.type), **each.metadata)
    for each in dataclasses.fields(WorkerOptions)
}
SETTING_NAMES = tuple(SETTINGS)


def _takes(options: Callable[P, object]) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    return lambda method: method


takes_settings = _takes(WorkerOptions)  # type checkers see the arguments of `WorkerOptions` as those of the method


def _listed(value: Any) -> Any:
    """Any other iterable of functions than a sequence as a tuple; anything else as it is, for the check to refuse."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping | Sequence) else value


def _refuse_unknown(settings: Mapping[str, Any]) -> None:
    """Refuse a name that is no setting, and say which one was probably meant."""
    for name in settings:
        if name not in SETTING_NAMES:
            close = difflib.get_close_matches(name, SETTING_NAMES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(sorted(SETTING_NAMES))}"
            raise SettingsError(f"worker settings: unknown setting {name!r}; {hint}")
