-- Pause, resume or remove a schedule; or note the time zone in which one that names none is read.
--
-- ARGV  1: time in ms or ''
--       2: name
--       3: 'pause' | 'resume' | 'remove' | 'zone'
--       4: the zone
-- RETURNS  1 done | 0 it was so before | -1 there is no such schedule
--
-- Ticks during a pause are not made up for.
-- USES  Schedule

return function(c, argv)
  local name, what = argv[2], argv[3]
  local key = c.k.SCHEDULE .. name
  local home, removed, paused, mark = unpack(call('HMGET', key, 'home', 'removed', 'paused', 'mark'))
  if not home or removed then
    return -1
  end
  if what == 'pause' then
    if paused then
      return 0
    end
    call('HSET', key, 'paused', '1')
    call('ZADD', c.k.SCHEDULES .. home, NEVER_DUE_MS, name)
  elseif what == 'resume' then
    if not paused then
      return 0
    end
    call('HDEL', key, 'paused', 'fired_from')
    call('HSET', key, 'mark', math.max(tonumber(mark), c.now))
    call('ZADD', c.k.SCHEDULES .. home, 0, name)
  elseif what == 'zone' then
    local known = call('HGET', key, 'zone')
    if known == argv[4] then
      return 0
    end
    call('HSET', key, 'zone', argv[4])
    if not known or paused then
      return 1
    end
    call('ZADD', c.k.SCHEDULES .. home, 0, name)  -- it is due at other times
  else
    call('HSET', key, 'removed', '1', 'changed', c.now)
    call('HDEL', key, 'paused', 'problem')
    call('DEL', c.k.RUNS .. name)
    Schedule.leave_home(c, home, name)
    call('ZADD', c.k.SEEN, c.now, name)
  end
  Schedule.count_change(c)
  return 1
end
