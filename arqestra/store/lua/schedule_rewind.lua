-- The clock was wrong, and was put back: what was noted of a time to come is drawn back to the present. Ticks that were
-- fired too early are not fired again at their time; those that were dropped are due again.
--
-- KEYS  1: home
-- ARGV  1: time in ms or ''   then names of its schedules; none: all have been drawn back
-- RETURNS  1

-- @include _clock
-- @include _schedule

local home, now = name_of(KEYS[1]), clock(ARGV[1])
for i = 2, #ARGV do
  local name = ARGV[i]
  for _, field in ipairs({ 'mark', 'gen', 'changed' }) do
    if tonumber(call('HGET', SCHEDULE .. name, field) or 0) > now then
      call('HSET', SCHEDULE .. name, field, now)
    end
  end
  if call('HGET', SCHEDULE .. name, 'source') == 'api' then
    call('ZREM', SEEN, name)  -- it may have been over at that time
  elseif tonumber(call('ZSCORE', SEEN, name) or 0) > now then
    call('ZADD', SEEN, 'XX', now, name)
  end
  if call('HEXISTS', SCHEDULE .. name, 'paused') == 0 then
    call('ZADD', SCHEDULES .. home, 'XX', 0, name)
  end
end
if #ARGV == 1 then
  call('DEL', CLOCK .. home)
  count_change()
end
return 1
