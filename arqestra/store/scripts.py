"""The Lua functions of `lua/`: one library for Redis 7.0 and later and for Valkey, and single scripts for Redis 6.2.

A file returns the function that a call by its name runs. One whose name begins with an underscore is a module: it
returns a table of functions, and other files call it by its name in capitals (`_run_end.lua` is `RunEnd`). The line
`-- USES` of a file lists its modules.

The library is loaded once (`FUNCTION LOAD`), and its functions are made once. Its name ends with a hash of its text,
and the names of its functions begin with it: processes of different versions use one server, each its own library. A
server without functions gets the same sources by `EVAL`, one text for each entry point. That makes its functions in
every call: so there a module is made when something is first taken from it.

What a call works on is `c`, the state of the call, which `_call.lua` makes: no function keeps anything for the next.
`c.k` has the names of keys. Numbers that Python shares (`protocol/constants.py`) stand in the text by their names, in
capitals; their values are put in here.
"""

import hashlib
import re
from functools import cache, cached_property
from importlib.resources import files
from typing import NamedTuple

from ..protocol.constants import LUA
from ..protocol.keys import Keys
from ..protocol.lua_names import lua_names

__all__ = ("LIBRARY_PREFIX", "NAMES", "Library", "Script", "code_of", "file_of", "library", "script", "self_contained")

# The entry points.
NAMES = (
    *("enqueue", "turn", "renew", "abort", "delete", "requeue", "record", "peek", "leave"),
    *("purge", "pause", "discard", "advance", "history", "signal", "browse", "survey"),
    *("flow_store", "flow_start", "flow_cancel", "flow_forget", "flow_values"),
    *("schedule_keep", "schedule_put", "schedule_set", "schedule_due", "schedule_fire", "schedule_rewind"),
    *("presence", "recent", "progress", "announce", "run_now", "unknown", "block", "flow_resume"),
)
LIBRARY_PREFIX = "arqestra_"

_WORD = re.compile(r"\b[A-Z][A-Z_]+\b")
_COMMENT = re.compile(r"--.*")
_USES = re.compile(r"^-- USES +(\w+(?:, *\w+)*) *$", re.MULTILINE)
_FLAGS = re.compile(r"^-- FLAGS +([a-z-]+(?:, *[a-z-]+)*) *$", re.MULTILINE)
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class Library(NamedTuple):
    """The library of all functions.

    :ivar name: its name on a server
    :ivar text: what `FUNCTION LOAD` takes
    """

    name: str
    text: str


class Script:
    """One entry point.

    :ivar name: that of its file
    :ivar function: its name in the library, for `FCALL`
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.function = f"{library().name}_{name}"

    @cached_property
    def text(self) -> str:
        """What `EVAL` takes, for a server without functions."""
        modules = "".join(
            f"{module} = module(function()\n{code_of(file_of(module))}end)\n" for module in _needed(self.name)
        )
        declared = f"local {', '.join(_needed(self.name))}\n" if modules else ""
        entry = f"local handle = (function()\n{code_of(self.name)}end)()\n"
        body = f"{_call_text()}{code_of('_module')}{declared}{modules}{entry}"
        # One function is around the whole, because Lua finds what is outside of it at once.
        return (
            "local call, KEYS, ARGV = redis.call, KEYS, ARGV\n"
            f"return (function()\n{body}return handle(state_of(call, KEYS[1], ARGV[1]), ARGV)\nend)()\n"
        )

    @cached_property
    def sha(self) -> str:
        """The SHA1 of `text`, for `EVALSHA`."""
        return hashlib.sha1(self.text.encode()).hexdigest()


@cache
def script(name: str) -> Script:
    """The entry point `lua/<name>.lua`."""
    return Script(name)


@cache
def library() -> Library:
    """The library of all entry points."""
    modules = _needed(*NAMES)
    parts = [
        _call_text(),
        f"local {', '.join(modules)}\n",
        *(f"{module} = (function()\n{code_of(file_of(module))}end)()\n" for module in modules),
        code_of("_register"),
        *(f"register('{name}', {{ {_flags(name)} }}, (function()\n{code_of(name)}end)())\n" for name in NAMES),
    ]
    text = "".join(parts)
    name = LIBRARY_PREFIX + hashlib.sha1(text.encode()).hexdigest()[:12]
    return Library(name, f"#!lua name={name}\nlocal call\nlocal LIBRARY = '{name}'\n{text}")


@cache
def self_contained(text: str) -> tuple[str, str]:
    """A script with what it needs beyond Lua itself, and its SHA1: for stand-ins for Redis."""
    text = code_of("_msgpack") + text
    return text, hashlib.sha1(text.encode()).hexdigest()


@cache
def _call_text() -> str:
    """`_call.lua`, with the names of keys that it makes the state of a call of."""
    names = ", ".join(f"{name} = '{key}'" for name, key in lua_names(Keys()).items())
    return f"local PLAIN_NAMES, DEPLOYMENT = {{ {names} }}, '{Keys().deployment}'\n{code_of('_call')}"


def _needed(*names: str) -> list[str]:
    """The modules that files need, in such an order that each comes behind those that it needs itself."""
    found: dict[str, None] = {}

    def add(module: str) -> None:
        if module not in found:
            for other in _uses(file_of(module)):
                add(other)
            found[module] = None

    for name in names:
        for module in _uses(name):
            add(module)
    return list(found)


def file_of(module: str) -> str:
    """The file of a module, without its suffix."""
    return "_" + _CAPITAL.sub("_", module).lower()


def _uses(name: str) -> list[str]:
    line = _USES.search(_source(name))
    return re.split(r", *", line[1]) if line else []


def _flags(name: str) -> str:
    line = _FLAGS.search(_source(name))
    return ", ".join(f"'{flag}'" for flag in re.split(r", *", line[1])) if line else ""


def code_of(name: str) -> str:
    """A file without its comments, with the constants put in."""
    code = _COMMENT.sub("", _source(name))
    return _WORD.sub(lambda match: _CONSTANTS.get(match[0], match[0]), code)


_CONSTANTS = {name: f"'{value}'" if isinstance(value, str) else str(value) for name, value in LUA.items()}


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
