"""Leases and results are written by one command where the server has it, and with the same effect where it has not."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from tests.store.test_scripts import source

OF_AN_OLDER_SERVER = "local redis = { call = redis.call }"  # one that does not tell its version, as before 7.0
OF_THIS_SERVER = ""


@pytest.mark.parametrize("server", [OF_AN_OLDER_SERVER, OF_THIS_SERVER], ids=["older", "this"])
@pytest.mark.parametrize("count", [1, 2, 1000])
async def test_each_key_has_its_value_and_the_ttl(redis: Redis, server: str, count: int) -> None:
    names_and_values = [text for i in range(count) for text in (f"key {i}", f"value {i}")]
    script = f"{server}\nlocal call = redis.call\n{source('_set_all')}\nset_all(ARGV, KEYS[1])"
    await redis.set("key 0", "old")

    await redis.eval(script, 1, "60000", *names_and_values)

    for i in {0, count // 2, count - 1}:
        assert await redis.get(f"key {i}") == f"value {i}".encode()
        assert 50000 < await redis.pttl(f"key {i}") <= 60000
    assert await redis.dbsize() == count


@pytest.mark.parametrize(("server", "may"), [(OF_AN_OLDER_SERVER, False), (OF_THIS_SERVER, True)], ids=["older", "this"])
async def test_the_command_is_used_where_there_is_one(redis: Redis, server: str, may: bool) -> None:
    has_command = await redis.eval("return type(redis.pcall('MSETEX', '1', 'x', 'y', 'PX', '9')) == 'number'", 0)
    await redis.config_resetstat()

    await redis.eval(f"{server}\nlocal call = redis.call\n{source('_set_all')}\nset_all(ARGV, '9')", 0, *"a1b2")

    used = await redis.info("commandstats")
    assert ("cmdstat_msetex" in used) == bool(may and has_command)
    assert ("cmdstat_psetex" in used) != ("cmdstat_msetex" in used)
