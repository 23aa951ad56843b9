-- Add one writer's counts to the statistics of a minute, of its hour, and to the totals.
--
-- ARGV  1: time in ms or ''
--       2: statistics of the minute
--       3: their ttl in s
--       4: statistics of the hour
--       5: their ttl in s
--       6: the totals
--       7: their ttl in s
--       8: writer
--       9: number of this call, so that one that is sent again adds nothing
--       10: how many queues follow, then their names
--       then triples: field, number, '+' add it or '>' keep the greater one
-- RETURNS  1, or 0 if the call was made before
--
-- Names of queues and functions may be anything: a hash has so many fields, and what would be a further one is left
-- out.

local QUEUE_KEPT_MS = 2592000000  -- 30 days
local MAX_FIELDS = 50000

-- Add the triples in argv, from `first` on, to a hash.
local function add_to(key, ttl, argv, first, with_maxima)
  local is_full = call('HLEN', key) >= MAX_FIELDS
  for i = first, #argv, 3 do
    local field, number = argv[i], tonumber(argv[i + 1])
    if not is_full or call('HEXISTS', key, field) == 1 then
      if argv[i + 2] == '+' then
        call('HINCRBY', key, field, number)
      elseif with_maxima and number > tonumber(call('HGET', key, field) or -1) then
        call('HSET', key, field, number)
      end
    end
  end
  call('EXPIRE', key, ttl)
end

return function(c, argv)
  if call('GET', c.k.RECORDED .. argv[8]) == argv[9] then
    return 0
  end
  call('SET', c.k.RECORDED .. argv[8], argv[9], 'EX', WRITER_TTL_S)

  local queues = tonumber(argv[10])
  for i = 11, 10 + queues do
    call('ZADD', c.k.QUEUES, c.now, argv[i])
  end
  if queues > 0 then
    call('ZREMRANGEBYSCORE', c.k.QUEUES, '-inf', c.now - QUEUE_KEPT_MS)
    call('PEXPIRE', c.k.QUEUES, QUEUE_KEPT_MS)
  end

  local first = 11 + queues
  add_to(argv[2], argv[3], argv, first, true)
  add_to(argv[4], argv[5], argv, first, true)
  add_to(argv[6], argv[7], argv, first, false)
  return 1
end
