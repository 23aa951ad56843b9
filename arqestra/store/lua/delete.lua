-- Remove every trace of a job that no worker holds.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: job id
-- RETURNS  'running' nothing was done | 'deleted' | 'missing'

-- @include _clock

local queue, id = KEYS[1], ARGV[2]
local now = clock(ARGV[1])
local lease = redis.call('GET', LEASE .. id)
if lease then
  local lease_end = tonumber(string.match(lease, '|(%d+)|%d+|%d+$') or now + 1)
  if lease_end > now and redis.call('ZSCORE', queue, id) then
    return 'running'
  end
end
local parents = redis.call('SMEMBERS', PARENTS .. id)
for _, parent in ipairs(parents) do
  redis.call('HDEL', CHILDREN .. parent, id)
end
local removed = redis.call('DEL', JOB .. id, RESULT .. id, ATTEMPTS .. id, LEASE .. id, PARENTS .. id)
removed = removed + redis.call('ZREM', queue, id) + redis.call('ZREM', DEAD .. queue, id)
redis.call('HDEL', DEAD_PAYLOADS .. queue, id)
redis.call('ZREM', ABORTS, id)
redis.call('PUBLISH', DONE .. id, '')
return removed > 0 and 'deleted' or 'missing'
