-- Send an event to a workflow that has not ended.
--
-- KEYS  1: queue of the workflow
-- ARGV  1: time in ms or ''   2: job id   3: nonce, name and value of the event
-- RETURNS  'sent' | 'full' | 'missing' no such workflow is queued or runs
--
-- Repeating the call is harmless: who reads the log tells by the nonce.

-- @include _clock
-- @include _score
-- @include _wake
-- @include _specs
-- @module Limits _limits
-- @module Flow _flow

local MOST_EVENTS = 30000    -- of a history: 10,000 steps and as many timers have their ends in it too

local queue, flow = KEYS[1], ARGV[2]
local now = clock(ARGV[1])
local due_queues = {}
if call('EXISTS', JOB .. flow) == 0 then
  return 'missing'
end
if call('HSETNX', FLOW .. flow, 'kind', 'w') == 1 then
  call('HSET', FLOW .. flow, 'created', now, 'queue', queue, 'state', 'running', 'keep', 3600000)
  call('ZADD', FLOWS, now, flow)
end
if call('LLEN', LOG .. flow) >= MOST_EVENTS then
  return 'full'
end
call('RPUSH', LOG .. flow, 'g 0 ' .. string.format('%.0f', now) .. ' ' .. ARGV[3])
Flow.notify(flow, now, due_queues)
for due_queue in pairs(due_queues) do
  wake(due_queue, now)
end
return 'sent'
