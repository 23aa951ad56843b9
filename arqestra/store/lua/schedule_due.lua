-- The schedules of a queue that are due, or soon will be.
--
-- ARGV  1: time in ms or ''
--       2: home
--       3: ms from now by which they are due
--       4: how many at most
--       5: how many to pass over
-- RETURNS  { time in ms, ms until the next one after them or -1, '1' if the clock was put back by more than
--          CLOCK_TOLERANCE_MS, then for each: name, due, revision, mark }
--
-- A schedule in code that no process defines any more is parked.
-- USES  Schedule

return function(c, argv)
  local home = argv[2]
  local latest = tonumber(call('GET', c.k.CLOCK .. home) or 0)
  local went_back = latest > c.now + CLOCK_TOLERANCE_MS
  local reply = { c.now, -1, went_back and '1' or '0' }
  local schedules, until_ms = c.k.SCHEDULES .. home, c.now + argv[3]
  local due = call('ZRANGEBYSCORE', schedules, '-inf', until_ms, 'WITHSCORES', 'LIMIT', argv[5], argv[4])
  for i = 1, #due, 2 do
    local name = due[i]
    local rev, mark, source, of, removed =
      unpack(call('HMGET', c.k.SCHEDULE .. name, 'rev', 'mark', 'source', 'home', 'removed'))
    if of ~= home or removed then
      Schedule.leave_home(c, home, name)
    elseif source == 'code' and tonumber(call('ZSCORE', c.k.SEEN, name) or 0) < c.now - Schedule.STALE_MS then
      call('ZADD', schedules, NEVER_DUE_MS, name)
      Schedule.count_change(c)
    else
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = name, due[i + 1], rev, mark
    end
  end
  local after =
    call('ZRANGEBYSCORE', schedules, '(' .. until_ms, '(' .. NEVER_DUE_MS, 'WITHSCORES', 'LIMIT', 0, 1)
  if after[2] then
    reply[2] = tonumber(after[2]) - c.now
  end
  local is_news = c.now > latest + CLOCK_TOLERANCE_MS or c.now < latest
  if not went_back and call('EXISTS', schedules) == 1 and is_news then
    call('SET', c.k.CLOCK .. home, string.format('%.0f', c.now), 'PX', 30 * 86400000)
  end
  return reply
end
