-- States and results of nodes of a flow.
--
-- ARGV  1: time in ms or ''
--       2: flow
--       then numbers of nodes, at most 500
-- RETURNS  { '1', then for each node: state or '', what it holds, what it is }
--          | { '0' } there is no such flow
--          what it holds: of a join the list of its parents as it was stored, else the result or false
--          what it is: 'join' | '' a job | 'id ' and the id that was chosen for it
-- REPEAT   it changes nothing.
-- FLAGS  no-writes

return function(c, argv)
  local k, flow = c.k, argv[2]
  local kind, chosen_ids = unpack(call('HMGET', k.FLOW .. flow, 'kind', 'ids'))
  if not kind then
    return { '0' }
  end
  local numbers, parent_fields, id_fields, results = {}, {}, {}, {}
  for i = 3, #argv do
    numbers[i - 2], parent_fields[i - 2] = argv[i], argv[i] .. 'p'
    id_fields[i - 2] = chosen_ids and argv[i] .. 'i'
  end
  local states = call('HMGET', k.STATES .. flow, unpack(numbers))
  local parents = call('HMGET', k.NODES .. flow, unpack(parent_fields))
  local chosen = chosen_ids and call('HMGET', k.NODES .. flow, unpack(id_fields)) or {}
  local head = k.RESULT .. flow .. NODE_SEPARATOR
  for i, number in ipairs(numbers) do
    results[i] = chosen[i] and k.RESULT .. chosen[i] or head .. number
  end
  results = call('MGET', unpack(results))
  local reply = { '1' }
  for i = 1, #numbers do
    local at = 3 * i
    reply[at - 1], reply[at] = states[i] or '', parents[i] or results[i]
    reply[at + 1] = parents[i] and 'join' or chosen[i] and 'id ' .. chosen[i] or ''
  end
  return reply
end
