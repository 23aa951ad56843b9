-- Remove a flow that has ended, a piece of its nodes at a time; the last call removes its record.
--
-- ARGV  1: time in ms or ''
--       2: flow
--       3: '1' the last call
--       then of each node: job id, queue
-- RETURNS  'forgotten' | 'running' nothing was done
-- REPEAT   what is gone stays gone.
-- FLAGS  allow-oom

return function(c, argv)
  local k, flow = c.k, argv[2]
  if call('HGET', k.FLOW .. flow, 'state') == 'running' then
    return 'running'
  end
  for i = 4, #argv, 2 do
    local id, queue = argv[i], argv[i + 1]
    call('DEL', k.RESULT .. id, k.ERRORS .. id)
    call('ZREM', k.DEAD .. queue, id)
    call('HDEL', k.DEAD_RESULTS .. queue, id)
  end
  if argv[3] == '1' then
    for _, prefix in ipairs({ k.FLOW, k.NODES, k.STATES, k.PENDING, k.LOG, k.SENT }) do
      call('DEL', prefix .. flow)
    end
    call('ZREM', k.ENDED_FLOWS, flow)
  end
  return 'forgotten'
end
