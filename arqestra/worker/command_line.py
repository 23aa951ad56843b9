"""`@worker_settings`: arq's command line builds our worker from the decorated class.

arq's command line imports the settings class and calls `arq.worker.create_worker(settings)`. The decorator puts a small
switch in that place: decorated classes go to our `Worker`, all others to arq's.
"""

import asyncio
import sys
from typing import Any, TypeVar

import arq.worker

try:
    import uvloop
except ImportError:  # Windows
    uvloop = None  # type: ignore[assignment]

from ..connect import settings_of
from ..errors import SettingsError
from ..settings import SETTING_NAMES, WorkerOptions, refuse_unknown
from .worker import Worker

__all__ = ("create_worker", "options_of", "run_worker", "use_uvloop", "worker_settings")

T = TypeVar("T", bound=type)

_MARK = "__arqestra_worker_settings__"
_arq_create_worker = arq.worker.create_worker


def worker_settings(settings_cls: T) -> T:
    """Check a settings class and make arq's command line run it with our worker.

    The class may inherit settings. Names that begin with an underscore are the class's own.

    :raises SettingsError: a setting is unknown or has a wrong value
    """
    settings = _settings_of(settings_cls)
    if "redis_settings" in settings and settings["redis_settings"] is not None:
        settings["redis_settings"] = settings_of(settings["redis_settings"])
    WorkerOptions.of(settings)
    for name, value in settings.items():  # arq reads the class's own attributes only
        setattr(settings_cls, name, staticmethod(value) if callable(value) and not isinstance(value, type) else value)
    setattr(settings_cls, _MARK, True)
    _switch_arq_over()
    return settings_cls


def _settings_of(settings_cls: type) -> dict[str, Any]:
    if not isinstance(settings_cls, type):
        raise SettingsError(f"@worker_settings: expected a class, got {settings_cls!r}")
    settings: dict[str, Any] = {}
    for cls in reversed(settings_cls.__mro__[:-1]):
        for name, value in vars(cls).items():
            if not name.startswith("_"):
                settings[name] = getattr(settings_cls, name) if isinstance(value, staticmethod | classmethod) else value
    refuse_unknown(settings, f"settings class {settings_cls.__name__}")
    return settings


def create_worker(settings_cls: Any, **kwargs: Any) -> Worker:
    """Our worker of a settings class, decorated or not, or of a dict, as `arq.worker.create_worker` does.

    :param kwargs: settings that win over the class's
    """
    return Worker(**{**_settings_in(settings_cls), **kwargs})


def options_of(settings_cls: Any) -> WorkerOptions:
    """The options of a worker that `create_worker` would make.

    :raises SettingsError: a setting is unknown or has a wrong value
    """
    return WorkerOptions.of(_settings_in(settings_cls))


def _settings_in(settings_cls: Any) -> dict[str, Any]:
    if isinstance(settings_cls, dict):
        return dict(settings_cls)
    if getattr(settings_cls, _MARK, False):
        return _settings_of(settings_cls)
    settings = {name: value for name, value in vars(settings_cls).items() if name in SETTING_NAMES}
    return {name: value.__func__ if isinstance(value, staticmethod) else value for name, value in settings.items()}


def run_worker(settings_cls: Any, **kwargs: Any) -> Worker:
    """Make a worker of a settings class and run it, as `arq.worker.run_worker` does. Uses uvloop where it is there."""
    use_uvloop()
    worker = create_worker(settings_cls, **kwargs)
    worker.run()
    return worker


def _create_either_worker(settings_cls: Any, **kwargs: Any) -> Any:
    """What stands in the place of `arq.worker.create_worker` once a class was decorated."""
    if not isinstance(settings_cls, dict) and getattr(settings_cls, _MARK, False):
        return create_worker(settings_cls, **kwargs)
    return _arq_create_worker(settings_cls, **kwargs)


def _run_either_worker(settings_cls: Any, **kwargs: Any) -> Any:
    if not isinstance(settings_cls, dict) and getattr(settings_cls, _MARK, False):
        return run_worker(settings_cls, **kwargs)
    worker = _arq_create_worker(settings_cls, **kwargs)
    worker.run()
    return worker


def _switch_arq_over() -> None:
    """Replace the two functions where arq's command line looks them up."""
    modules: tuple[Any, ...] = (arq.worker, sys.modules.get("arq.cli"))
    for module in modules:
        if module is not None:
            module.create_worker = _create_either_worker
            module.run_worker = _run_either_worker


def use_uvloop() -> None:
    """Make the loops of this process uvloop's, unless one was chosen already."""
    if uvloop is None:
        return
    if type(asyncio.get_event_loop_policy()) is asyncio.DefaultEventLoopPolicy:
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
