"""Import paths of arqestra 0.1 that moved: `arqestra.retry` is `arqestra.definitions.retry`, and so on.

Code that uses them, and pickles that name their classes, go on working. `import arqestra` loads these modules
anyway, so a second name for each costs nothing. Only the worker's are left to the files `settings.py` and `outcome.py`,
which import them when somebody asks.
"""

import sys
from importlib import import_module
from types import ModuleType

__all__ = ("FOLDER_OF", "keep_old_paths")

_FOLDERS = {
    "definitions": "durations graph limits middleware options redact retry signature unique",
    "protocol": "clock events histogram keys presence progress serializers wire",
    "handles": "job queue",
    "client": "connect pool",
    "worker": "settings",
    "worker.run": "outcome",
    "drop_in": "instrumentation",
}
_RENAMED = {
    "callables": "definitions.function",
    "control": "definitions.job_options",
    "current": "definitions.context",
    "rebuild": "definitions.coerce",
    "redis_settings": "client.connect",
    "ended": "protocol.recent_jobs",
    "history": "protocol.attempt_errors",
    "function": "definitions.decorator",
    "identity": "protocol.clock",
    "job_spec": "client.enqueue",
    "new_job": "client.enqueue",
    "pool_views": "client.fleet_views",
}
# The old name of a module below `arqestra`, and where it is.
FOLDER_OF = {name: f"{folder}.{name}" for folder, names in _FOLDERS.items() for name in names.split()} | _RENAMED


def keep_old_paths(package: ModuleType) -> None:
    """Let `import arqestra.retry` find the module that moved.

    :param package: arqestra. A public name that is spelt like a module (`arqestra.job`) stays that name
    """
    for old, path in FOLDER_OF.items():
        if path.startswith("worker."):
            continue
        module = import_module(f"{package.__name__}.{path}")
        sys.modules.setdefault(f"{package.__name__}.{old}", module)
        if not hasattr(package, old):
            setattr(package, old, module)
