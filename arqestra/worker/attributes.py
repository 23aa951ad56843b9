"""What a worker is made of: its options as the attributes by which arq's users know them."""

import asyncio
import inspect
import logging
from datetime import datetime
from functools import cache

from arq.constants import health_check_key_suffix
from arq.cron import CronJob
from arq.utils import to_seconds
from arq.worker import Function

from ..client.pool import Pool
from ..errors import FunctionsError, SettingsError
from ..protocol.serializers import Serializer, serializer_of
from ..scheduling.definition import Schedule, checked_schedules
from ..scheduling.timetable import Timetable
from ..scheduling.zone import named_zone
from .arq_surface import ArqSurface
from .leasing.polling import Polling
from .registry import check_schedules, registered
from .run.unknown import unknown_limit_s
from .settings import SETTING_NAMES, WorkerOptions

__all__ = ("WorkerAttributes", "arq_signature", "current_event_loop", "mention_pickle", "schedules_of")

logger = logging.getLogger("arq.worker")


class WorkerAttributes(ArqSurface):
    """The attributes that follow from the options.

    :param options: see there
    """

    def __init__(self, options: WorkerOptions) -> None:
        self.options = options
        self._set_functions(options)
        self.queue_name = self._queue_name(options)
        self.queues = (self.queue_name,) if options.queues is None else tuple(options.queues)
        self.serializer: Serializer = self._serializer(options)
        self._set_arq_attributes(options)

    def _set_functions(self, options: WorkerOptions) -> None:
        timetable = [*(options.schedules or ()), *(options.cron_jobs or ())]
        self.cron_jobs: list[CronJob] = [each for each in timetable if isinstance(each, CronJob)]
        self.functions: dict[str, Function | CronJob] = registered(options.functions, self.cron_jobs)
        self.schedules = schedules_of(options)
        check_schedules(self.schedules, self.functions)
        if not self.functions:
            raise FunctionsError(
                "functions: expected some, got none: at least one function or cron_job must be registered"
            )

    @staticmethod
    def _queue_name(options: WorkerOptions) -> str:
        if options.queues is not None:
            return next(iter(options.queues))
        if options.queue_name is not None:
            return options.queue_name
        if options.redis_pool is None:
            raise ValueError("If queue_name is absent, redis_pool must be present.")
        return options.redis_pool.default_queue_name

    @staticmethod
    def _serializer(options: WorkerOptions) -> Serializer:
        pool = options.redis_pool
        chosen = options.serializer or options.job_serializer or options.job_deserializer
        if chosen is None and isinstance(pool, Pool):
            return pool.serializer
        return serializer_of(options.serializer, options.job_serializer, options.job_deserializer)

    def _set_arq_attributes(self, options: WorkerOptions) -> None:
        """The attributes by which arq's users and tests know a worker."""
        self.unknown_ids: set[str] = set()  # jobs that this burst gave back
        self.burst = options.burst
        self.on_startup, self.on_shutdown = options.on_startup, options.on_shutdown
        self.on_job_start, self.on_job_end = options.on_job_start, options.on_job_end
        self.after_job_end = options.after_job_end
        self.max_jobs = options.max_jobs
        self.job_timeout_s = to_seconds(options.job_timeout)
        self.keep_result_s = to_seconds(options.keep_result)
        self.keep_result_forever = options.keep_result_forever
        self.polling = Polling(to_seconds(options.chosen_poll_delay))
        self.poll_delay_s = self.polling.delay_s
        self.queue_read_limit = options.queue_read_limit or max(options.max_jobs * 5, 100)
        self.max_tries = options.max_tries
        self.health_check_interval = to_seconds(options.health_check_interval)
        self.health_check_key = options.health_check_key or self.queue_name + health_check_key_suffix
        self.ctx = options.ctx or {}
        self.retry_jobs = options.retry_jobs
        self.allow_abort_jobs = options.allow_abort_jobs
        self.max_burst_jobs = options.max_burst_jobs
        self.log_results = options.log_results
        self.zone = named_zone(options.timezone)
        self.timezone = self.zone or datetime.now().astimezone().tzinfo
        self._job_completion_wait = to_seconds(options.job_completion_wait)
        self.handles_signals = self._handle_signals = options.handle_signals
        self.job_serializer, self.job_deserializer = options.job_serializer, options.job_deserializer
        self.expires_extra_ms = options.expires_extra_ms

    @property
    def unknown_limit_s(self) -> float:
        """Seconds for which jobs of unknown functions are given back; 0: they fail at once."""
        return unknown_limit_s(self.options.unknown_functions, burst=self.burst)


def schedules_of(options: WorkerOptions) -> list[Schedule]:
    """The schedules of a worker, its unique cron jobs among them.

    :raises SettingsError: two have one name, or one names no queue and the worker serves several
    """
    given = options.schedules or ()
    if isinstance(given, Timetable) and given.key_prefix not in (None, options.key_prefix):
        raise SettingsError(
            f"schedules: expected a Timetable of this worker's key_prefix {options.key_prefix!r}, got one of "
            f"{given.key_prefix!r}"
        )
    own = given.schedules() if isinstance(given, Timetable) else given
    found = checked_schedules([*own, *(options.cron_jobs or ())], beside_cron_jobs=True)
    if options.queues is not None and len(options.queues) > 1 and options.cron_queue is None:
        for each in found:
            if each.queue is None and not each.of_cron:
                raise SettingsError(
                    f"schedules: {each.name!r} names no queue, and this worker serves several: expected queue= of "
                    "schedule(...) or its function, or the setting cron_queue"
                )
    return found


def current_event_loop() -> asyncio.AbstractEventLoop:
    """The running or current loop, or a new one: a worker is made before its loop runs."""
    try:
        return asyncio.get_event_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return loop


def arq_signature() -> inspect.Signature:
    """The signature of `Worker`: arq's `get_kwargs` reads a worker's keywords off it."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature([inspect.Parameter(name, keyword, default=None) for name in SETTING_NAMES])


def mention_pickle(serializer: Serializer) -> None:
    """Say once a process that pickle is in use."""
    if serializer.name == "pickle":
        _mention_pickle_once()


@cache
def _mention_pickle_once() -> None:
    logger.info(
        "serializer: pickle, as in arq; whoever can write to this Redis can run code here. "
        'serializer="msgpack" or "json" turns it off'
    )
