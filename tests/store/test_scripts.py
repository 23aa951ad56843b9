"""The Lua files, also the paths that no test takes: each compiles, and each name in it is known."""

from __future__ import annotations

import re
import struct

import pytest
from redis.asyncio import Redis

from arqestra.store.scripts import NAMES, code_of, file_of, library, script
from tests.store.lua_sources import LUA, source
from tests.support.replies import reply_of

SCRIPTS = sorted(
    name.removesuffix(".lua") for name in (file.name for file in LUA.iterdir()) if re.fullmatch(r"[a-z]\w*\.lua", name)
)
FILES = sorted(file.name.removesuffix(".lua") for file in LUA.iterdir() if file.name.endswith(".lua"))
PARTS = {"_call", "_register", "_module", "_msgpack"}  # of the library and of single scripts
ORDER = ("ARGV", "RETURNS", "ERRORS", "EVENTS", "REPEAT", "USES", "FLAGS")
READS = {*["EXISTS", "GET", "HGET", "HMGET", "HGETALL", "LLEN", "LRANGE", "MGET", "SISMEMBER", "TYPE"]}
READS |= {*["ZCARD", "ZCOUNT", "ZRANGE", "ZSCORE", "ZRANGEBYSCORE"]}
OF_REDIS = "call cmsgpack redis"
OF_LUA = "ipairs math next pairs pcall setmetatable string table tonumber tostring type unpack"
GLOBALS = {*OF_REDIS.split(), *OF_LUA.split()}
_USES = re.compile(r"^-- USES +(.*)$", re.MULTILINE)
_CALLED = re.compile(r"p?call\('([A-Z]+)'")
_COMMENT = re.compile(r"--.*")
_RETURNED = re.compile(r"^return \{(.*?)\}\s*\Z", re.MULTILINE | re.DOTALL)


def uses(name: str) -> set[str]:
    """The modules that a file says that it uses."""
    line = _USES.search(source(name))
    return set(line[1].replace(" ", "").split(",")) if line else set()


def test_each_file_is_a_script_a_module_or_a_part_of_the_library() -> None:
    assert set(NAMES) == set(SCRIPTS)
    used = {module for name in FILES for module in uses(name)}
    assert {file_of(module) for module in used} == set(FILES) - set(SCRIPTS) - PARTS


@pytest.mark.parametrize("name", SCRIPTS)
async def test_it_compiles(redis: Redis, name: str) -> None:
    assert await redis.script_load(script(name).text) == script(name).sha


async def test_the_library_compiles(redis: Redis) -> None:
    await redis.execute_command("FUNCTION", "FLUSH")
    assert await reply_of(redis.execute_command("FUNCTION", "LOAD", library().text)) == library().name.encode()
    [listed] = await reply_of(redis.execute_command("FUNCTION", "LIST"))
    functions = {
        dict(zip(each[::2], each[1::2], strict=True))[b"name"].decode()
        for each in listed[listed.index(b"functions") + 1]
    }
    assert functions == {script(name).function for name in NAMES}


@pytest.mark.parametrize("name", FILES)
def test_modules_return_what_is_used_of_them(name: str) -> None:
    code = _COMMENT.sub("", source(name))
    for module in uses(name):
        returned = _RETURNED.search(source(file_of(module)))
        assert returned is not None, f"{module}: expected a table to be returned at the end"
        used = set(re.findall(rf"\b{module}\.(\w+)", code))
        assert used, f"{name}: {module} stands in USES, and is not used"
        assert used <= set(re.findall(r"(\w+) =", returned[1]))


@pytest.mark.parametrize("name", [name for name in FILES if name not in PARTS])
async def test_a_file_uses_no_global_but_what_it_says(redis: Redis, name: str) -> None:
    """A local that is used before it is declared is a global to Lua, and an error when that line is run. No file sets a
    global: nothing is kept from one call to the next.
    """
    code = code_of(name)
    compiled = await reply_of(redis.eval("return string.dump(loadstring(ARGV[1]))", 0, code))

    read, written = Bytecode(compiled).globals()

    assert read <= GLOBALS | uses(name)
    assert not written


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_text_uses_no_global_that_is_none_of_redis(redis: Redis, name: str) -> None:
    compiled = await reply_of(redis.eval("return string.dump(loadstring(ARGV[1]))", 0, script(name).text))

    read, written = Bytecode(compiled).globals()

    assert read <= GLOBALS - {"call"} | {"KEYS", "ARGV"}
    assert not written


@pytest.mark.parametrize("name", FILES)
def test_its_lines_have_120_columns_at_most(name: str) -> None:
    assert [line for line in source(name).splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_its_header_has_the_one_form(name: str) -> None:
    header = re.match(r"(?:--.*\n)+", source(name))
    assert header is not None
    words = re.findall(r"^-- (ARGV|RETURNS|ERRORS|EVENTS|REPEAT|USES|FLAGS)  ", header[0], re.MULTILINE)
    assert words == [word for word in ORDER if word in words]
    assert words[:2] == ["ARGV", "RETURNS"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_writes_nothing_says_so(name: str) -> None:
    writes = "no-writes" not in source(name)
    commands = {
        command for file in (name, *needed(name)) for command in _CALLED.findall(_COMMENT.sub("", source(file)))
    }
    if not writes:
        assert commands <= READS


def needed(name: str) -> set[str]:
    """The files of all modules that a file needs."""
    files = {file_of(module) for module in uses(name)}
    return files.union(*(needed(file) for file in files))


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
