-- Remove a flow that has ended, a piece of its nodes at a time; the last call removes its record.
--
-- KEYS  1: the flow's record
-- ARGV  1: time in ms or ''   2: flow   3: '1' the last call   4...: of each node: job id, queue
-- RETURNS  'forgotten' | 'running' nothing was done

local flow = ARGV[2]
if call('HGET', FLOW .. flow, 'state') == 'running' then
  return 'running'
end
for i = 4, #ARGV, 2 do
  local id, queue = ARGV[i], ARGV[i + 1]
  call('DEL', RESULT .. id, ERRORS .. id)
  call('ZREM', DEAD .. queue, id)
  call('HDEL', DEAD_RESULTS .. queue, id)
end
if ARGV[3] == '1' then
  for _, prefix in ipairs({ FLOW, NODES, STATES, PENDING, LOG, SENT }) do
    call('DEL', prefix .. flow)
  end
  call('ZREM', ENDED_FLOWS, flow)
end
return 'forgotten'
