-- A worker tells of itself, or withdraws.
--
-- ARGV  1: time in ms or ''
--       2: the registry: worker -> when it was last heard of (ms)
--       3: worker
--       4: what it tells, or '' to withdraw; then the queues that it serves
-- RETURNS  how many listen to events

local KEPT_MS = 600000  -- a worker that was killed is seen so long
local QUEUE_KEPT_MS = 2592000000  -- 30 days

return function(c, argv)
  if argv[4] == '' then
    call('ZREM', argv[2], argv[3])
    call('DEL', c.k.PRESENCE .. argv[3])
  else
    call('ZADD', argv[2], c.now, argv[3])
    call('SET', c.k.PRESENCE .. argv[3], argv[4], 'PX', KEPT_MS)
    call('PEXPIRE', argv[2], KEPT_MS)
    for i = 5, #argv do
      call('ZADD', c.k.QUEUES, c.now, argv[i])
    end
    call('PEXPIRE', c.k.QUEUES, QUEUE_KEPT_MS)
  end
  call('ZREMRANGEBYSCORE', argv[2], '-inf', c.now - KEPT_MS)
  return call('PUBSUB', 'NUMSUB', c.k.EVENT_CHANNEL)[2]
end
