-- The clock was wrong, and was put back: what was noted of a time to come is drawn back to the present. Ticks that were
-- fired too early are not fired again at their time; those that were dropped are due again.
--
-- ARGV  1: time in ms or ''
--       2: home   then names of its schedules; none: all have been drawn back
-- RETURNS  1
-- USES  Schedule

return function(c, argv)
  local home = argv[2]
  for i = 3, #argv do
    local name = argv[i]
    for _, field in ipairs({ 'mark', 'gen', 'changed' }) do
      if tonumber(call('HGET', c.k.SCHEDULE .. name, field) or 0) > c.now then
        call('HSET', c.k.SCHEDULE .. name, field, c.now)
      end
    end
    if call('HGET', c.k.SCHEDULE .. name, 'source') == 'api' then
      call('ZREM', c.k.SEEN, name)  -- it may have been over at that time
    elseif tonumber(call('ZSCORE', c.k.SEEN, name) or 0) > c.now then
      call('ZADD', c.k.SEEN, 'XX', c.now, name)
    end
    if call('HEXISTS', c.k.SCHEDULE .. name, 'paused') == 0 then
      call('ZADD', c.k.SCHEDULES .. home, 'XX', 0, name)
    end
  end
  if #argv == 2 then
    call('DEL', c.k.CLOCK .. home)
    Schedule.count_change(c)
  end
  return 1
end
