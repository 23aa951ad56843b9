-- Add ended attempts to the capped lists of a queue: one for each state and function.
--
-- KEYS  1: the index of the lists of the queue: `state|function` -> when its latest attempt ended (ms)
-- ARGV  1: time in ms or ''   2: ttl in ms   3: queue
--       then for each list: its name `state|function`, its cap, how many attempts follow; for each of them: when it
--       ended (ms), entry
-- RETURNS  1
--
-- Repeating the call is harmless: an entry is in a list once.

local MAX_LISTS = 500  -- functions that nobody has may be enqueued by any name

local ttl_ms, i = ARGV[2], 4
local prefix = RECENT .. ARGV[3] .. '|'
while i <= #ARGV do
  local name, cap, count = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  i = i + 3
  local key, latest, pairs_of_list = prefix .. name, 0, {}
  for at = i, i + 2 * count - 1 do
    pairs_of_list[#pairs_of_list + 1] = ARGV[at]
  end
  for at = 1, #pairs_of_list, 2 do
    latest = math.max(latest, tonumber(pairs_of_list[at]))
  end
  i = i + 2 * count
  call('ZADD', key, unpack(pairs_of_list))
  call('ZREMRANGEBYRANK', key, 0, -cap - 1)
  call('PEXPIRE', key, ttl_ms)
  call('ZADD', KEYS[1], 'GT', string.format('%.0f', latest), name)
end
for _, name in ipairs(call('ZRANGE', KEYS[1], 0, -MAX_LISTS - 1)) do
  call('DEL', prefix .. name)
  call('ZREM', KEYS[1], name)
end
call('PEXPIRE', KEYS[1], ttl_ms)
return 1
