-- Pause, resume or remove a schedule; or note the time zone in which one that names none is read.
--
-- KEYS  1: queue (for routing)
-- ARGV  1: time in ms or ''   2: name   3: 'pause' | 'resume' | 'remove' | 'zone'   4: the zone
-- RETURNS  1 done | 0 it was so before | -1 there is no such schedule
--
-- Ticks during a pause are not made up for.

-- @include _clock
-- @include _schedule

local now = clock(ARGV[1])
local name, what = ARGV[2], ARGV[3]
local key = SCHEDULE .. name
local home, removed, paused, mark = unpack(call('HMGET', key, 'home', 'removed', 'paused', 'mark'))
if not home or removed then
  return -1
end
if what == 'pause' then
  if paused then
    return 0
  end
  call('HSET', key, 'paused', '1')
  call('ZADD', SCHEDULES .. home, NEVER_DUE_MS, name)
elseif what == 'resume' then
  if not paused then
    return 0
  end
  call('HDEL', key, 'paused', 'fired_from')
  call('HSET', key, 'mark', math.max(tonumber(mark), now))
  call('ZADD', SCHEDULES .. home, 0, name)
elseif what == 'zone' then
  local known = call('HGET', key, 'zone')
  if known == ARGV[4] then
    return 0
  end
  call('HSET', key, 'zone', ARGV[4])
  if not known or paused then
    return 1
  end
  call('ZADD', SCHEDULES .. home, 0, name)  -- it is due at other times
else
  call('HSET', key, 'removed', '1', 'changed', now)
  call('HDEL', key, 'paused', 'problem')
  call('DEL', RUNS .. name)
  leave_home(home, name)
  call('ZADD', SEEN, now, name)
end
count_change()
return 1
