"""`SyncSchedules`: schedules at run time, for code without asyncio."""

from typing import Any

from ..scheduling.schedules import Schedules
from .sync_handles import SyncHandle, SyncJob, blocking, sync_job

__all__ = ("SyncSchedules",)


class SyncSchedules(SyncHandle[Schedules]):
    """Schedules at run time, for code without asyncio: it has the methods of `Schedules`. `SyncPool.schedules`."""

    upsert = blocking(Schedules.upsert)
    remove = blocking(Schedules.remove)
    pause = blocking(Schedules.pause)
    resume = blocking(Schedules.resume)
    list = blocking(Schedules.list)
    get = blocking(Schedules.get)
    next_runs = blocking(Schedules.next_runs)
    history = blocking(Schedules.history)

    def run_now(self, name: str) -> SyncJob[Any]:
        """Enqueue the job of a schedule at once, also of a paused one. Its ticks stay as they are.

        :raises ScheduleNotFound, SettingsError: as `Schedules.run_now`
        """
        job = self._connection.run(lambda pool: self._of(pool).run_now(name))
        return sync_job(self._connection, job.job_id, job._queue_name, Any)
