-- Cancel a graph that runs: what waits is dropped, what is queued is taken from its queue, what runs is told to abort.
--
-- KEYS  1: the flow's record
-- ARGV  1: time in ms or ''   2: flow   3: reason
-- RETURNS  'cancelled' | 'ended' | 'missing'

-- @include _clock
-- @include _score
-- @include _wake
-- @include _specs
-- @module Limits _limits
-- @module Flow _flow

local flow = ARGV[2]
local now = clock(ARGV[1])
local due_queues = {}
local state = call('HGET', FLOW .. flow, 'state')
if not state then
  return 'missing'
end
if state == 'ended' then
  return 'ended'
end
call('HSETNX', FLOW .. flow, 'cancelled', ARGV[3])
Flow.add_continuation('c', 1, 0, flow)
if Flow.run_continuations(Flow.INLINE, false, now, due_queues) then
  Flow.mark_its_queues(flow, due_queues)
end
for queue in pairs(due_queues) do
  wake(queue, now)
end
return 'cancelled'
