-- Add ended attempts to the capped lists of a queue: one for each state and function.
--
-- ARGV  1: time in ms or ''
--       2: the index of the lists of the queue: `state|function` -> when its latest attempt ended (ms)
--       3: ttl in ms
--       4: queue
--       then for each list: its name `state|function`, its cap, how many attempts follow; for each of them: when it
--       ended (ms), entry
-- RETURNS  1
-- REPEAT   an entry is in a list once.

local MAX_LISTS = 500  -- functions that nobody has may be enqueued by any name

return function(c, argv)
  local ttl_ms, i = argv[3], 5
  local prefix = c.k.RECENT .. argv[4] .. '|'
  while i <= #argv do
    local name, cap, count = argv[i], tonumber(argv[i + 1]), tonumber(argv[i + 2])
    i = i + 3
    local key, latest, pairs_of_list = prefix .. name, 0, {}
    for at = i, i + 2 * count - 1 do
      pairs_of_list[#pairs_of_list + 1] = argv[at]
    end
    for at = 1, #pairs_of_list, 2 do
      latest = math.max(latest, tonumber(pairs_of_list[at]))
    end
    i = i + 2 * count
    call('ZADD', key, unpack(pairs_of_list))
    call('ZREMRANGEBYRANK', key, 0, -cap - 1)
    call('PEXPIRE', key, ttl_ms)
    call('ZADD', argv[2], 'GT', string.format('%.0f', latest), name)
  end
  for _, name in ipairs(call('ZRANGE', argv[2], 0, -MAX_LISTS - 1)) do
    call('DEL', prefix .. name)
    call('ZREM', argv[2], name)
  end
  call('PEXPIRE', argv[2], ttl_ms)
  return 1
end
