-- Reading the specs of jobs; _limits says what is in them.

local function spec_of(c, queue, id)
  local packed = call('HGET', c.k.SPECS .. queue, id)
  return packed and cmsgpack.unpack(packed) or nil, packed
end

-- Whether every job with a spec is throttled: then no due and no running job has a spec, and nobody need look for one.
-- Each throttled job has a spec, so equal numbers mean the same jobs.
local function all_throttled(c, queue)
  return call('HLEN', c.k.SPECS .. queue) == call('HLEN', c.k.THROTTLED .. queue)
end

-- The names of the limits in a spec, in their order: rate, concurrency, that of the queue. It is the same in all specs.
local function limits_of(spec)
  local limits = {}
  for _, entry in ipairs(spec) do
    if entry[1] == 'r' or entry[1] == 'c' then
      limits[#limits + 1] = entry[2]
    end
  end
  return limits
end

-- Whether a packed spec has nothing but the job's position in a flow: { { 'n', ... } }.
local function is_node_only(packed)
  return string.sub(packed, 4, 4) == 'n' and string.sub(packed, 1, 1) == '\145'
end

-- The same, or nothing but its position in a schedule: { { 's', ... } }.
local function is_position_only(packed)
  local kind = string.sub(packed, 4, 4)
  return (kind == 'n' or kind == 's') and string.sub(packed, 1, 1) == '\145'
end

-- Which node of which flow a job is, by its spec: flow, number, its only child (0: it has none) if it has no more than
-- one, and whether its result is part of the flow's.
local function flow_position(spec)
  for _, entry in ipairs(spec) do
    if entry[1] == 'n' then
      return entry[2], entry[3], entry[4] ~= -1 and entry[4] or nil, entry[5] == 1
    end
  end
end

return {
  spec_of = spec_of,
  all_throttled = all_throttled,
  limits_of = limits_of,
  is_node_only = is_node_only,
  is_position_only = is_position_only,
  flow_position = flow_position,
}
