"""The Lua scripts, read from `lua/` with their includes, the names of keys and the constants that Python shares.

A line `-- @include name` is replaced by the file of that name; `-- @module Name file` by a table `Name` of what the
file returns, which is run only when something is first taken from that table. Scripts are sent by their SHA1, and in
full only when the server does not know them (after `SCRIPT FLUSH`, a restart or a failover).

Queues are known by bare names: `QUEUE .. name` is the key of one, and `name_of(KEYS[1])` the name of the one that
KEYS 1 is. Where there is no key prefix the texts have neither.

Each call of a script creates its Lua functions anew, and Lua finds each local that a function uses by walking through
all locals in use: 110 of the 200 us of a small claim were spent so. Three things avoid that. A module creates its
functions only when one is used. Keys and constants stand in the text in the place of their names. And one function is
around the whole, because Lua finds what is outside of it at once.
"""

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from ..protocol.constants import LUA
from ..protocol.keys import Keys

__all__ = ("Script", "script", "self_contained")

_WORD = re.compile(r"\b[A-Z_]+\b")
_COMMENT = re.compile(r"--.*")
_INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)
_OF_QUEUE = re.compile(r"^-- KEYS  1: (?:a |the first )?(?:queue|home)\b", re.MULTILINE)
_NAME_OF = re.compile(r"\bname_of\(KEYS\[1\]\)")
_MODULE = re.compile(r"^-- @module (\w+) (\w+)$", re.MULTILINE)


class Script(NamedTuple):
    """A script's name, full text and SHA1.

    :ivar of_queue: KEYS 1 is a queue, or the home of schedules: the caller has its name
    """

    name: str
    text: str
    sha: str
    of_queue: bool


@cache
def script(name: str, keys: Keys) -> Script:
    """The script `lua/<name>.lua` for a namespace."""
    modules: list[str] = []
    body = _with_includes(name, modules)
    texts = {name: f"'{key}'" for name, key in keys.lua().items()}
    texts |= {name: f"'{value}'" if isinstance(value, str) else str(value) for name, value in LUA.items()}
    code = _COMMENT.sub("", _source("_module") + body)
    code = _NAME_OF.sub(f"string.sub(KEYS[1], {len(keys.prefix) + 1})" if keys.prefix else "KEYS[1]", code)
    code = code if keys.prefix else code.replace("QUEUE .. ", "")
    code = _WORD.sub(lambda match: texts.get(match[0], match[0]), code)
    # A module may be used by what stands before it.
    declared = f"local {', '.join(modules)}\n" if modules else ""
    text = f"local call, KEYS, ARGV = redis.call, KEYS, ARGV\nreturn (function()\n{declared}{code}end)()\n"
    sha = hashlib.sha1(text.encode()).hexdigest()
    return Script(name, text, sha, _OF_QUEUE.search(_source(name)) is not None)


@cache
def self_contained(script: Script) -> tuple[str, str]:
    """A script's text and SHA1, with what it needs beyond Lua itself: for stand-ins for Redis."""
    text = _source("_msgpack") + script.text
    return text, hashlib.sha1(text.encode()).hexdigest()


def _with_includes(name: str, modules: list[str]) -> str:
    """The file with its includes and modules; the names of these are added to `modules`."""

    def module(match: re.Match[str]) -> str:
        modules.append(match[1])
        return f"{match[1]} = module(function()\n{_with_includes(match[2], modules)}end)"

    included = _INCLUDE.sub(lambda match: _with_includes(match[1], modules), _source(name))
    return _MODULE.sub(module, included)


def _source(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
