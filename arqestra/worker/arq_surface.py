"""What arq's `Worker` has and ours has not, and what stands for it: said, and not left to be found out.

Some of arq's methods are steps of its way to run jobs, which is not ours. Code that reads one gets an error that says
what to use; a class that overrides one is refused, since its method would never be called.
"""

import logging
from typing import Any, NoReturn

from ..errors import SettingsError
from ..settings import SETTING_NAMES

__all__ = ("ArqSurface", "Gone")

logger = logging.getLogger("arq.worker")

_MIDDLEWARE = "use middleware (Middleware.around_run), or the hooks on_job_start, on_job_end and after_job_end"
_STEP = "it is a step of arq's main loop; arqestra claims, runs and finishes jobs otherwise"

# Here for tests that call them; the main loop claims by itself.
_NOT_CALLED = {
    "start_jobs": f"arqestra's main loop does not call it: {_MIDDLEWARE}",
    "_poll_iteration": "arqestra's main loop does not call it: override heart_beat for what is to happen now and then",
}
_PARTLY_CALLED = {
    "run_cron": "it enqueues only the cron jobs that are each worker's own (unique=False, run_at_startup=True); the "
    "others are fired by the worker's scheduler, which scheduler=False turns off",
}


class Gone:
    """An attribute of arq's worker that ours has not. To read it is an `AttributeError` that says what stands for it.

    :param instead: what to use
    """

    def __init__(self, instead: str) -> None:
        self.instead = instead
        self._name = "it"

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        raise AttributeError(f"arq's Worker.{self._name} is not in arqestra: {self.instead}")


class ArqSurface:
    """arq's attributes that ours has not, and what a subclass of a worker is told."""

    slots: Any

    @property
    def job_counter(self) -> int:
        """arq's name for the number of running jobs."""
        return len(self.slots.running)

    run_job = Gone(_MIDDLEWARE)
    finish_job = Gone(f"{_STEP}; after_job_end is called when a result was written")
    finish_failed_job = Gone(f"{_STEP}; after_job_end is called when a result was written")
    sem = Gone("slots are counted: max_jobs, and len(worker.tasks) of them are in use")
    _queue_read_offset = Gone(_STEP)
    _cancel_aborted_jobs = Gone(f"{_STEP}; aborted jobs are cancelled at once")
    _release_sem_dec_counter_on_complete = Gone(_STEP)
    _sleep_until_tasks_complete = Gone("await asyncio.wait(worker.tasks.values())")
    in_progress_timeout_s = Gone(
        "a killed worker's job starts again when its lease has run out, whatever the timeouts: worker.options.lease"
    )

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if not cls.__module__.startswith(f"{__package__}."):
            _refuse_overrides(cls)

    def _refuse_settings_of_class(self, given: Any) -> None:
        """Refuse settings that a subclass has as attributes or methods: a worker reads its arguments only.

        :param given: names of the arguments
        :raises SettingsError: it has one that is not given
        """
        for cls in type(self).__mro__[: type(self).__mro__.index(ArqSurface)]:
            if cls.__module__.startswith(f"{__package__}."):
                continue
            for name in vars(cls):
                if name in SETTING_NAMES and name not in given:
                    raise SettingsError(
                        f"{cls.__name__} defines {name}, which would never be used: a worker takes its settings as "
                        f"arguments. Give {name}=... to super().__init__(), or run the class by run_worker(...)"
                    )


def _refuse_overrides(cls: type) -> None:
    bases = cls.__mro__[1:]
    for name in vars(cls):
        inherited = next((vars(base)[name] for base in bases if name in vars(base)), None)
        if isinstance(inherited, Gone):
            instead = inherited.instead
        elif name in _NOT_CALLED and inherited is not None:
            instead = _NOT_CALLED[name]
        else:
            if name in _PARTLY_CALLED and inherited is not None:
                logger.warning("%s overrides %s: %s", cls.__name__, name, _PARTLY_CALLED[name])
            continue
        raise SettingsError(f"{cls.__name__} overrides {name}, which would never be called: {instead}")
