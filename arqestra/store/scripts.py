"""The Lua scripts, read from `lua/` with their includes and the key preamble.

A line `-- @include name` is replaced by the file of that name. Scripts are sent by their SHA1 and in full only when the
server does not know them (after `SCRIPT FLUSH`, a restart or a failover).
"""

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from ..keys import Keys

__all__ = ("Script", "script")

_WORD = re.compile(r"\w+")
_INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)


class Script(NamedTuple):
    """A script's name, full text and SHA1."""

    name: str
    text: str
    sha: str


@cache
def script(name: str, keys: Keys) -> Script:
    """The script `lua/<name>.lua` for a namespace."""
    body = _with_includes(name)
    text = keys.lua(frozenset(_WORD.findall(body))) + body
    return Script(name, text, hashlib.sha1(text.encode()).hexdigest())


def _with_includes(name: str) -> str:
    return _INCLUDE.sub(lambda match: _with_includes(match[1]), _source(name))


def _source(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
