-- The history of a workflow, or what is new in it (docs/protocols.md, "Replay of workflows").
--
-- ARGV  1: time in ms or ''
--       2: queue of the workflow
--       3: job id
--       4: events to pass over
--       5: most events to give
--       6: '1' with its nodes; counts a replay
-- RETURNS  { now, events in all, record (flat) or {}, nodes (flat) or {},
--            then of each event: the event, result of the step that ended or false }
--          | { now, 0, { 'resume', '1' }, {} } of a life that is to be resumed
-- REPEAT   a replay is counted once more.
-- USES  Pieces

-- The record is that of an earlier life of this id: a new one begins. Numbers go on, so that steps of that life which
-- still run are none of this one. Returns how many events it has: those that were sent to it since then.
local function begin_life(c, queue, flow)
  local k, name = c.k, c.k.FLOW .. flow
  local ended, nodes, keep_ms = unpack(call('HMGET', name, 'ended', 'nodes', 'keep'))
  local kept = {}
  for _, event in ipairs(call('LRANGE', k.LOG .. flow, 0, -1)) do
    if tonumber(string.match(event, '^g %d+ (%d+)') or 0) > tonumber(ended) then
      kept[#kept + 1] = event
    end
  end
  call('UNLINK', name, k.NODES .. flow, k.STATES .. flow, k.LOG .. flow)
  call('ZREM', k.ENDED_FLOWS, flow)
  -- It may end before it writes that itself, and somebody may ask for it.
  call('HSET', name, 'kind', 'w', 'base', nodes or 0, 'keep', keep_ms, 'state', 'running', 'queue', queue)
  call('ZADD', k.FLOWS, c.now, flow)
  Pieces.write('RPUSH', k.LOG .. flow, kept)
  return #kept
end

return function(c, argv)
  local k, queue, flow, first, most = c.k, argv[2], argv[3], tonumber(argv[4]), tonumber(argv[5])
  local with_nodes = argv[6] == '1'
  local name, log = k.FLOW .. flow, k.LOG .. flow
  local reply = { c.now, call('LLEN', log), {}, {} }
  local state, resume = unpack(with_nodes and call('HMGET', name, 'state', 'resume') or {})
  if state == 'ended' and resume then
    return { c.now, 0, { 'resume', resume }, {} }  -- see flow_resume.lua
  end
  if state == 'ended' then
    reply[2] = begin_life(c, queue, flow)
  end
  if with_nodes and call('EXISTS', name) == 1 then
    call('HINCRBY', name, 'replays', 1)
    reply[3], reply[4] = call('HGETALL', name), call('HGETALL', k.NODES .. flow)
  end
  for _, event in ipairs(call('LRANGE', log, first, first + most - 1)) do
    local number = string.match(event, '^s (%d+) ')
    reply[#reply + 1] = event
    reply[#reply + 1] = number and call('GET', k.RESULT .. flow .. NODE_SEPARATOR .. number) or false
  end
  return reply
end
