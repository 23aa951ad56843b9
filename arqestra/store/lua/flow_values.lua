-- States and results of nodes of a flow.
--
-- ARGV  1: time in ms or ''
--       2: flow
--       3...: numbers, at most 500
-- RETURNS  { '1' or '0' if there is no such flow, then for each: state or '', what it holds, what it is }
--          what it holds: of a join the list of its parents as it was stored, else the result or false
--          what it is: 'join' | '' a job | 'id ' and the id that was chosen for it
-- FLAGS  no-writes

return function(c, argv)
  local flow = argv[2]
  local kind, chosen_ids = unpack(call('HMGET', c.k.FLOW .. flow, 'kind', 'ids'))
  if not kind then
    return { '0' }
  end
  local numbers, parents, ids, results = {}, {}, {}, {}
  for i = 3, #argv do
    numbers[i - 2], parents[i - 2] = argv[i], argv[i] .. 'p'
    ids[i - 2] = chosen_ids and argv[i] .. 'i'
  end
  local states = call('HMGET', c.k.STATES .. flow, unpack(numbers))
  local joined = call('HMGET', c.k.NODES .. flow, unpack(parents))
  local chosen = chosen_ids and call('HMGET', c.k.NODES .. flow, unpack(ids)) or {}
  local head = c.k.RESULT .. flow .. NODE_SEPARATOR
  for i, number in ipairs(numbers) do
    results[i] = chosen[i] and c.k.RESULT .. chosen[i] or head .. number
  end
  results = call('MGET', unpack(results))
  local reply = { '1' }
  for i = 1, #numbers do
    local at = 3 * i
    reply[at - 1], reply[at] = states[i] or '', joined[i] or results[i]
    reply[at + 1] = joined[i] and 'join' or chosen[i] and 'id ' .. chosen[i] or ''
  end
  return reply
end
