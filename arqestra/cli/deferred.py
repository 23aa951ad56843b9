"""Commands whose files are imported when they are called: `arqestra --help` needs none of them."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

__all__ = ("DeferredCommand", "deferring")


class DeferredCommand(TyperCommand):
    """Stands for a command, or a group of commands, in the help and the completion of `arqestra`.

    :param name: of the command. The file of that name has a function `add_<name>`, which adds it to an app
    :param about: what the help says of it
    """

    def __init__(self, name: str, about: str) -> None:
        super().__init__(name, help=about)
        self._name = name

    def load(self) -> Any:
        """The command itself."""
        app = typer.Typer(add_completion=False)
        app.callback()(lambda: None)  # so that typer makes a group of it, also of a single command
        getattr(import_module(f".{self._name}", __package__), f"add_{self._name}")(app)
        return self._commands_of(get_command(app))[self._name]

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """That of the command itself, which is so the one that runs, prints its help or completes its options."""
        return self.load().make_context(info_name, args, parent, **extra)

    @property
    def commands(self) -> dict[str, Any]:
        """Of a group its commands: for tools that walk through all of them."""
        return self._commands_of(self.load())

    @staticmethod
    def _commands_of(command: Any) -> dict[str, Any]:
        return getattr(command, "commands", {})


def deferring(about: dict[str, str]) -> type[TyperGroup]:
    """A class of a group with deferred commands.

    :param about: name of a command -> what the help says of it
    """

    class DeferringGroup(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            for name, text in about.items():
                self.add_command(DeferredCommand(name, text))

    return DeferringGroup
