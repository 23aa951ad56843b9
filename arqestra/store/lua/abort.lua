-- Ask for the abort of a job. The request is kept (arq's abort set) until a worker records it or the job ends, and it
-- is aimed at this incarnation of the id: enqueuing the id anew drops it. A job of a graph that waits for others is in
-- no queue, where a worker would find it: its node ends here.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: job id
-- RETURNS  'running' the worker that holds it was told | 'queued' a worker was woken | 'aborted' it waited for others,
--          and will never run | 'ended' | 'missing'
-- EVENTS   tells the worker that holds it, or wakes one; publishes the end of a job that waited for others
-- REPEAT   the request is there already, and a node that has ended so is 'aborted' once more.
-- USES  Lease, Wake, Flow

local MOST_RESTING = 100     -- workers that are tried

-- Workers do not wait for a paused queue, they rest. One of them can record the abort all the same.
local function wake_resting(c, queue)
  for _, worker in ipairs(call('ZRANGE', c.k.RESTING .. queue, 0, MOST_RESTING - 1)) do
    if call('PUBLISH', c.k.WORKER .. worker, 'wake') > 0 then
      return
    end
  end
end

-- The job is in no queue.
local function abort_outside(c, id, lease)
  if not lease and Flow.abort_unreleased(c, id) then
    Flow.run_continuations(c, Flow.INLINE, false)
    Wake.wake_all(c)
    return 'aborted'
  end
  return call('EXISTS', c.k.RESULT .. id) == 1 and 'ended' or 'missing'
end

return function(c, argv)
  local k, queue, id = c.k, argv[2], argv[3]
  local lease = call('GET', k.LEASE .. id)
  if not call('ZSCORE', k.QUEUE .. queue, id) then
    return abort_outside(c, id, lease)
  end
  call('ZADD', k.ABORTS, c.now, id)
  if not Lease.has_holder(lease) then
    Wake.wake(c, queue)
    if call('SISMEMBER', k.PAUSED, queue) == 1 then
      wake_resting(c, queue)
    end
    return 'queued'
  end
  local worker = Lease.worker_of(lease)
  if worker then
    call('PUBLISH', k.WORKER .. worker, 'abort ' .. id)
  end
  return 'running'
end
