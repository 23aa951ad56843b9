-- Pause, resume or remove a schedule.
--
-- KEYS  1: home
-- ARGV  1: time in ms or ''   2: name   3: 'pause' | 'resume' | 'remove'
-- RETURNS  1 done | 0 it was so before | -1 there is no such schedule
--
-- Ticks during a pause are not made up for.

-- @include _clock
-- @include _schedule

local home, now = KEYS[1], clock(ARGV[1])
local name, what = ARGV[2], ARGV[3]
local key = SCHEDULE .. schedule_key(home, name)
local known, removed, paused, mark = unpack(call('HMGET', key, 'digest', 'removed', 'paused', 'mark'))
if not known or removed then
  return -1
end
if what == 'pause' then
  if paused then
    return 0
  end
  call('HSET', key, 'paused', '1')
  call('ZADD', SCHEDULES .. home, PARKED, name)
elseif what == 'resume' then
  if not paused then
    return 0
  end
  call('HDEL', key, 'paused')
  call('HSET', key, 'mark', math.max(tonumber(mark), now))
  call('ZADD', SCHEDULES .. home, 0, name)
else
  call('HSET', key, 'removed', '1', 'changed', now)
  call('HDEL', key, 'paused', 'problem')
  call('DEL', RUNS .. schedule_key(home, name))
  call('ZREM', SCHEDULES .. home, name)
  call('ZADD', SEEN .. home, now, name)
end
return 1
