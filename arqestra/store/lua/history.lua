-- The history of a workflow, or what is new in it.
--
-- ARGV  1: time in ms or ''
--       2: queue of the workflow
--       3: job id
--       4: events to pass over
--       5: most events to give
--       6: '1' with its nodes; counts a
--       replay
-- RETURNS  of a life that is to be resumed { now, 0, { 'resume', '1' }, {} }; else { now, events in all, record (flat) or {}, nodes (flat) or {}, then of each event: the event, result or false }

return function(c, argv)
  local flow, first, most = argv[3], tonumber(argv[4]), tonumber(argv[5])
  local reply = { c.now, call('LLEN', c.k.LOG .. flow), {}, {} }
  local state, resume = unpack(argv[6] == '1' and call('HMGET', c.k.FLOW .. flow, 'state', 'resume') or {})
  if state == 'ended' and resume then
    return { reply[1], 0, { 'resume', resume }, {} }  -- see flow_resume.lua
  end
  if state == 'ended' then
    -- Of an earlier life of this id. Numbers go on, so that steps of that life which still run are none of this one.
    local ended, nodes, keep_ms = unpack(call('HMGET', c.k.FLOW .. flow, 'ended', 'nodes', 'keep'))
    local kept = {}
    for _, event in ipairs(call('LRANGE', c.k.LOG .. flow, 0, -1)) do
      if tonumber(string.match(event, '^g %d+ (%d+)') or 0) > tonumber(ended) then
        kept[#kept + 1] = event
      end
    end
    call('UNLINK', c.k.FLOW .. flow, c.k.NODES .. flow, c.k.STATES .. flow, c.k.LOG .. flow)
    call('ZREM', c.k.ENDED_FLOWS, flow)
    -- It may end before it writes that itself, and somebody may ask for it.
    call('HSET', c.k.FLOW .. flow, 'kind', 'w', 'base', nodes or 0, 'keep', keep_ms, 'state', 'running', 'queue', argv[2])
    call('ZADD', c.k.FLOWS, reply[1], flow)
    for first = 1, #kept, BATCH do
      call('RPUSH', c.k.LOG .. flow, unpack(kept, first, math.min(first + BATCH - 1, #kept)))
    end
    reply[2] = #kept
  end
  if argv[6] == '1' and call('EXISTS', c.k.FLOW .. flow) == 1 then
    call('HINCRBY', c.k.FLOW .. flow, 'replays', 1)
    reply[3], reply[4] = call('HGETALL', c.k.FLOW .. flow), call('HGETALL', c.k.NODES .. flow)
  end
  for _, event in ipairs(call('LRANGE', c.k.LOG .. flow, first, first + most - 1)) do
    local number = string.match(event, '^s (%d+) ')
    reply[#reply + 1] = event
    reply[#reply + 1] = number and call('GET', c.k.RESULT .. flow .. NODE_SEPARATOR .. number) or false
  end
  return reply
end
