-- Ask for the abort of a job. The request is kept (arq's abort set) until a worker records it or the job ends, and it is
-- aimed at this incarnation of the id: enqueuing the id anew drops it. A job of a graph that waits for others is in no
-- queue, where a worker would find it: its node ends here.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: job id
-- RETURNS  'running' the worker that holds it was told | 'queued' a worker was woken | 'aborted' it waited for others, and
--          will never run | 'ended' | 'missing'
-- USES  Lease, Wake, Flow

return function(c, argv)
  local queue, id = argv[2], argv[3]
  local lease = call('GET', c.k.LEASE .. id)

  -- Workers do not wait for a paused queue, they rest. One of them can record the abort all the same.
  local function wake_resting()
    for _, worker in ipairs(call('ZRANGE', c.k.RESTING .. queue, 0, 99)) do
      if call('PUBLISH', c.k.WORKER .. worker, 'wake') > 0 then
        return
      end
    end
  end

  if not call('ZSCORE', c.k.QUEUE .. queue, id) then
    if not lease and Flow.abort_unreleased(c, id) then
      Flow.run_continuations(c, Flow.INLINE, false)
      Wake.wake_all(c)
      return 'aborted'
    end
    return call('EXISTS', c.k.RESULT .. id) == 1 and 'ended' or 'missing'
  end
  call('ZADD', c.k.ABORTS, c.now, id)
  if not Lease.has_holder(lease) then
    Wake.wake(c, queue)
    if call('SISMEMBER', c.k.PAUSED, queue) == 1 then
      wake_resting()
    end
    return 'queued'
  end
  local worker = Lease.worker_of(lease)
  if worker then
    call('PUBLISH', c.k.WORKER .. worker, 'abort ' .. id)
  end
  return 'running'
end
