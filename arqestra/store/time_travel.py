"""Moving the time in a Redis of tests: what is kept for a while is kept that much shorter.

Scripts are told the time (`protocol/clock.py`). The expiry of keys is Redis' own business, so it is moved here. A lease
says that a worker lives, and time travel kills none: leases end that much later instead.
"""

import redis

__all__ = ("move_time",)

# ARGV  1: ms
_MOVE = r"""
local by = tonumber(ARGV[1])
local leases, sets, seen, cursor = {}, {}, {}, '0'
local function move(key)
  local _, last = string.find(key, 'arq:in-progress:', 1, true)
  local ttl = redis.call('PTTL', key)
  if last then
    leases[string.sub(key, last + 1)] = key
  elseif ttl > by then
    redis.call('PEXPIRE', key, ttl - by)
  elseif ttl > 0 then
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
return true
"""


def move_time(client: redis.Redis, by_ms: int) -> None:
    """Let so much time pass for all that this Redis keeps for a while.

    :param by_ms: at least 1
    """
    client.eval(_MOVE, 0, str(by_ms))
