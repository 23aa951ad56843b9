-- What a call knows of flows and changes in them. `_flow.lua` says what is in which key. Many nodes of one flow end in
-- one call: states, counts and joins are gathered here, and FlowContinuations writes them once.
--
-- c.flows, made by the first function that needs it:
--   agenda         what is left to do: { what, number, piece, flow, the only child if it is known }; see `_flow.lua`
--   touched        flow -> its view, false if there is no such flow: see `view_of`
--   released       what is still to be written of released nodes, or nil: see `release` in `_flow_nodes.lua`
--   notified       workflows that got their news in this call
--   looked_up      only children of which the record was read when their parent ended
--   known_headers  text -> header: the nodes of a group have the same

local function flows_of(c)
  local flows = c.flows
  if not flows then
    flows = { agenda = {}, touched = {}, notified = {}, looked_up = 0, known_headers = {} }
    c.flows = flows
  end
  return flows
end

local function exists(c, flow)
  return call('EXISTS', c.k.FLOW .. flow) == 1
end

-- The view of a flow; false if there is no such flow. Beside fields of its record:
--   listened_to     somebody listens to its news
--   states          number -> state, or false if it has none; as far as they were read or set
--   changed         number, state, number, state, ...: to be written
--   counts          field of the record -> by how much it changes
--   joins           join -> parents that ended in this call
--   headers         join -> its header
--   records         only child that is a job -> its record, if that was read before its turn came
--   news            to be published
--   may_have_ended  the output has ended, or no node is left
--   has_output      the output has ended in this call
local function view_of(c, flow)
  local touched = flows_of(c).touched
  local view = touched[flow]
  if view == nil then
    local k = c.k
    local kind, state, output, cancelled, ids =
      unpack(call('HMGET', k.FLOW .. flow, 'kind', 'state', 'output', 'cancelled', 'ids'))
    view = kind and {
      kind = kind, state = state, output = tonumber(output), cancelled = cancelled, chosen_ids = ids,
      listened_to = call('PUBSUB', 'NUMSUB', k.FLOW_NEWS .. flow)[2] > 0,
      states = {}, changed = {}, counts = {}, joins = {}, headers = {}, records = {}, news = {},
    }
    touched[flow] = view
    if not view then
      call('ZREM', k.FLOWS, flow)
    end
  end
  return view
end

-- What this call knew of a flow holds no more.
local function forget_view(c, flow)
  flows_of(c).touched[flow] = nil
end

-- The state of a node; false if it has none yet.
local function state_of(c, flow, number)
  local states = view_of(c, flow).states
  local state = states[number]
  if state == nil then
    state = call('HGET', c.k.STATES .. flow, number)
    states[number] = state
  end
  return state
end

local function set_state(c, flow, number, state)
  local view = view_of(c, flow)
  view.states[number] = state
  local changed = view.changed
  local n = #changed
  changed[n + 1], changed[n + 2] = number, state
  if view.output == number and state ~= 'q' then
    view.has_output, view.may_have_ended = true, true
  end
end

-- Take the states of several nodes, as they were read, into the view: those that it does not know yet.
local function note_states(view, numbers, states)
  local known = view.states
  for i, state in ipairs(states) do
    local number = numbers[i]
    if known[number] == nil then
      known[number] = state
    end
  end
end

local function count(view, field, by)
  local counts = view.counts
  counts[field] = (counts[field] or 0) + by
end

-- Collect a piece of news: the new state of a node, or 'ended' of node 0, which stands for the flow.
local function tell(view, number, state)
  if view.listened_to then
    view.news[#view.news + 1] = number .. ' ' .. state
  end
end

-- Flows have something left to do: a worker of each queue of this flow may do it.
local function mark_its_queues(c, flow)
  for queue in string.gmatch(call('HGET', c.k.FLOW .. flow, 'queues') or '', '[^\n]+') do
    c.due_queues[queue] = true
  end
end

-- Put something on the agenda of this call. `_flow.lua` has the letters and what the numbers mean for each.
local function add_continuation(c, what, number, piece, flow, only_child)
  local agenda = flows_of(c).agenda
  agenda[#agenda + 1] = { what, number, piece, flow, only_child }
end

-- The job id of a node.
local function node_id(c, flow, number)
  local chosen = view_of(c, flow).chosen_ids and call('HGET', c.k.NODES .. flow, number .. 'i')
  return chosen or flow .. NODE_SEPARATOR .. number
end

-- Of a node's record: its header, and from where to where its spec goes; the payload is behind that. The nodes of a
-- group have the same header: it is decoded once in a call, and one table stands for all of them. So nobody may change
-- it.
local function decoded(c, record)
  local header_end = 4 + tonumber(string.sub(record, 1, 4))
  local text = string.sub(record, 5, header_end)
  local known_headers = flows_of(c).known_headers
  local header = known_headers[text]
  if not header then
    local fields = cmsgpack.unpack(text)
    header = {
      kind = fields[1], runs = fields[2], on_failure = fields[3], queue = fields[4], priority = fields[5],
      limit = fields[6], when = fields[7],
    }
    known_headers[text] = header
  end
  return header, header_end + 6, header_end + 5 + tonumber(string.sub(record, header_end + 1, header_end + 5))
end

-- The header and the record of a node; nil if there is no such node.
local function node_of(c, flow, number)
  local record = call('HGET', c.k.NODES .. flow, number)
  if record then
    return decoded(c, record), record
  end
end

return {
  flows_of = flows_of,
  exists = exists,
  view_of = view_of,
  forget_view = forget_view,
  state_of = state_of,
  set_state = set_state,
  note_states = note_states,
  count = count,
  tell = tell,
  mark_its_queues = mark_its_queues,
  add_continuation = add_continuation,
  node_id = node_id,
  decoded = decoded,
  node_of = node_of,
}
