"""The switch in arq's command line: decorated settings run with our worker and are checked by our health check.

It stands in `arq.worker` and, if that is imported already, in `arq.cli` and `arq`, from the import of arqestra on. All
other settings go to the functions of arq's that were there before. Our worker is imported when one of them is called: a
producer needs none of it.
"""

import sys
from collections.abc import Callable
from typing import Any

import arq
import arq.worker

from .drop_in.instrumentation import create_worker_before

__all__ = ("switch_arq_over",)

_arq_check_health = arq.worker.check_health


def _create_either_worker(settings_cls: Any, **kwargs: Any) -> Any:
    from .worker.command_line import create_worker, is_ours, mention_stock

    if is_ours(settings_cls):
        return create_worker(settings_cls, **kwargs)
    mention_stock(settings_cls)
    return create_worker_before(settings_cls, **kwargs)


def _run_either_worker(settings_cls: Any, **kwargs: Any) -> Any:
    from .worker.command_line import is_ours, run_worker

    if is_ours(settings_cls):
        return run_worker(settings_cls, **kwargs)
    worker = arq.worker.create_worker(settings_cls, **kwargs)
    worker.run()
    return worker


def _check_either_health(settings_cls: Any) -> int:
    from .worker.command_line import is_ours
    from .worker.drop_in.health_check import check_health

    return check_health(settings_cls) if is_ours(settings_cls) else _arq_check_health(settings_cls)


def _watching_either(arq_watch_reload: Callable[..., Any]) -> Callable[..., Any]:
    async def watch_either(path: str, worker_settings: Any) -> Any:
        from .worker.command_line import is_ours

        if not is_ours(worker_settings):
            return await arq_watch_reload(path, worker_settings)
        from .worker.drop_in.arq_watch import watch_reload

        return await watch_reload(path, worker_settings)

    return watch_either


def switch_arq_over() -> None:
    """Replace arq's functions where its command line, and whoever asks arq for them, looks them up."""
    replacements = {
        "create_worker": _create_either_worker,
        "run_worker": _run_either_worker,
        "check_health": _check_either_health,
    }
    command_line = sys.modules.get("arq.cli")
    for module in (arq, arq.worker, command_line):
        for name, function in replacements.items():
            if module is not None and hasattr(module, name):
                setattr(module, name, function)
    if command_line is not None:
        vars(command_line)["watch_reload"] = _watching_either(command_line.watch_reload)
