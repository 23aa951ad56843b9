"""Calls of scripts and plain commands, as they go over a connection."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import hiredis

from .scripts import Script, self_contained

__all__ = (
    "Call",
    "Command",
    "Receiver",
    "ScriptCall",
    "pack_command",
)

# hiredis' stub types the argument as a tuple of one.
pack_command = cast(Callable[[tuple[Any, ...]], bytes], hiredis.pack_command)


class ScriptCall(NamedTuple):
    """One call of a script: its queue (the key that routes it) and its arguments."""

    script: Script
    queue: str
    args: Sequence[bytes | str | int]

    def plain_words(self, *, in_full: bool = False) -> tuple[Any, ...]:
        """The command as a server may need it that is none of Redis' or Valkey's."""
        text, sha = self_contained(self.script)
        return ("EVAL" if in_full else "EVALSHA", text if in_full else sha, 1, self.queue, *self.args)

    def packed(self, *, in_full: bool = False) -> bytes:
        """The same as it is sent."""
        if in_full:
            return pack_command(("EVAL", self.script.text, 1, self.queue, *self.args))
        return pack_command(("EVALSHA", self.script.sha, 1, self.queue, *self.args))


class Command(NamedTuple):
    """A plain command: its name and its arguments."""

    words: tuple[Any, ...]

    def plain_words(self, *, in_full: bool = False) -> tuple[Any, ...]:
        """The command."""
        return self.words

    def packed(self, *, in_full: bool = False) -> bytes:
        """The same as it is sent."""
        return pack_command(self.words)


Receiver = Callable[[list[Any] | Exception], None]
Call = ScriptCall | Command
