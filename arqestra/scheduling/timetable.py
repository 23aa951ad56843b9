"""`Timetable`: schedules, and what a scheduler process has to know to fire them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import tzinfo
from typing import Any

from arq.connections import RedisSettings

from ..definitions.redact import shown_value
from ..errors import SettingsError
from ..protocol.keys import Keys, checked_queue_name
from ..protocol.serializers import Serializer, serializer_of
from .definition import Schedule, checked_schedules
from .zone import zone_of

__all__ = ("Timetable", "timezone_of")


class Timetable(list[Any]):
    """A list of schedules for a worker's `schedules`, with what `arqestra scheduler` has to know.

    :param schedules: made by `schedule(...)` or arq's `cron(...)`
    :param redis_settings: `RedisSettings` or a URL; default the environment's REDIS_URL, else localhost
    :param serializer: the workers' serializer: "pickle" (default), "msgpack" or "json"
    :param timezone: zone of schedules that name none; default the worker's, else UTC
    :param queue: queue of schedules that name none; default the queue of whoever fires them
    :param key_prefix: the workers' prefix, see `create_pool`; a worker that fires the schedules has its own
    :raises SettingsError: two schedules have one name, or a value is impossible
    """

    def __init__(
        self,
        schedules: Iterable[Any] = (),
        *,
        redis_settings: RedisSettings | str | None = None,
        serializer: str | Serializer | None = None,
        timezone: tzinfo | str | None = None,
        queue: str | None = None,
        key_prefix: str | None = None,
    ) -> None:
        serializer_of(serializer)
        if queue is not None and not (isinstance(queue, str) and queue):
            raise SettingsError(f"Timetable: queue: expected a str, got {shown_value(queue)}")
        self.redis_settings = redis_settings
        self.serializer = serializer
        self.timezone = None if timezone is None else zone_of(timezone, "Timetable: timezone")
        self.queue = None if queue is None else checked_queue_name(queue, Keys.of(key_prefix))
        self.key_prefix = key_prefix
        super().__init__(schedules)
        self.schedules()

    def schedules(self) -> list[Schedule]:
        """The schedules with their queues and zones, and cron jobs as schedules: the same for workers and scheduler
        processes.
        """
        return [
            replace(each, queue=each.queue or self.queue, zone=each.zone or self.timezone)
            for each in checked_schedules(self, beside_cron_jobs=True)
        ]


def timezone_of(schedules: Any) -> tzinfo | None:
    """The zone of schedules that name none, if this is a `Timetable` that says it."""
    return schedules.timezone if isinstance(schedules, Timetable) else None
