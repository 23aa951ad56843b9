-- Writing what a call found out of flows, and doing what flows have left to do. Every function that touches a flow ends
-- with `run_continuations`.
-- USES  Pieces, FlowView, FlowNodes, FlowPasses

-- What is done for each letter of a continuation (`_flow.lua`): fn(c, number, piece, flow, the only child if it is
-- known), which returns how many nodes it has handled.
local WORK = {
  e = FlowNodes.children_pass,
  c = FlowPasses.cancel_pass,
  z = FlowPasses.results_pass,
  p = FlowPasses.keep_pass,
  i = FlowPasses.reserve_pass,
  d = FlowPasses.delete_pass,
  r = FlowPasses.reset_pass,
}

-- Write what this call found out of a flow; joins that are complete, and the flow's end, make new continuations.
local function write_view(c, flow, view)
  local k = c.k
  local changed, joins, counts = view.changed, view.joins, view.counts
  view.changed, view.joins, view.counts = {}, {}, {}
  Pieces.write('HSET', k.STATES .. flow, changed)
  for child, parents in pairs(joins) do
    if not FlowView.state_of(c, flow, child) and call('HINCRBY', k.PENDING .. flow, child, -parents) <= 0 then
      FlowNodes.end_join(c, flow, child, 'c')
    end
  end
  for field, by in pairs(counts) do
    local value = call('HINCRBY', k.FLOW .. flow, field, by)
    if field == 'left' and value == 0 then
      view.may_have_ended = true
    end
  end
  local may_have_ended = view.may_have_ended
  view.may_have_ended = nil
  if may_have_ended and view.kind == 'g' then
    local left = call('HGET', k.FLOW .. flow, 'left')
    if left == '0' and view.state == 'running' and FlowView.state_of(c, flow, view.output) then
      FlowNodes.end_flow(c, flow)
    end
  end
  if view.has_output then
    view.has_output = nil
    call('PUBLISH', k.DONE .. flow, '')
  end
end

local function write_views(c)
  local touched = FlowView.flows_of(c).touched
  repeat  -- a join that is complete is a change itself
    local has_changed = false
    for flow, view in pairs(touched) do
      if view and (#view.changed > 0 or next(view.joins) or next(view.counts) or view.may_have_ended) then
        write_view(c, flow, view)
        has_changed = true
      end
    end
  until not has_changed
end

local function publish_news(c)
  for flow, view in pairs(FlowView.flows_of(c).touched) do
    local news = view and view.news or {}
    for first = 1, #news, BATCH do
      local text = table.concat(news, '\n', first, math.min(first + BATCH - 1, #news))
      call('PUBLISH', c.k.FLOW_NEWS .. flow, text)
    end
  end
end

-- The next thing to do: of this call's agenda, else of older continuations; nil if there is nothing.
local function next_continuation(c, at, older)
  local agenda = FlowView.flows_of(c).agenda
  if not agenda[at] then
    write_views(c)  -- may put joins that are complete on the agenda
  end
  if not agenda[at] and older then
    local waiting = call('LPOP', c.k.CONTINUATIONS)
    if waiting then
      local what, number, piece, flow = string.match(waiting, '^(%a)|(%d+)|(%d+)|(.*)$')
      agenda[at] = { what, tonumber(number), tonumber(piece), flow }
    end
  end
  return agenda[at]
end

-- Work on the agenda of this call, then on older continuations if `older`, until `budget` nodes are handled; what is
-- left waits for the next claim. True if something is left.
local function run_continuations(c, budget, older)
  if not c.flows and not older then
    return false
  end
  local flows, at = FlowView.flows_of(c), 1
  while true do
    budget, flows.looked_up = budget - flows.looked_up, 0
    local continuation = budget > 0 and next_continuation(c, at, older)
    if not continuation then
      break
    end
    at = at + 1
    local work = WORK[continuation[1]]  -- none for a letter that this version does not know: that is dropped
    budget = budget - (work and work(c, unpack(continuation, 2, 5)) or 1)
  end
  write_views(c)
  local agenda, rest = flows.agenda, {}
  for i = at, #agenda do
    rest[#rest + 1] = table.concat(agenda[i], '|', 1, 4)
  end
  flows.agenda = {}
  FlowPasses.write_released(c)
  Pieces.write('RPUSH', c.k.CONTINUATIONS, rest)
  publish_news(c)
  flows.touched = {}
  return #rest > 0
end

-- Whether a job is a node of a flow that was cancelled, by its packed spec.
local function is_cancelled(c, packed)
  local entries = cmsgpack.unpack(packed)
  local entry = entries[#entries]
  local view = entry[1] == 'n' and FlowView.view_of(c, entry[2])
  return view and view.kind == 'g' and view.cancelled
end

return { run_continuations = run_continuations, is_cancelled = is_cancelled }
