-- Start a flow whose pieces are all stored, or the next round of one that has ended (docs/protocols.md, "Flows and
-- joins").
--
-- ARGV  1: time in ms or ''
--       2: flow
--       3: nonce of the call
--       4: number of the node from which it starts
--       5: jobs left
--       6: '1' pieces to reset come first
--       7: the highest number of a node
--       8: the round before, as the caller has read it, or ''
-- RETURNS  'started' | 'missing' | 'exists' somebody else has started it
-- EVENTS   wakes workers for what was released; publishes the end of the flow if nothing has to run
-- REPEAT   the nonce tells that this very call was made before.
-- USES  Wake, Flow

return function(c, argv)
  local k, flow, nonce, source = c.k, argv[2], argv[3], tonumber(argv[4])
  local has_resets = argv[6] == '1'
  local name = k.FLOW .. flow
  local producer, state, round = unpack(call('HMGET', name, 'nonce', 'state', 'round'))
  if not producer then
    return 'missing'
  end
  if round == nonce then
    return 'started'  -- by this very call, sent before
  end
  if state == 'running' or (not state and producer ~= nonce) or (round or '') ~= argv[8] then
    return 'exists'
  end
  for _, prefix in ipairs({ k.FLOW, k.NODES, k.STATES, k.PENDING }) do
    call('PERSIST', prefix .. flow)
  end
  call('HSET', name, 'state', 'running', 'round', nonce, 'left', argv[5], 'nodes', argv[7])
  call('HSETNX', name, 'created', c.now)
  call('HDEL', name, 'cancelled', 'ended')
  call('ZREM', k.ENDED_FLOWS, flow)
  call('ZADD', k.FLOWS, c.now, flow)
  Flow.set_state(c, flow, source, 'c')
  if call('HEXISTS', name, 'ids') == 1 and not has_resets then
    Flow.add_continuation(c, 'i', 1, 0, flow)
  end
  if has_resets then
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
