"""What the modules have in common that carry arq's names: `arqestra.connections`, `.jobs`, `.worker`, `.cron`, ...

They hold no code of their own, so that `import arqestra as arq` and dotted imports go on working. What they name is
arq's, where arqestra shares it, or ours. Tests patch such names, `patch("arqestra.worker.create_pool")`, and mean the
code that uses them. Our code does not look into these modules, so what is set in one of them is set where our code
looks as well.
"""

import sys
from types import ModuleType
from typing import Any

__all__ = ("DropInModule",)

_PACKAGE = __name__.partition(".")[0]
_NOTHING = object()


class DropInModule(ModuleType):
    """A module of arq's names: setting a name that is there sets it in all modules of arqestra that use the same."""

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name, _NOTHING)
        super().__setattr__(name, value)
        if before is _NOTHING or before is value or name.startswith("__"):
            return
        for module in list(sys.modules.values()):
            if _is_code(module) and vars(module).get(name, _NOTHING) is before:
                vars(module)[name] = value


def _is_code(module: Any) -> bool:
    """Whether it is a module of arqestra that uses names: not one that only offers them."""
    return (
        isinstance(module, ModuleType)
        and not isinstance(module, DropInModule)
        and module.__name__.startswith(f"{_PACKAGE}.")
    )
