-- Waking a worker, with a job in the message if it can be: the module `Delivery`.
--
-- A worker that holds no job makes an offer with each claim that finds none, and when its last job has ended (_offer):
-- OFFER = 'number|lease ms|margin ms', for some polls. The enqueue that wakes it leases its first job to it, under the
-- token of that number, and sends the job along: a round trip less until it starts. OFFER is then
-- 'number length-of-queue queue id'. If the worker did not get the message, or not in time, its next claim (or its
-- leaving) finds that and puts the job back first (_offer). Only a worker without jobs makes offers, because a worker
-- that is stuck in a job would not start the one that it is sent. A worker that died since its offer delays a single
-- job, until the lease runs out.
-- USES  Wake

local MAX_BYTES = 65536  -- larger jobs are fetched: messages wait in the server's memory

-- Whether the job may go ahead: nothing else waits for its turn.
local function is_next(c, queue, id)
  return call('ZRANGEBYSCORE', c.k.QUEUE .. queue, '-inf', c.now_text, 'LIMIT', 0, 1)[1] == id
    and call('EXISTS', c.k.RETRY_AT .. queue, c.k.PROMOTE .. queue) == 0
    and call('SISMEMBER', c.k.PAUSED, queue) == 0
end

-- Lease a job to a worker that made an offer and listens; else false.
local function deliver(c, queue, worker, id, payload)
  local number, lease_ms, margin_ms = string.match(call('GET', c.k.OFFER .. worker) or '', '^(%d+)|(%d+)|(%d+)$')
  if not number or call('PUBSUB', 'NUMSUB', c.k.WORKER .. worker)[2] == 0 then
    return false
  end
  local lease_end = string.format('%.0f', c.now + lease_ms)
  local lease = worker .. '.' .. number .. '|' .. lease_end .. '|' .. c.now_text .. '|0'
  call('PSETEX', c.k.LEASE .. id, string.format('%.0f', lease_ms + margin_ms), lease)
  call('SET', c.k.ATTEMPTS .. id, '1')
  call('ZADD', c.k.QUEUE .. queue, lease_end, id)
  call('PSETEX', c.k.OFFER .. worker, lease_ms, number .. ' ' .. #queue .. ' ' .. queue .. id)
  local head = 'job ' .. number .. ' ' .. c.now_text .. ' ' .. #queue .. ' ' .. #id .. ' '
  call('PUBLISH', c.k.WORKER .. worker, head .. queue .. id .. payload)
  return true
end

-- Wake one worker for a queue; the first job that was added to it goes along if it can.
local function wake_with(c, queue, id, payload)
  local goes = #payload <= MAX_BYTES and is_next(c, queue, id)
  for _ = 1, 100 do
    local worker = call('ZPOPMIN', c.k.WAITING .. queue)[1]
    if not worker then
      return
    end
    if goes and deliver(c, queue, worker, id, payload) or call('PUBLISH', c.k.WORKER .. worker, 'wake') > 0 then
      return Wake.tell_timer_owner(c, queue)
    end
  end
end

return { wake_with = wake_with }
