-- Start a flow whose pieces are all stored, or the next round of one that has ended.
--
-- KEYS  1: the flow's record
-- ARGV  1: time in ms or ''   2: flow   3: nonce   4: number of the node from which it starts   5: nodes left
--       6: '1' pieces to reset come first   7: nodes in all   8: the round before, as the caller has read it, or ''
-- RETURNS  'started' | 'missing' | 'exists' somebody else has started it

-- @include _clock
-- @include _score
-- @include _wake
-- @include _specs
-- @module Limits _limits
-- @module Flow _flow

local flow, nonce, source = ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = clock(ARGV[1])
local due_queues = {}
local name = FLOW .. flow
local known, state, round = unpack(call('HMGET', name, 'nonce', 'state', 'round'))
if not known then
  return 'missing'
end
if round == nonce then
  return 'started'  -- by this very call, sent before
end
if state == 'running' or (not state and known ~= nonce) or (round or '') ~= ARGV[8] then
  return 'exists'
end
for _, prefix in ipairs({ FLOW, NODES, STATES, PENDING }) do
  call('PERSIST', prefix .. flow)
end
call('HSET', name, 'state', 'running', 'round', nonce, 'left', ARGV[5], 'nodes', ARGV[7])
call('HSETNX', name, 'created', now)
call('HDEL', name, 'cancelled', 'ended')
call('ZREM', ENDED_FLOWS, flow)
call('ZADD', FLOWS, now, flow)
Flow.set_state(flow, source, 'c')
if call('HEXISTS', name, 'ids') == 1 and ARGV[6] ~= '1' then
  Flow.add_continuation('i', 1, 0, flow)
end
if ARGV[6] == '1' then
  Flow.add_continuation('r', source, 0, flow)
  Flow.add_continuation('p', 1, 0, flow)
else
  Flow.add_continuation('e', source, 0, flow)
end
if Flow.run_continuations(Flow.INLINE, false, now, due_queues) then
  Flow.mark_its_queues(flow, due_queues)
end
for queue in pairs(due_queues) do
  wake(queue, now)
end
return 'started'
