-- Add one writer's counts to the statistics of a minute, of its hour, and to the totals.
--
-- KEYS  1: statistics of the minute
-- ARGV  1: time in ms or ''   2: their ttl in s   3: statistics of the hour   4: their ttl in s
--       5: the totals   6: their ttl in s   7: writer   8: number of this call, so that one that is sent again adds
--       nothing   9: how many queues follow, then their names
--       then triples: field, number, '+' add it or '>' keep the greater one
-- RETURNS  1, or 0 if the call was made before
--
-- Names of queues and functions may be anything: a hash has so many fields, and what would be a further one is left out.

-- @include _clock

local QUEUE_KEPT_MS = 2592000000  -- 30 days
local MAX_FIELDS = 50000

if call('GET', RECORDED .. ARGV[7]) == ARGV[8] then
  return 0
end
call('SET', RECORDED .. ARGV[7], ARGV[8], 'EX', WRITER_TTL_S)

local now, queues = clock(ARGV[1]), tonumber(ARGV[9])
for i = 10, 9 + queues do
  call('ZADD', QUEUES, now, ARGV[i])
end
if queues > 0 then
  call('ZREMRANGEBYSCORE', QUEUES, '-inf', now - QUEUE_KEPT_MS)
  call('PEXPIRE', QUEUES, QUEUE_KEPT_MS)
end

local function add_to(key, ttl, with_maxima)
  local is_full = call('HLEN', key) >= MAX_FIELDS
  for i = 10 + queues, #ARGV, 3 do
    local field, number = ARGV[i], tonumber(ARGV[i + 1])
    if is_full and call('HEXISTS', key, field) == 0 then
      number = 0  -- left out
    elseif ARGV[i + 2] == '+' then
      call('HINCRBY', key, field, number)
    elseif with_maxima and number > tonumber(call('HGET', key, field) or -1) then
      call('HSET', key, field, number)
    end
  end
  call('EXPIRE', key, ttl)
end

add_to(KEYS[1], ARGV[2], true)
add_to(ARGV[3], ARGV[4], true)
add_to(ARGV[5], ARGV[6], false)
return 1
