"""What the modules have in common that carry arq's names: `arqestra.connections`, `.jobs`, `.worker`, `.cron`, ...

They hold no code of their own, so that `import arqestra as arq` and dotted imports go on working. What they name is
arq's, where arqestra shares it, or ours. Tests patch such names, `patch("arqestra.worker.create_pool")`, and mean the
code that uses them. Our code does not look into these modules, so what is set in one of them is set where our code
looks as well.
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
    """A module of arq's names: setting a name that is there sets it in all modules of arqestra that use the same."""

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name, _NOTHING)
        super().__setattr__(name, value)
        if before is _NOTHING or before is value or name.startswith("__"):
            return
        users = [module for module in _code() if vars(module).get(name, _NOTHING) is before]
        for module in users:
            vars(module)[name] = value
        if not users:
            _mention_unused(f"{self.__name__}.{name}")


def _code() -> list[ModuleType]:
    """The modules of arqestra that use names, and do not only offer them."""
    found = [module for name, module in list(sys.modules.items()) if name.startswith(f"{_PACKAGE}.")]
    return [module for module in found if not isinstance(module, DropInModule)]


@cache
def _mention_unused(name: str) -> None:
    logger.warning("%s is replaced: arqestra's own code does not use it", name)
