-- Add ended attempts to the capped lists of a queue: one for each state and function.
--
-- ARGV  1: time in ms or ''
--       2: key of the index of the queue's lists: `state|function` -> when its latest attempt ended (ms)
--       3: ttl in ms
--       4: queue
--       then for each list: its name `state|function`, its cap, how many attempts follow; for each of them: when it
--       ended (ms), entry
-- RETURNS  1
-- REPEAT   an entry is in a list once.

local MAX_LISTS = 500  -- functions that nobody has may be enqueued by any name

return function(c, argv)
  local index, ttl_ms, prefix = argv[2], argv[3], c.k.RECENT .. argv[4] .. '|'
  local at = 5
  while at <= #argv do
    local name, cap, count = argv[at], tonumber(argv[at + 1]), tonumber(argv[at + 2])
    local first = at + 3
    at = first + 2 * count
    local list, latest = prefix .. name, 0
    for i = first, at - 1, 2 do
      latest = math.max(latest, tonumber(argv[i]))
    end
    call('ZADD', list, unpack(argv, first, at - 1))
    call('ZREMRANGEBYRANK', list, 0, -cap - 1)
    call('PEXPIRE', list, ttl_ms)
    call('ZADD', index, 'GT', string.format('%.0f', latest), name)
  end
  for _, name in ipairs(call('ZRANGE', index, 0, -MAX_LISTS - 1)) do
    call('DEL', prefix .. name)
    call('ZREM', index, name)
  end
  call('PEXPIRE', index, ttl_ms)
  return 1
end
