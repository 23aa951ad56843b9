-- Define a schedule, or define it anew.
--
-- KEYS  1: home
-- ARGV  1: time in ms or ''   2: name   3: 'code' | 'api'   4: of code: when its process started   5: digest   6: timing
--       7: the mark of a schedule that is new or due at other times; '' for the present
--       8: serializer   9: spec   10: payload   11: extra
-- RETURNS  { 'new' | 'changed' | 'same' | 'stay' | 'others', source of the definition before or '' }
--
-- A definition that is the same as before changes nothing, so the call can be sent twice.

-- @include _clock
-- @include _schedule

local home, now = name_of(KEYS[1]), clock(ARGV[1])
local name, source, digest, timing = ARGV[2], ARGV[3], ARGV[5], ARGV[6]
local key = SCHEDULE .. name
local gen = source == 'code' and tonumber(ARGV[4]) or 0
local known, source_before, timing_before, mark, removed, paused, home_before, fired =
  unpack(call('HMGET', key, 'digest', 'source', 'timing', 'mark', 'removed', 'paused', 'home', 'fired'))
if source == 'code' then
  local verdict = standing(name, digest, gen, now)
  if verdict ~= 'take' then
    return { verdict, source_before or '' }
  end
elseif known == digest and not removed and source_before == 'api' then
  return { 'same', source_before }
end
if not known or removed or timing_before ~= timing then
  if ARGV[7] ~= '' then
    mark = math.max(tonumber(ARGV[7]), tonumber(fired or 0))
  else
    mark = math.max(tonumber(mark or 0), now)
  end
  call('HDEL', key, 'fired_from')
end
call('HSET', key, 'digest', digest, 'timing', timing, 'serializer', ARGV[8], 'spec', ARGV[9], 'payload', ARGV[10],
  'extra', ARGV[11], 'source', source, 'gen', gen, 'changed', now, 'mark', mark, 'home', home)
call('HINCRBY', key, 'rev', 1)
call('HDEL', key, 'removed', 'problem', 'zone')
if source == 'code' then
  call('ZADD', SEEN, now, name)
else
  call('ZREM', SEEN, name)
end
if home_before and home_before ~= home then
  leave_home(home_before, name)
end
call('SADD', SCHEDULE_QUEUES, home)
call('ZADD', SCHEDULES .. home, paused and NEVER_DUE_MS or 0, name)
count_change()
return { known and not removed and 'changed' or 'new', known and not removed and source_before or '' }
