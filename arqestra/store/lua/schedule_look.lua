-- The schedules of a queue that are due, or soon will be.
--
-- KEYS  1: home
-- ARGV  1: time in ms or ''   2: ms from now by which they are due   3: how many at most   4: how many to pass over
-- RETURNS  { time in ms, ms until the next one after them or -1, '1' if the clock was put back by more than CLOCK_TOLERANCE_MS,
--          then for each: name, due, revision, mark }
--
-- A schedule in code that no process defines any more is parked.

-- @include _clock
-- @include _schedule

local home, now = name_of(KEYS[1]), clock(ARGV[1])
local latest = tonumber(call('GET', CLOCK .. home) or 0)
local went_back = latest > now + CLOCK_TOLERANCE_MS
local reply = { now, -1, went_back and '1' or '0' }
local due = call('ZRANGEBYSCORE', SCHEDULES .. home, '-inf', now + ARGV[2], 'WITHSCORES', 'LIMIT', ARGV[4], ARGV[3])
for i = 1, #due, 2 do
  local name = due[i]
  local rev, mark, source, of, removed = unpack(call('HMGET', SCHEDULE .. name, 'rev', 'mark', 'source', 'home', 'removed'))
  if of ~= home or removed then
    leave_home(home, name)
  elseif source == 'code' and tonumber(call('ZSCORE', SEEN, name) or 0) < now - STALE_MS then
    call('ZADD', SCHEDULES .. home, NEVER_DUE_MS, name)
    count_change()
  else
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = name, due[i + 1], rev, mark
  end
end
local after = call('ZRANGEBYSCORE', SCHEDULES .. home, '(' .. now + ARGV[2], '(' .. NEVER_DUE_MS, 'WITHSCORES', 'LIMIT', 0, 1)
if after[2] then
  reply[2] = tonumber(after[2]) - now
end
if not went_back and call('EXISTS', SCHEDULES .. home) == 1 and (now > latest + CLOCK_TOLERANCE_MS or now < latest) then
  call('SET', CLOCK .. home, string.format('%.0f', now), 'PX', 30 * 86400000)
end
return reply
