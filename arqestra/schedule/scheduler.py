"""`Scheduler`: fires schedules. Every worker has one; `arqestra scheduler` runs one by itself.

A schedule belongs to the queue that its jobs go to, and its name is its own there. A scheduler fires the schedules of
some queues: a worker those of the queues that it serves, and everybody those of the queues that its code puts
schedules in. Any number of schedulers may run, and none of them leads: `queue_scheduler.py` tells why each tick is
fired once all the same.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, tzinfo

from ..errors import SettingsError
from .definition import Schedule, checked_schedules
from .queue_scheduler import FiringClient, QueueScheduler

__all__ = ("Scheduler",)


class Scheduler:
    """Fires schedules.

    :param client: a `Pool`
    :param schedules: those that code defines: `schedule(...)`, and arq's `cron(...)`
    :param home: queue of schedules that name none; default the pool's
    :param queues: other queues whose schedules are fired
    :param zone: of schedules that name none
    :param age_s: seconds since this code was started; a supervisor's age for its processes
    :raises SettingsError: two schedules of a queue have one name, or something else is in the list
    """

    def __init__(
        self,
        client: FiringClient,
        schedules: Iterable[object] = (),
        *,
        home: str | None = None,
        queues: Iterable[str] = (),
        zone: tzinfo = UTC,
        age_s: float = 0.0,
    ) -> None:
        self.home = home or client.default_queue_name
        coded: dict[str, list[Schedule]] = {queue: [] for queue in (self.home, *queues)}
        for each in checked_schedules(schedules):
            of_queue = coded.setdefault(each.queue or self.home, [])
            if any(other.name == each.name for other in of_queue):
                raise SettingsError(
                    f"schedules: expected each name once in queue {self.home!r}, got {each.name!r} twice"
                )
            of_queue.append(each.in_zone(zone))
        self.parts = [QueueScheduler(client, queue, each, age_s=age_s) for queue, each in coded.items()]

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
        async with asyncio.TaskGroup() as group:
            for part in self.parts:
                group.create_task(part.run())

    async def run_once(self) -> float:
        """Fire what is due or becomes due in a moment.

        :returns: seconds until the next look
        :raises redis.exceptions.RedisError: Redis does not answer
        """
        return min(await asyncio.gather(*(part.run_once() for part in self.parts)))

    def stop(self) -> None:
        """End `run` after what it is at."""
        for part in self.parts:
            part.stop()
