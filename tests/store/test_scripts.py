"""The text of the scripts, also of the paths that no test takes: each compiles, and each name in it is known."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from arqestra.protocol.keys import Keys
from arqestra.store.scripts import script
from tests.store.lua_sources import LUA, source
from tests.support.replies import reply_of

SCRIPTS = sorted(
    name.removesuffix(".lua") for name in (file.name for file in LUA.iterdir()) if re.fullmatch(r"[a-z]\w*\.lua", name)
)
OF_REDIS = "ARGV KEYS cmsgpack redis"
OF_LUA = "ipairs math next pairs pcall setmetatable string table tonumber tostring type unpack"
GLOBALS = {*OF_REDIS.split(), *OF_LUA.split()}
_PART = re.compile(r"^-- @(?:include|module \w+) (\w+)$", re.MULTILINE)
_MODULE = re.compile(r"^-- @module (\w+) (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"--.*")
_RETURNED = re.compile(r"^return \{(.*?)\}\s*\Z", re.MULTILINE | re.DOTALL)


def parts(name: str) -> Iterator[str]:
    """The sources of which a script consists."""
    text = source(name)
    yield text
    for part in _PART.findall(text):
        yield from parts(part)


def test_there_are_scripts() -> None:
    assert {"claim", "enqueue", "finish"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_it_compiles(redis: Redis, name: str) -> None:
    assert await redis.script_load(script(name, Keys()).text) == script(name, Keys()).sha


@pytest.mark.parametrize("name", SCRIPTS)
def test_modules_return_what_is_used_of_them(name: str) -> None:
    texts = list(parts(name))
    code = _COMMENT.sub("", "\n".join(texts))
    for module, file in {found for text in texts for found in _MODULE.findall(text)}:
        returned = _RETURNED.search(source(file))
        assert returned is not None, f"{file}: expected a table to be returned at the end"
        known = {"used", *re.findall(r"(\w+) =", returned[1])}
        assert set(re.findall(rf"\b{module}\.(\w+)", code)) <= known


@pytest.mark.parametrize("name", SCRIPTS)
async def test_it_uses_no_global_that_is_none_of_redis(redis: Redis, name: str) -> None:
    """A local that is used before it is declared is a global to Lua, and an error when that line is run."""
    compiled = await reply_of(redis.eval("return string.dump(loadstring(ARGV[1]))", 0, script(name, Keys()).text))

    read, written = Bytecode(compiled).globals()

    assert read <= GLOBALS
    assert not written


class Bytecode:
    """A compiled chunk of Lua 5.1 on a machine of 64 bits, as far as it tells of globals."""

    GETGLOBAL, SETGLOBAL = 5, 7

    def __init__(self, data: bytes) -> None:
        assert data[:12] == b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00"
        self._data = data
        self._at = 12

    def globals(self) -> tuple[set[str], set[str]]:
        """The names that are read and those that are written, here and in the functions within."""
        self._text()
        self._at += 2 * 4 + 4  # lines; upvalues, parameters, varargs, stack
        code = [self._int() for _ in range(self._int())]
        constants = [self._constant() for _ in range(self._int())]
        read = {constants[word >> 14] for word in code if word & 63 == self.GETGLOBAL}
        written = {constants[word >> 14] for word in code if word & 63 == self.SETGLOBAL}
        for _ in range(self._int()):
            inner_read, inner_written = self.globals()
            read |= inner_read
            written |= inner_written
        self._skip_debug()
        return read, written

    def _skip_debug(self) -> None:
        lines = self._int()
        self._at += 4 * lines
        for _ in range(self._int()):
            self._text()
            self._at += 2 * 4
        for _ in range(self._int()):
            self._text()

    def _constant(self) -> str:
        kind = self._data[self._at]
        self._at += 1
        if kind == 4:
            return self._text()
        self._at += {0: 0, 1: 1, 3: 8}[kind]
        return ""

    def _text(self) -> str:
        (size,) = struct.unpack_from("<Q", self._data, self._at)
        self._at += 8 + size
        return self._data[self._at - size : self._at - 1].decode("latin-1") if size else ""

    def _int(self) -> int:
        (number,) = struct.unpack_from("<I", self._data, self._at)
        self._at += 4
        return int(number)
