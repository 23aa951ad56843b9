-- Waking a worker, with a job in the message if it can be: the module `Delivery`. Needs two locals: `now` and `now_text`.
--
-- A worker that holds no job makes an offer with each claim that finds none, and when its last job has ended (offer.lua):
-- OFFER = 'number|lease ms|margin ms', for some polls. The enqueue that wakes it leases its first job to it, under the
-- token of that number, and sends the job along: a round trip less until it starts. OFFER is then
-- 'number length-of-queue queue id'. If the worker did not get the message, or not in time, its next claim (or its leaving)
-- finds that and puts the job back first (_offer). Only a worker without jobs makes offers, because a worker
-- that is stuck in a job would not start the one that it is sent. A worker that died since its offer delays a single job,
-- until the lease runs out.

-- @include _wake

local MAX_BYTES = 65536  -- larger jobs are fetched: messages wait in the server's memory

-- Whether the job may go ahead: nothing else waits for its turn.
local function is_next(queue, id)
  return call('ZRANGEBYSCORE', QUEUE .. queue, '-inf', now_text, 'LIMIT', 0, 1)[1] == id
    and call('EXISTS', RETRY_AT .. queue, PROMOTE .. queue) == 0
    and call('SISMEMBER', PAUSED, queue) == 0
end

-- Lease a job to a worker that made an offer and listens; else false.
local function deliver(queue, worker, id, payload)
  local number, lease_ms, margin_ms = string.match(call('GET', OFFER .. worker) or '', '^(%d+)|(%d+)|(%d+)$')
  if not number or call('PUBSUB', 'NUMSUB', WORKER .. worker)[2] == 0 then
    return false
  end
  local lease_end = string.format('%.0f', now + lease_ms)
  local lease = worker .. '.' .. number .. '|' .. lease_end .. '|' .. now_text .. '|0'
  call('PSETEX', LEASE .. id, string.format('%.0f', lease_ms + margin_ms), lease)
  call('SET', ATTEMPTS .. id, '1')
  call('ZADD', QUEUE .. queue, lease_end, id)
  call('PSETEX', OFFER .. worker, lease_ms, number .. ' ' .. #queue .. ' ' .. queue .. id)
  local head = 'job ' .. number .. ' ' .. now_text .. ' ' .. #queue .. ' ' .. #id .. ' '
  call('PUBLISH', WORKER .. worker, head .. queue .. id .. payload)
  return true
end

-- Wake one worker for a queue; the first job that was added to it goes along if it can.
local function wake_with(queue, id, payload)
  local goes = #payload <= MAX_BYTES and is_next(queue, id)
  for _ = 1, 100 do
    local worker = call('ZPOPMIN', WAITING .. queue)[1]
    if not worker then
      return
    end
    if goes and deliver(queue, worker, id, payload) or call('PUBLISH', WORKER .. worker, 'wake') > 0 then
      return tell_timer_owner(queue, now)
    end
  end
end

return { wake = wake, wake_with = wake_with }
