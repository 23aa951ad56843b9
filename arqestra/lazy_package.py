"""A package that imports the modules of its public names when these are first used.

`import arqestra` is paid by every producer, by every web process that enqueues a job, and by `arqestra --help`. Most of
them use a few names.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ("LazyPackage",)


class LazyPackage(ModuleType):
    """The class of the package arqestra. Its module sets the two tables.

    :ivar _module_of: public name -> the module that has it, below the package
    :ivar _modules: names of modules that are attributes of the package, whether or not somebody has imported them
    """

    _module_of: dict[str, str]
    _modules: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        """A name that nobody has used yet."""
        if name in self._module_of:
            found = getattr(import_module(f"{self.__name__}.{self._module_of[name]}"), name)
            super().__setattr__(name, found)
            return found
        if name in self._modules:
            return import_module(f"{self.__name__}.{name}")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """As ever; but a module that is spelt like a public name (`arqestra.cron`) does not take its place."""
        if not (isinstance(value, ModuleType) and name in self._module_of):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        """All names, also those that nobody has used yet."""
        return sorted({*vars(self), *self._module_of, *self._modules})
