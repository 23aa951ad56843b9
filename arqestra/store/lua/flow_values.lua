-- States and results of nodes of a flow.
--
-- KEYS  1: the flow's record
-- ARGV  1: time in ms or ''   2: flow   3...: numbers
-- RETURNS  { '1' or '0' if there is no such flow, then for each: state or '', what it holds, its job id }
--          what it holds: of a join the list of its parents as it was stored, else the result or false

local flow = ARGV[2]
local reply = { tostring(call('EXISTS', FLOW .. flow)) }
for i = 3, #ARGV do
  local number = ARGV[i]
  local id = call('HGET', NODES .. flow, number .. 'i') or flow .. ':' .. number
  reply[#reply + 1] = call('HGET', STATES .. flow, number) or ''
  local parents = call('HGET', NODES .. flow, number .. 'p')
  reply[#reply + 1] = parents or call('GET', RESULT .. id)
  reply[#reply + 1] = parents and '' or id
end
return reply
