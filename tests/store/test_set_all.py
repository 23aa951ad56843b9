"""Leases and results are written by one command where the server has it, and with the same effect where it has not."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from tests.store.lua_sources import source
from tests.support.replies import reply_of

OF_AN_OLDER_SERVER = "local redis = { call = redis.call }"  # one that does not tell its version, as before 7.0
OF_THIS_SERVER = ""
MODULE = f"local SetAll = (function()\n{source('_set_all')}\nend)()"


@pytest.mark.parametrize("server", [OF_AN_OLDER_SERVER, OF_THIS_SERVER], ids=["older", "this"])
@pytest.mark.parametrize("count", [1, 2, 1000])
async def test_each_key_has_its_value_and_the_ttl(redis: Redis, server: str, count: int) -> None:
    names_and_values = [text for i in range(count) for text in (f"key {i}", f"value {i}")]
    script = f"{server}\nlocal call = redis.call\n{MODULE}\nSetAll.set_all(ARGV, KEYS[1])"
    await redis.set("key 0", "old")

    await reply_of(redis.eval(script, 1, "60000", *names_and_values))

    for i in {0, count // 2, count - 1}:
        assert await redis.get(f"key {i}") == f"value {i}".encode()
        assert 50000 < await redis.pttl(f"key {i}") <= 60000
    assert await redis.dbsize() == count


@pytest.mark.parametrize(
    ("versions", "takes_msetex"),
    [
        ("", False),  # before Redis 7.0 a script is not told
        ("REDIS_VERSION_NUM = 0x0803ff", False),
        ("REDIS_VERSION_NUM = 0x080400", True),
        ("REDIS_VERSION_NUM = 0x070204, VALKEY_VERSION_NUM = 0x0900ff", False),
        ("REDIS_VERSION_NUM = 0x070204, VALKEY_VERSION_NUM = 0x090100", True),
    ],
)
async def test_the_command_is_used_by_servers_that_have_it(redis: Redis, versions: str, takes_msetex: bool) -> None:
    names = "local names = {}\nlocal call = function(name) names[#names + 1] = name end"
    versions = f"pcall = function(name) names[#names + 1] = name end, {versions}"
    script = f"{names}\nlocal redis = {{ {versions} }}\n{MODULE}\nSetAll.set_all(ARGV, '9')\nreturn names"

    assert await reply_of(redis.eval(script, 0, *"a1b2")) == ([b"MSETEX"] if takes_msetex else [b"PSETEX"] * 2)
    assert await reply_of(redis.eval(script, 0, *"a1")) == [b"PSETEX"]
