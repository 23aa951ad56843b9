-- Remove a flow that has ended, a piece of its nodes at a time; the last call removes its record.
--
-- ARGV  1: time in ms or ''
--       2: flow
--       3: '1' the last call
--       4...: of each node: job id, queue
-- RETURNS  'forgotten' | 'running' nothing was done
-- FLAGS  allow-oom

return function(c, argv)
  local flow = argv[2]
  if call('HGET', c.k.FLOW .. flow, 'state') == 'running' then
    return 'running'
  end
  for i = 4, #argv, 2 do
    local id, queue = argv[i], argv[i + 1]
    call('DEL', c.k.RESULT .. id, c.k.ERRORS .. id)
    call('ZREM', c.k.DEAD .. queue, id)
    call('HDEL', c.k.DEAD_RESULTS .. queue, id)
  end
  if argv[3] == '1' then
    for _, prefix in ipairs({ c.k.FLOW, c.k.NODES, c.k.STATES, c.k.PENDING, c.k.LOG, c.k.SENT }) do
      call('DEL', prefix .. flow)
    end
    call('ZREM', c.k.ENDED_FLOWS, flow)
  end
  return 'forgotten'
end
