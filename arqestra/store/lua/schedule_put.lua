-- Define a schedule, or define it anew.
--
-- ARGV  1: time in ms or ''
--       2: home
--       3: name
--       4: 'code' | 'api'
--       5: of code: when its process started
--       6: digest
--       7: timing
--       8: the mark of a schedule that is new or due at other times; '' for the present
--       9: serializer
--       10: spec
--       11: payload
--       12: extra
-- RETURNS  { 'new' | 'changed' | 'same' | 'stay' | 'others', source of the definition before or '' }
--
-- A definition that is the same as before changes nothing, so the call can be sent twice.
-- USES  Schedule

return function(c, argv)
  local home = argv[2]
  local name, source, digest, timing = argv[3], argv[4], argv[6], argv[7]
  local key = c.k.SCHEDULE .. name
  local gen = source == 'code' and tonumber(argv[5]) or 0
  local known, source_before, timing_before, mark, removed, paused, home_before, fired =
    unpack(call('HMGET', key, 'digest', 'source', 'timing', 'mark', 'removed', 'paused', 'home', 'fired'))
  if source == 'code' then
    local verdict = Schedule.standing(c, name, digest, gen)
    if verdict ~= 'take' then
      return { verdict, source_before or '' }
    end
  elseif known == digest and not removed and source_before == 'api' then
    return { 'same', source_before }
  end
  if not known or removed or timing_before ~= timing then
    if argv[8] ~= '' then
      mark = math.max(tonumber(argv[8]), tonumber(fired or 0))
    else
      mark = math.max(tonumber(mark or 0), c.now)
    end
    call('HDEL', key, 'fired_from')
  end
  call('HSET', key, 'digest', digest, 'timing', timing, 'serializer', argv[9], 'spec', argv[10], 'payload', argv[11],
    'extra', argv[12], 'source', source, 'gen', gen, 'changed', c.now, 'mark', mark, 'home', home)
  call('HINCRBY', key, 'rev', 1)
  call('HDEL', key, 'removed', 'problem', 'zone')
  if source == 'code' then
    call('ZADD', c.k.SEEN, c.now, name)
  else
    call('ZREM', c.k.SEEN, name)
  end
  if home_before and home_before ~= home then
    Schedule.leave_home(c, home_before, name)
  end
  call('SADD', c.k.SCHEDULE_QUEUES, home)
  call('ZADD', c.k.SCHEDULES .. home, paused and NEVER_DUE_MS or 0, name)
  Schedule.count_change(c)
  return { known and not removed and 'changed' or 'new', known and not removed and source_before or '' }
end
