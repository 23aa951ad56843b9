-- Ask for the abort of a job. The request is kept (arq's abort set) until a worker records it or the job ends, and it is
-- aimed at this incarnation of the id: enqueuing the id anew drops it. A job of a graph that waits for others is in no
-- queue, where a worker would find it: its node ends here.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: job id
-- RETURNS  'running' the worker that holds it was told | 'queued' a worker was woken | 'aborted' it waited for others, and
--          will never run | 'ended' | 'missing'

-- @include _clock
-- @include _score
-- @include _lease
-- @include _wake
-- @include _specs
-- @module Limits _limits
-- @module Flow _flow

local queue, id = name_of(KEYS[1]), ARGV[2]
local now = clock(ARGV[1])
local lease = call('GET', LEASE .. id)

-- Workers do not wait for a paused queue, they rest. One of them can record the abort all the same.
local function wake_resting()
  for _, worker in ipairs(call('ZRANGE', RESTING .. queue, 0, 99)) do
    if call('PUBLISH', WORKER .. worker, 'wake') > 0 then
      return
    end
  end
end

if not call('ZSCORE', QUEUE .. queue, id) then
  local due_queues = {}
  if not lease and Flow.abort_unreleased(id, now, due_queues) then
    Flow.run_continuations(Flow.INLINE, false, now, due_queues)
    for due_queue in pairs(due_queues) do
      wake(due_queue, now)
    end
    return 'aborted'
  end
  return call('EXISTS', RESULT .. id) == 1 and 'ended' or 'missing'
end
call('ZADD', ABORTS, now, id)
if not has_holder(lease) then
  wake(queue, now)
  if call('SISMEMBER', PAUSED, queue) == 1 then
    wake_resting()
  end
  return 'queued'
end
local worker = worker_of(lease)
if worker then
  call('PUBLISH', WORKER .. worker, 'abort ' .. id)
end
return 'running'
