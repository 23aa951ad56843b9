-- The history of a workflow, or what is new in it.
--
-- KEYS  1: queue of the workflow
-- ARGV  1: time in ms or ''   2: job id   3: events to pass over   4: most events to give   5: '1' with its nodes; counts a
--       replay
-- RETURNS  { now, events in all, record (flat) or {}, nodes (flat) or {}, then of each event: the event, result or false }

-- @include _clock

local flow, first, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local reply = { clock(ARGV[1]), call('LLEN', LOG .. flow), {}, {} }
if ARGV[5] == '1' and call('HGET', FLOW .. flow, 'state') == 'ended' then
  call('DEL', FLOW .. flow, NODES .. flow, STATES .. flow, LOG .. flow)  -- of a job of this id before
  call('ZREM', ENDED_FLOWS, flow)
  reply[2] = 0
end
if ARGV[5] == '1' and call('EXISTS', FLOW .. flow) == 1 then
  call('HINCRBY', FLOW .. flow, 'replays', 1)
  reply[3], reply[4] = call('HGETALL', FLOW .. flow), call('HGETALL', NODES .. flow)
end
for _, event in ipairs(call('LRANGE', LOG .. flow, first, first + most - 1)) do
  local number = string.match(event, '^s (%d+) ')
  reply[#reply + 1] = event
  reply[#reply + 1] = number and call('GET', RESULT .. flow .. ':' .. number) or false
end
return reply
