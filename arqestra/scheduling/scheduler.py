"""`Scheduler`: fires schedules. Every worker has one; `arqestra scheduler` runs one by itself.

A schedule belongs to the queue that its jobs go to. A worker's scheduler fires the schedules of the worker's queues.
Each scheduler also fires those of the queues that its code puts schedules in. Any number of them may run: "Schedules"
in docs/protocols.md tells why each tick is fired once.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, tzinfo

from ..protocol.keys import DEFAULT_QUEUE
from ..store.listener import Listener
from .code_schedules import CodeSchedules
from .definition import Schedule, checked_schedules
from .queue_scheduler import FiringClient, QueueScheduler
from .timetable import Timetable, timezone_of
from .zone import local_zone, named_zone

__all__ = ("Scheduler",)


class Scheduler:
    """Fires schedules.

    :param client: a `Pool`
    :param schedules: what code defines: `schedule(...)`, and arq's `cron(...)`
    :param home: queue of schedules that name none; default the pool's
    :param queues: other queues whose schedules are fired
    :param zone: zone of schedules that name none; default UTC, and the machine's for arq's cron jobs
    :param run_time_zone: zone of schedules that were defined at run time and name none; default a `Timetable`'s, else
        `zone`
    :param age_s: seconds since this code was started; a supervisor's age for its processes
    :raises SettingsError: two schedules have one name, or something else is in the list
    """

    def __init__(
        self,
        client: FiringClient,
        schedules: Iterable[object] = (),
        *,
        home: str | None = None,
        queues: Iterable[str] = (),
        zone: tzinfo | str | None = None,
        run_time_zone: tzinfo | str | None = None,
        age_s: float = 0.0,
    ) -> None:
        self.home = home or client.default_queue_name
        zone, run_time_zone = named_zone(zone), named_zone(run_time_zone)
        self._listener: Listener | None = getattr(client, "listener", None)
        self._news = client.store.keys.schedule_news
        given = schedules.schedules() if isinstance(schedules, Timetable) else checked_schedules(schedules)
        checked = [_named_after_its_queue(each, self.home) for each in given]
        with_queues = [(each.queue or self.home, each.in_zone(_zone_of(each, zone))) for each in checked]
        self.code_schedules = CodeSchedules(client.store, client, with_queues, age_s)
        homes = dict.fromkeys((self.home, *queues, *(queue for queue, _ in with_queues)))
        others_zone = run_time_zone or timezone_of(schedules) or zone or UTC
        self.parts = [QueueScheduler(client, queue, self.code_schedules, others_zone) for queue in homes]

    @property
    def fired(self) -> int:
        """Jobs that this scheduler has enqueued."""
        return sum(part.fired for part in self.parts)

    @property
    def lateness_ms(self) -> int:
        """How late the latest of them was."""
        return max(self.parts, key=lambda part: part.fired_s).lateness_ms

    async def run(self) -> None:
        """Fire schedules until `stop`."""
        with contextlib.ExitStack() as listening:
            if self._listener is not None:
                for part in self.parts:
                    listening.enter_context(self._listener.listen(self._news, part.handle_message))
            async with asyncio.TaskGroup() as group:
                for part in self.parts:
                    group.create_task(part.run())

    async def run_once(self) -> float:
        """One round: fire what is due, or becomes due in a moment.

        :returns: seconds until the next round
        :raises redis.exceptions.RedisError: Redis does not answer
        """
        return min(await asyncio.gather(*(part.run_once() for part in self.parts)))

    def stop(self) -> None:
        """End `run`, after the script calls that are under way."""
        for part in self.parts:
            part.stop()


def _zone_of(schedule: Schedule, zone: tzinfo | None) -> tzinfo:
    return zone or (local_zone() if schedule.of_cron else UTC)


def _named_after_its_queue(schedule: Schedule, home: str) -> Schedule:
    """Add the queue to the name of an arq cron job, which is its function's: two applications may have the same."""
    queue = schedule.queue or home
    if not schedule.of_cron or queue == DEFAULT_QUEUE:
        return schedule
    return replace(schedule, name=f"{schedule.name}@{queue}")
