-- The history of a workflow, or what is new in it.
--
-- KEYS  1: queue of the workflow
-- ARGV  1: time in ms or ''   2: job id   3: events to pass over   4: most events to give   5: '1' with its nodes; counts a
--       replay
-- RETURNS  of a life that is to be resumed { now, 0, { 'resume', '1' }, {} }; else { now, events in all, record (flat) or {}, nodes (flat) or {}, then of each event: the event, result or false }

-- @include _clock

local flow, first, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local reply = { clock(ARGV[1]), call('LLEN', LOG .. flow), {}, {} }
local state, resume = unpack(ARGV[5] == '1' and call('HMGET', FLOW .. flow, 'state', 'resume') or {})
if state == 'ended' and resume then
  return { reply[1], 0, { 'resume', resume }, {} }  -- see flow_resume.lua
end
if state == 'ended' then
  -- Of an earlier life of this id. Numbers go on, so that steps of that life which still run are none of this one.
  local ended, nodes, keep_ms = unpack(call('HMGET', FLOW .. flow, 'ended', 'nodes', 'keep'))
  local kept = {}
  for _, event in ipairs(call('LRANGE', LOG .. flow, 0, -1)) do
    if tonumber(string.match(event, '^g %d+ (%d+)') or 0) > tonumber(ended) then
      kept[#kept + 1] = event
    end
  end
  call('UNLINK', FLOW .. flow, NODES .. flow, STATES .. flow, LOG .. flow)
  call('ZREM', ENDED_FLOWS, flow)
  -- It may end before it writes that itself, and somebody may ask for it.
  call('HSET', FLOW .. flow, 'kind', 'w', 'base', nodes or 0, 'keep', keep_ms, 'state', 'running', 'queue', KEYS[1])
  call('ZADD', FLOWS, reply[1], flow)
  for first = 1, #kept, BATCH do
    call('RPUSH', LOG .. flow, unpack(kept, first, math.min(first + BATCH - 1, #kept)))
  end
  reply[2] = #kept
end
if ARGV[5] == '1' and call('EXISTS', FLOW .. flow) == 1 then
  call('HINCRBY', FLOW .. flow, 'replays', 1)
  reply[3], reply[4] = call('HGETALL', FLOW .. flow), call('HGETALL', NODES .. flow)
end
for _, event in ipairs(call('LRANGE', LOG .. flow, first, first + most - 1)) do
  local number = string.match(event, '^s (%d+) ')
  reply[#reply + 1] = event
  reply[#reply + 1] = number and call('GET', RESULT .. flow .. NODE_SEPARATOR .. number) or false
end
return reply
