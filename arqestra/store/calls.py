"""Calls of scripts and plain commands, as they go over a connection; and when a server last answered one."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import hiredis

from .scripts import Script, self_contained

__all__ = (
    "Call",
    "Command",
    "Pulse",
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

    def command_words(self, *, in_full: bool = False) -> tuple[Any, ...]:
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

    def command_words(self, *, in_full: bool = False) -> tuple[Any, ...]:
        """The command."""
        return self.words

    def packed(self, *, in_full: bool = False) -> bytes:
        """The same as it is sent."""
        return pack_command(self.words)


Receiver = Callable[[list[Any] | Exception], None]
Call = ScriptCall | Command


class Pulse:
    """When Redis last answered a process, and whether it has failed to since.

    A process that asks nothing is not answered, and is not cut off: only what was asked and not answered, or a
    connection that was lost or could not be made, says so. A silent connection is asked by the listener every 10 s.

    :ivar answered_s: by the loop's clock
    """

    __slots__ = ("_failed_s", "answered_s")

    def __init__(self) -> None:
        self.answered_s = time.monotonic()
        self._failed_s = 0.0

    def answered(self) -> None:
        """Something came."""
        self.answered_s = time.monotonic()

    def failed(self) -> None:
        """A connection was lost, could not be made, or was not answered in time."""
        self._failed_s = time.monotonic()

    @property
    def cut_off_s(self) -> float:
        """Seconds since the last answer, if something has failed since; else 0."""
        return time.monotonic() - self.answered_s if self._failed_s > self.answered_s else 0.0
