"""What arq's `Worker` has and ours has not, and what stands for it: said, and not left to be found out.

Some of arq's methods are steps of its way to run jobs, which is not ours. Code that reads one gets an error that says
what to use; a class that overrides one is refused, since its method would never be called. So is a class that has a
name of its own which our worker uses for itself.
"""

import inspect
import logging
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import arq.worker

from ..errors import SettingsError
from .leasing.slots import Slots
from .settings import SETTING_NAMES

__all__ = ("ArqSurface", "Gone", "remember_steps")

logger = logging.getLogger("arq.worker")

_MIDDLEWARE = "use middleware (Middleware.around_run), or the hooks on_job_start, on_job_end and after_job_end"
_STEP = "it is a step of arq's main loop; arqestra claims, runs and finishes jobs otherwise"

# Here for tests that call them; the main loop claims by itself.
_NOT_CALLED = {
    "start_jobs": f"arqestra's main loop does not call it: {_MIDDLEWARE}",
    "_poll_iteration": "arqestra's main loop does not call it: override heart_beat for what is to happen now and then",
}
# What arq's users may name as arq does: its methods, and the attributes that it gives a worker.
_OF_ARQ = frozenset(dir(arq.worker.Worker)) | frozenset(arq.worker.Worker.__init__.__code__.co_names)
_steps: dict[str, Any] = {}
_MAY_BE_REPLACED = frozenset({"run_cron"})  # with an effect on what our worker does besides


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

    slots: Slots

    @property
    def has_own_run_cron(self) -> bool:
        """Whether a subclass or somebody else has put a method in the place of `run_cron`, which decides on cron jobs
        as in arq. The worker's scheduler then leaves them alone.
        """
        return inspect.getattr_static(self, "run_cron") is not _steps["run_cron"]

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
        if not _is_ours(cls):
            _refuse_overrides(cls)

    def __dir__(self) -> list[str]:
        """What can be read: some classes look through all that they have, also before they call `__init__`."""
        ours = {name for base in type(self).__mro__ if _is_ours(base) for name in vars(base)}
        return [name for name in super().__dir__() if name not in ours or hasattr(self, name)]

    def _refuse_settings_of_class(self, options: Any, given: Collection[str]) -> None:
        """Refuse settings that a subclass has as attributes or methods: a worker reads its arguments only.

        :param given: names of the arguments
        :raises SettingsError: it has one that is not given, and is not the default
        """
        for cls in _classes_of_users(type(self)):
            for name in vars(cls).keys() & set(SETTING_NAMES) - set(given):
                if vars(cls)[name] is not getattr(options, name) and vars(cls)[name] != getattr(options, name):
                    raise SettingsError(
                        f"{cls.__name__} defines {name}, which would never be used: a worker takes its settings as "
                        f"arguments. Give {name}=... to super().__init__(), or run the class by run_worker(...)"
                    )

    def _refuse_clashes(self, before: Mapping[str, Any]) -> None:
        """Refuse what a subclass calls as we call what our worker is made of: one of both would be lost.

        :param before: the attributes that were set before `Worker.__init__` was called
        :raises SettingsError: there is such a name
        """
        ours = {name for name, value in vars(self).items() if name not in before or before[name] is not value}
        of_classes = {name for cls in _classes_of_users(type(self)) for name in vars(cls)}
        for name in sorted((ours & (before.keys() | of_classes)) - _OF_ARQ - set(SETTING_NAMES)):
            raise SettingsError(_clash(type(self), name))

    def _tell_of_replaced_steps(self) -> None:
        """Say at the start what somebody put into the place of methods that are never called."""
        for name, step in _steps.items():
            if name not in _MAY_BE_REPLACED and inspect.getattr_static(self, name) is not step:
                instead = step.instead if isinstance(step, Gone) else _NOT_CALLED[name]
                logger.warning("%s of this worker was set, and is never called: %s", name, instead)


def remember_steps(cls: type) -> None:
    """Remember what stands in the places of arq's steps, to see whether somebody replaces it.

    :param cls: our worker
    """
    names = [name for name, value in vars(ArqSurface).items() if isinstance(value, Gone)]
    _steps.update({name: inspect.getattr_static(cls, name) for name in (*names, *_NOT_CALLED, *_MAY_BE_REPLACED)})


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def _classes_of_users(cls: type) -> list[type]:
    """The subclass of a worker and its bases, without ours."""
    return [base for base in cls.__mro__ if not _is_ours(base) and base is not object]


def _clash(cls: type, name: str) -> str:
    return f"{cls.__name__} has an attribute {name}, which arqestra's worker uses for itself: give it another name"


def _refuse_overrides(cls: type) -> None:
    ours = [base for base in cls.__mro__ if _is_ours(base)]
    annotated = {name for base in ours for name in vars(base).get("__annotations__", ())}
    for name in vars(cls):
        inherited = next((vars(base)[name] for base in ours if name in vars(base)), None)
        if name.startswith("__") or (inherited is None and name not in annotated):
            continue
        if isinstance(inherited, Gone) or name in _NOT_CALLED:
            instead = inherited.instead if isinstance(inherited, Gone) else _NOT_CALLED[name]
            raise SettingsError(f"{cls.__name__} overrides {name}, which would never be called: {instead}")
        if name not in _OF_ARQ and name not in SETTING_NAMES:
            raise SettingsError(_clash(cls, name))
