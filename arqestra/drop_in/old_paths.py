"""Import paths of arqestra 0.1 that moved: `arqestra.retry` is `arqestra.definitions.retry`, and so on.

Code that uses them, and pickles that name their classes, go on working. A module that moved is imported when somebody
asks for its old path.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ("FOLDER_OF", "find_old_paths")

_PACKAGE = __name__.partition(".")[0]
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


class OldPaths(MetaPathFinder, Loader):
    """Python's import system asks this finder for modules that are not where their names say."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """That of a module that moved; None for any other."""
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == _PACKAGE and name in FOLDER_OF else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module that moved in the place of the empty one that was made for the old path."""
        old = module.__name__
        sys.modules[old] = import_module(f"{_PACKAGE}.{FOLDER_OF[old.partition('.')[2]]}")


def find_old_paths() -> None:
    """Let `import arqestra.retry` find the module that moved."""
    sys.meta_path.append(OldPaths())
