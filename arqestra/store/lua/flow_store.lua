-- Store a piece of a flow that has not started, or of the next round of one that has ended. Nothing of it takes effect
-- before flow_start; a producer that dies in between leaves what goes away by itself (docs/protocols.md, "Flows and
-- joins").
--
-- ARGV  1: time in ms or ''
--       2: flow
--       3: nonce of the producer
--       4: how many fields of the record follow
--       5: how many of its nodes
--       6: how many of joins
--       then fields and values of each
-- RETURNS  'stored' | 'exists' another producer's flow, or it has started | 'taken' a chosen job id exists
-- REPEAT   fields are set to the same values; an id is reserved for the same node.

local UNFINISHED_TTL_MS = 3600000

-- Whether a field of a node is the job id that was chosen for it.
local function is_chosen_id(field)
  return string.sub(field, -1) == 'i'
end

-- Whose node an id is reserved for: an abort finds it by that.
local function owner_of(flow, nonce, field)
  return nonce .. ' ' .. string.sub(field, 1, -2) .. ' ' .. flow
end

-- Nobody else can take the id until its node is released. False if it is taken.
local function reserve(k, id, owner)
  if call('EXISTS', k.JOB .. id, k.RESULT .. id, k.LEASE .. id) > 0 then
    return false
  end
  call('SET', k.RESERVED .. id, owner, 'NX', 'PX', UNFINISHED_TTL_MS)
  return call('GET', k.RESERVED .. id) == owner
end

local function delete_flow(k, flow)
  call('DEL', k.FLOW .. flow, k.NODES .. flow, k.PENDING .. flow)
end

-- Reserve the ids among the fields of nodes, argv[first] to argv[last]. Returns the position in argv of one that is
-- taken.
local function reserve_ids(k, argv, first, last)
  local flow, nonce = argv[2], argv[3]
  for i = first, last, 2 do
    if is_chosen_id(argv[i]) and not reserve(k, argv[i + 1], owner_of(flow, nonce, argv[i])) then
      return i
    end
  end
end

-- Take back what reserve_ids has done up to the one that was taken.
local function release_ids(k, argv, first, last)
  local flow, nonce = argv[2], argv[3]
  for i = first, last, 2 do
    local id = argv[i + 1]
    if is_chosen_id(argv[i]) and call('GET', k.RESERVED .. id) == owner_of(flow, nonce, argv[i]) then
      call('DEL', k.RESERVED .. id)
    end
  end
end

return function(c, argv)
  local k, flow, nonce = c.k, argv[2], argv[3]
  local producer, state = unpack(call('HMGET', k.FLOW .. flow, 'nonce', 'state'))
  if (producer and producer ~= nonce) or state == 'running' then
    if state or argv[4] == '0' then
      return 'exists'
    end
    delete_flow(k, flow)  -- of a producer that did not come to start it
  end
  local at = 7
  for i, prefix in ipairs({ k.FLOW, k.NODES, k.PENDING }) do
    local name = prefix .. flow
    local last = at + 2 * tonumber(argv[3 + i]) - 1
    for first = at, last, BATCH do
      call('HSET', name, unpack(argv, first, math.min(first + BATCH - 1, last)))
    end
    if not state then
      call('PEXPIRE', name, UNFINISHED_TTL_MS)
    end
    if prefix == k.NODES then
      local taken = reserve_ids(k, argv, at, last)
      if taken then
        if not state then
          release_ids(k, argv, at, taken)
          delete_flow(k, flow)
        end
        return 'taken'
      end
    end
    at = last + 1
  end
  return 'stored'
end
