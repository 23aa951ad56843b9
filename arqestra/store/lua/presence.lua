-- A worker tells of itself, or withdraws.
--
-- KEYS  1: the registry: worker -> when it was last heard of (ms)
-- ARGV  1: time in ms or ''   2: worker   3: what it tells, or '' to withdraw; then the queues that it serves
-- RETURNS  how many listen to events

-- @include _clock

local KEPT_MS = 600000  -- a worker that was killed is seen so long
local QUEUE_KEPT_MS = 2592000000  -- 30 days

local now = clock(ARGV[1])
if ARGV[3] == '' then
  call('ZREM', KEYS[1], ARGV[2])
  call('DEL', PRESENCE .. ARGV[2])
else
  call('ZADD', KEYS[1], now, ARGV[2])
  call('SET', PRESENCE .. ARGV[2], ARGV[3], 'PX', KEPT_MS)
  call('PEXPIRE', KEYS[1], KEPT_MS)
  for i = 4, #ARGV do
    call('ZADD', QUEUES, now, ARGV[i])
  end
  call('PEXPIRE', QUEUES, QUEUE_KEPT_MS)
end
call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - KEPT_MS)
return call('PUBSUB', 'NUMSUB', EVENT_CHANNEL)[2]
