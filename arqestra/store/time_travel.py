"""Moving the time in a Redis of tests: what arqestra keeps there for a while is kept that much shorter.

Scripts are told the time (`protocol/clock.py`). The expiry of keys is Redis' own business, so it is moved here. A lease
says that a worker lives, and time travel kills none: leases end that much later instead.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import redis

from ..protocol.constants import THROTTLED_SCORE
from ..protocol.keys import Keys
from .store import Store

__all__ = ("ExpiredResult", "move_time", "restore_results", "waits_only_for_news")

_KEYS = Keys()
_NAMESPACES = (_KEYS.ours, _KEYS.job_prefix, _KEYS.lease_prefix, _KEYS.attempts_prefix, _KEYS.result_prefix)
# What tells that a worker lives. It does not expire by a time that only tests have moved.
_OF_WORKERS = (
    *(_KEYS.waiting(""), _KEYS.resting(""), _KEYS.offer(""), _KEYS.holders("")),
    *(_KEYS.presence(""), _KEYS.recorded("")),
)
_OF_FLOWS = f"{_KEYS.ours}flow"

# ARGV  1: ms
#       2: the key prefix of the application, with its ":"; '*' for any
#       3: what the names of lease records begin with
#       4: the same of results
#       5: the registry of workers
#       6: number of namespaces, and what the names of each begin with
#       then: what the names begin with that stay
_MOVE = r"""
local by, prefix, lease_prefix, result_prefix, registry = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local first_to_stay = 7 + ARGV[6]
local leases, sets, workers, seen, expired, cursor = {}, {}, {}, {}, {}, '0'

-- What follows this beginning; nil if the name has another.
local function rest_of(name, beginning)
  return string.sub(name, 1, #beginning) == beginning and string.sub(name, #beginning + 1) or nil
end

local function begins_with_one_of(name, first, last)
  for i = first, last do
    if rest_of(name, ARGV[i]) then
      return true
    end
  end
  return false
end

-- The name of a key of arq or arqestra, without the prefix; nil of somebody else's.
local function bare_name(key)
  local name = key
  if prefix ~= '*' then
    name = rest_of(key, prefix)
  elseif not begins_with_one_of(key, 7, first_to_stay - 1) then
    name = string.match(key, '^[%w_.-]+:(.*)$')
  end
  return name and begins_with_one_of(name, 7, first_to_stay - 1) and name or nil
end

local function move(key)
  local name = bare_name(key)
  if not name then
    sets[#sets + 1] = key  -- queues have any names
    return
  end
  local ttl = redis.call('PTTL', key)
  if rest_of(name, lease_prefix) then
    leases[rest_of(name, lease_prefix)] = key
  elseif name == registry then
    workers[#workers + 1] = key
  elseif begins_with_one_of(name, first_to_stay, #ARGV) then
    return
  elseif ttl > by then
    redis.call('PEXPIRE', key, ttl - by)
  elseif ttl > 0 then
    local job_id = rest_of(name, result_prefix)
    if job_id then
      expired[#expired + 1] = { key, job_id, redis.call('GET', key), ttl }
    end
    redis.call('DEL', key)
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
for _, key in ipairs(workers) do
  local seen_at = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #seen_at, 2 do
    redis.call('ZINCRBY', key, by, seen_at[i])
  end
end
local queues = {}
for _, key in ipairs(next(leases) and sets or {}) do
  if redis.call('TYPE', key).ok == 'zset' then
    queues[#queues + 1] = key
  end
end
for id, key in pairs(leases) do
  local token, lease_end, rest = string.match(redis.call('GET', key) or '', '^([^|]+)|(%d+)(|%-?%d+|%d+)$')
  if token and token ~= '-' then
    local later = string.format('%.0f', lease_end + by)
    redis.call('SET', key, token .. '|' .. later .. rest, 'KEEPTTL')
    for _, queue in ipairs(queues) do
      if redis.call('ZSCORE', queue, id) == lease_end then
        redis.call('ZADD', queue, 'XX', later, id)
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


def move_time(
    client: redis.Redis, by_ms: int, *, keep_flows: bool = False, keys: Keys | None = None
) -> list[ExpiredResult]:
    """Let so much time pass for all that arqestra keeps for a while in this Redis. Keys of others are left alone, and
    so is what tells that workers live.

    :param by_ms: at least 1
    :param keep_flows: flows that have ended stay
    :param keys: the namespace of the application; None for all that are there
    :returns: results that have expired by that
    """
    prefix = "*" if keys is None else keys.prefix
    stay = (*_OF_WORKERS, *([_OF_FLOWS] if keep_flows else []))
    names = (_KEYS.lease_prefix, _KEYS.result_prefix, _KEYS.workers, str(len(_NAMESPACES)), *_NAMESPACES)
    expired = cast(list[Any], client.eval(_MOVE, 0, str(by_ms), prefix, *names, *stay))
    return [ExpiredResult(key.decode(), job_id.decode(), data, ttl_ms) for key, job_id, data, ttl_ms in expired]


async def waits_only_for_news(store: Store, queues: Iterable[str]) -> bool:
    """Whether nothing in these queues becomes due by itself: there are only workflows that wait for an event, and jobs
    that wait for another to end.
    """
    for queue in queues:
        tried = await store.redis.zrange(store.keys.retry_at(queue), 0, 0, withscores=True)
        if any(at_ms < THROTTLED_SCORE for _, at_ms in tried):
            return False
        if await store.redis.zcount(store.keys.queue(queue), "-inf", f"({THROTTLED_SCORE}"):
            return False
    return True


async def restore_results(store: Store, results: Iterable[ExpiredResult]) -> None:
    """Keep results once more that have expired while the time was moved. A job that is there again has none."""
    for key, job_id, data, ttl_ms in results:
        if not await store.redis.exists(store.keys.job(job_id), store.keys.lease(job_id)):
            await store.redis.set(key, data, px=ttl_ms, nx=True)
