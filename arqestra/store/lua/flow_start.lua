-- Start a flow whose pieces are all stored, or the next round of one that has ended.
--
-- KEYS  1: the flow's record
-- ARGV  1: time in ms or ''   2: flow   3: nonce   4: number of the node from which it starts   5: nodes left
--       6: '1' pieces to reset come first   7: nodes in all
-- RETURNS  'started' | 'missing' | 'exists' it runs, and was started by somebody else

-- @include _clock
-- @include _score
-- @include _wake
-- @include _limits
-- @include _flow

local flow, nonce, source = ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = clock(ARGV[1])
local due_queues = {}
local name = FLOW .. flow
local known, state, round = unpack(call('HMGET', name, 'nonce', 'state', 'round'))
if not known then
  return 'missing'
end
if state == 'running' then
  return round == nonce and 'started' or 'exists'
end
for _, prefix in ipairs({ FLOW, NODES, STATES, PENDING }) do
  call('PERSIST', prefix .. flow)
end
call('HSET', name, 'state', 'running', 'round', nonce, 'left', ARGV[5], 'nodes', ARGV[7])
call('HSETNX', name, 'created', now)
call('HDEL', name, 'cancelled', 'ended')
call('ZREM', ENDED_FLOWS, flow)
call('ZADD', FLOWS, now, flow)
set_state(flow, source, 'c')
if ARGV[6] == '1' then
  agenda[#agenda + 1] = { 'r', source, 0, flow }
else
  agenda[#agenda + 1] = { 'e', source, 0, flow }
end
local left = do_chores(INLINE, false, now, due_queues)
if ARGV[5] == '0' then
  end_flow(flow, now, due_queues)
  left = do_chores(INLINE, false, now, due_queues) or left
end
if left then
  for queue in string.gmatch(call('HGET', name, 'queues') or '', '[^\n]+') do
    due_queues[queue] = true
  end
end
for queue in pairs(due_queues) do
  wake(queue, now)
end
return 'started'
