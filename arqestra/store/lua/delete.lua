-- Remove every trace of a job that no worker holds.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: job id   3: '1' if this call may have been made before and its reply was lost
--       4: '1' if it is to be deleted only if it has ended
-- RETURNS  'running' nothing was done | 'again' nothing was done, it has not ended | 'elsewhere' nothing was done, it is
--          in another queue | 'deleted' | 'missing'
-- EVENTS   a node of a flow ends as aborted

-- @include _clock
-- @include _score
-- @include _lease
-- @include _wake
-- @include _specs
-- @module Limits _limits
-- @module Flow _flow
-- @include _run_end
-- @include _erase

local queue, id = name_of(KEYS[1]), ARGV[2]
local now = clock(ARGV[1])
if is_leased(call('GET', LEASE .. id), now) and call('ZSCORE', QUEUE .. queue, id) then
  return 'running'
end
if ARGV[4] == '1' and call('ZSCORE', QUEUE .. queue, id) then
  return 'again'
end
if call('EXISTS', JOB .. id) == 1 and not call('ZSCORE', QUEUE .. queue, id) then
  return 'elsewhere'  -- payload and lease are by id alone: without them its entry there would be a ghost
end
local due_queues = {}
local removed = erase(queue, id, now, due_queues)
if Flow.run_continuations(Flow.INLINE, false, now, due_queues) then
  due_queues[queue] = true
end
for due_queue in pairs(due_queues) do
  wake(due_queue, now)
end
return (removed > 0 or ARGV[3] == '1') and 'deleted' or 'missing'
