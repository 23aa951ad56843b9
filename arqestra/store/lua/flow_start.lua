-- Start a flow whose pieces are all stored, or the next round of one that has ended.
--
-- ARGV  1: time in ms or ''
--       2: flow
--       3: nonce
--       4: number of the node from which it starts
--       5: nodes left
--       6: '1' pieces to reset come first
--       7: nodes in all
--       8: the round before, as the caller has read it, or ''
-- RETURNS  'started' | 'missing' | 'exists' somebody else has started it
-- USES  Wake, Flow

return function(c, argv)
  local flow, nonce, source = argv[2], argv[3], tonumber(argv[4])
  local name = c.k.FLOW .. flow
  local known, state, round = unpack(call('HMGET', name, 'nonce', 'state', 'round'))
  if not known then
    return 'missing'
  end
  if round == nonce then
    return 'started'  -- by this very call, sent before
  end
  if state == 'running' or (not state and known ~= nonce) or (round or '') ~= argv[8] then
    return 'exists'
  end
  for _, prefix in ipairs({ c.k.FLOW, c.k.NODES, c.k.STATES, c.k.PENDING }) do
    call('PERSIST', prefix .. flow)
  end
  call('HSET', name, 'state', 'running', 'round', nonce, 'left', argv[5], 'nodes', argv[7])
  call('HSETNX', name, 'created', c.now)
  call('HDEL', name, 'cancelled', 'ended')
  call('ZREM', c.k.ENDED_FLOWS, flow)
  call('ZADD', c.k.FLOWS, c.now, flow)
  Flow.set_state(c, flow, source, 'c')
  if call('HEXISTS', name, 'ids') == 1 and argv[6] ~= '1' then
    Flow.add_continuation(c, 'i', 1, 0, flow)
  end
  if argv[6] == '1' then
    Flow.add_continuation(c, 'r', source, 0, flow)
    Flow.add_continuation(c, 'p', 1, 0, flow)
  else
    Flow.add_continuation(c, 'e', source, 0, flow)
  end
  if Flow.run_continuations(c, Flow.INLINE, false) then
    Flow.mark_its_queues(c, flow)
  end
  Wake.wake_all(c)
  return 'started'
end
