"""Calls of scripts and plain commands, as they go over a connection; and when a server last answered one."""

import time
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple, cast

import hiredis

from .scripts import Script, self_contained

__all__ = (
    "FUNCTION",
    "Call",
    "Command",
    "How",
    "Pulse",
    "Receiver",
    "ScriptCall",
    "pack_command",
)

# hiredis' stub types the argument as a tuple of one.
pack_command = cast(Callable[[tuple[Any, ...]], bytes], hiredis.pack_command)


class How(Enum):
    """How a server is asked to run a script; the values are the commands, in the order in which a link tries them."""

    FUNCTION = "FCALL"
    BY_SHA = "EVALSHA"
    IN_FULL = "EVAL"


# By its own name where each call needs it: before Python 3.12 an `Enum` looks its members up in Python.
FUNCTION = How.FUNCTION


class ScriptCall(NamedTuple):
    """One call of a script.

    :ivar script: what is called
    :ivar words: the command, as a server takes it that has the library: `FCALL`, function, 1, key, arguments
    """

    script: Script
    words: tuple[Any, ...]

    def words_by(self, how: How) -> tuple[Any, ...]:
        """The command for a server that does not know the function."""
        if how is FUNCTION:
            return self.words
        return (how.value, self.script.text if how is How.IN_FULL else self.script.sha, *self.words[2:])

    def self_contained_words(self, how: How) -> tuple[Any, ...]:
        """The command as a stand-in may need it, which is no server of Redis' or Valkey's; it takes no functions."""
        text, sha = self_contained(self.script.text)
        return (how.value, text if how is How.IN_FULL else sha, *self.words[2:])


class Command(NamedTuple):
    """A plain command: its name and its arguments."""

    words: tuple[Any, ...]

    def words_by(self, how: How) -> tuple[Any, ...]:
        """The command."""
        return self.words

    def self_contained_words(self, how: How) -> tuple[Any, ...]:
        """The command."""
        return self.words


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
