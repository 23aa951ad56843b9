"""`@worker_settings`: arq's command line builds our worker from the decorated settings.

arq's command line imports the settings and calls `arq.worker.create_worker(settings)`. Importing arqestra puts a small
switch in that place: decorated settings go to our `Worker`, all others to arq's, and the log says so.
"""

import asyncio
import logging
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

try:
    import uvloop
except ImportError:  # Windows
    uvloop = None  # type: ignore[assignment]

from ..client.connect import settings_of
from .settings import WorkerOptions
from .settings_source import settings_in, title_of
from .worker import Worker

__all__ = (
    "create_worker",
    "get_kwargs",
    "is_ours",
    "mention_stock",
    "options_of",
    "run_worker",
    "use_uvloop",
    "worker_settings",
)

logger = logging.getLogger("arq.worker")

T = TypeVar("T")

_MARK = "__arqestra_worker_settings__"
_marked: dict[int, Any] = {}  # by id, what carries no attributes: dicts, instances with slots
_mentioned: dict[int, Any] = {}  # by id, too


def worker_settings(settings_cls: T) -> T:
    """Check a settings class and make arq's command line run it with our worker.

    The class may inherit settings, and derive from a worker. What else it has is its own: a name that is nearly a
    setting's is an error, other names are told once in the log. An instance (of a dataclass, say) or a dict is taken
    as well: `SETTINGS = worker_settings({"functions": [...]})`.

    :returns: the very object
    :raises SettingsError: a setting is unknown or has a wrong value
    """
    settings = settings_in(settings_cls)
    if settings.get("redis_settings") is not None:
        settings["redis_settings"] = settings_of(settings["redis_settings"], "redis_settings")
    WorkerOptions.of(settings)
    if not isinstance(settings_cls, type):
        _marked[id(settings_cls)] = settings_cls
        return settings_cls
    for name, value in settings.items():  # what looks at settings classes looks at their own attributes only
        setattr(settings_cls, name, staticmethod(value) if callable(value) and not isinstance(value, type) else value)
    setattr(settings_cls, _MARK, True)
    return settings_cls


def is_ours(settings_cls: Any) -> bool:
    """Whether arq's command line runs these settings with our worker."""
    return _marked.get(id(settings_cls)) is settings_cls or (
        isinstance(settings_cls, type) and getattr(settings_cls, _MARK, False) is True
    )


def create_worker(settings_cls: Any, **kwargs: Any) -> Worker:
    """Our worker of a settings class, decorated or not, of an instance or a dict, as `arq.worker.create_worker` does.

    :param kwargs: settings that win over the class's
    :raises SettingsError: a setting is nearly a known one's name or has a wrong value
    """
    return Worker(**{**get_kwargs(settings_cls), **kwargs})


def get_kwargs(settings_cls: Any) -> dict[str, Any]:
    """The settings of a class, an instance or a dict as keywords of `Worker`; arq's name."""
    return settings_in(settings_cls)


def options_of(settings_cls: Any) -> WorkerOptions:
    """The options of a worker that `create_worker` would make.

    :raises SettingsError: a setting is unknown or has a wrong value
    """
    return WorkerOptions.of(get_kwargs(settings_cls))


def run_worker(settings_cls: Any, **kwargs: Any) -> Worker:
    """Make a worker of a settings class and run it, as `arq.worker.run_worker` does. Uses uvloop where it is there."""
    use_uvloop({**get_kwargs(settings_cls), **kwargs})
    worker = create_worker(settings_cls, **kwargs)
    worker.run()
    return worker


def mention_stock(settings_cls: Any) -> None:
    """Say once that settings run under arq's own worker: whoever imports arqestra hardly means that."""
    if id(settings_cls) in _mentioned:
        return
    _mentioned[id(settings_cls)] = settings_cls
    use = "worker_settings({...})" if isinstance(settings_cls, dict) else "@arqestra.worker_settings"
    logger.warning(
        "%s runs under stock arq, although arqestra is imported: it is not decorated. Use %s, or `arqestra worker`, "
        "for arqestra's worker",
        title_of(settings_cls),
        use,
    )


def use_uvloop(settings: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Make the loops of this process uvloop's, unless one was chosen already or the settings say `uvloop=False`."""
    if uvloop is None or settings.get("uvloop") is False:
        return
    with warnings.catch_warnings():  # from Python 3.14 on policies are deprecated, and arq's worker asks for its loop
        warnings.simplefilter("ignore", DeprecationWarning)
        if type(asyncio.get_event_loop_policy()) is asyncio.DefaultEventLoopPolicy:
            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
