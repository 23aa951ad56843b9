"""The class of the modules with arq's names: `arqestra.connections`, `.jobs`, `.worker`, `.cron`, ...

They exist so that `import arqestra as arq` and dotted imports work, and have no code of their own. Tests patch names in
them, `patch("arqestra.worker.create_pool")`, and mean the code that uses the name. That code is in other modules of
ours. So a name that is set in one of these modules is set in those modules too.
"""

import logging
import sys
from functools import cache
from types import ModuleType
from typing import Any

__all__ = ("DropInModule",)

logger = logging.getLogger("arq")

_PACKAGE = __name__.partition(".")[0]
_NOTHING = object()


class DropInModule(ModuleType):
    """A module with arq's names. Setting one of them sets it in all modules of arqestra that use the same object."""

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name, _NOTHING)
        super().__setattr__(name, value)
        if before is _NOTHING or before is value or name.startswith("__"):
            return
        users = [module for module in _code() if vars(module).get(name, _NOTHING) is before]
        for module in users:
            vars(module)[name] = value
        if not users:
            mention_unused(f"{self.__name__}.{name}")


def _code() -> list[ModuleType]:
    """The modules of arqestra that use names, and do not only offer them."""
    found = [module for name, module in list(sys.modules.items()) if name.startswith(f"{_PACKAGE}.")]
    return [module for module in found if not isinstance(module, DropInModule)]


@cache
def mention_unused(name: str) -> None:
    logger.warning("%s is replaced: arqestra's own code does not use it", name)
