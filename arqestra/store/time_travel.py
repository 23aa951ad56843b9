"""Moving the time in a Redis of tests: what is kept for a while is kept that much shorter.

Scripts are told the time (`protocol/clock.py`). The expiry of keys is Redis' own business, so it is moved here. A lease
says that a worker lives, and time travel kills none: leases end that much later instead.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import redis

from ..protocol.keys import Keys
from .store import Store

__all__ = ("ExpiredResult", "move_time", "restore_results")

_KEYS = Keys()

# ARGV  1: ms
#       2: keys with this in their names stay; '' for none
#       3: what the names of lease records begin with, behind a key prefix
#       4: the same of results
_MOVE = r"""
local by = tonumber(ARGV[1])
local leases, sets, seen, expired, cursor = {}, {}, {}, {}, '0'
local function move(key)
  local _, last = string.find(key, ARGV[3], 1, true)
  local ttl = redis.call('PTTL', key)
  if ARGV[2] ~= '' and string.find(key, ARGV[2], 1, true) then
    return
  end
  if last then
    leases[string.sub(key, last + 1)] = key
  elseif ttl > by then
    redis.call('PEXPIRE', key, ttl - by)
  elseif ttl > 0 then
    if string.find(key, ARGV[4], 1, true) then
      expired[#expired + 1] = { key, redis.call('GET', key), ttl }
    end
    redis.call('DEL', key)
  elseif redis.call('TYPE', key).ok == 'zset' then
    sets[#sets + 1] = key
  end
end

repeat
  local page = redis.call('SCAN', cursor, 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    if not seen[key] then  -- SCAN may give a key twice
      seen[key] = true
      move(key)
    end
  end
until cursor == '0'
for id, key in pairs(leases) do
  local token, lease_end, rest = string.match(redis.call('GET', key) or '', '^([^|]+)|(%d+)(|%-?%d+|%d+)$')
  if token and token ~= '-' then
    local later = string.format('%.0f', lease_end + by)
    redis.call('SET', key, token .. '|' .. later .. rest, 'KEEPTTL')
    for _, set in ipairs(sets) do
      if redis.call('ZSCORE', set, id) == lease_end then
        redis.call('ZADD', set, 'XX', later, id)
      end
    end
  end
end
return expired
"""


class ExpiredResult(NamedTuple):
    """The result of a job that has expired.

    :ivar ttl_ms: how long it would have been there
    """

    key: str
    job_id: str
    data: bytes
    ttl_ms: int


def move_time(client: redis.Redis, by_ms: int, *, keep_flows: bool = False) -> list[ExpiredResult]:
    """Let so much time pass for all that this Redis keeps for a while.

    :param by_ms: at least 1
    :param keep_flows: flows that have ended stay
    :returns: results that have expired by that
    """
    expired = cast(
        list[Any],
        client.eval(
            _MOVE, 0, str(by_ms), f"{_KEYS.ours}flow" if keep_flows else "", _KEYS.lease_prefix, _KEYS.result_prefix
        ),
    )
    return [
        ExpiredResult(key.decode(), key.decode().partition(_KEYS.result_prefix)[2], data, ttl_ms)
        for key, data, ttl_ms in expired
    ]


async def restore_results(store: Store, results: Iterable[ExpiredResult]) -> None:
    """Keep results once more that have expired while the time was moved. A job that is there again has none."""
    for key, job_id, data, ttl_ms in results:
        if not await store.redis.exists(store.keys.job(job_id), store.keys.lease(job_id)):
            await store.redis.set(key, data, px=ttl_ms, nx=True)
