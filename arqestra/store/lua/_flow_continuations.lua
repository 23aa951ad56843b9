-- Writing what a call found out of flows, and the continuations.
-- USES  FlowNodes, FlowPasses

-- Write what this script found out of a flow; joins that are complete, and the flow's end, make new continuations.
local function write_view(c, flow, view)
  local changed = view.changed
  view.changed = {}
  for first = 1, #changed, BATCH do
    call('HSET', c.k.STATES .. flow, unpack(changed, first, math.min(first + BATCH - 1, #changed)))
  end
  local joins, counts = view.joins, view.counts
  view.joins, view.counts = {}, {}
  for child, parents in pairs(joins) do
    if not FlowNodes.state_of(c, flow, child) and call('HINCRBY', c.k.PENDING .. flow, child, -parents) <= 0 then
      FlowNodes.end_join(c, flow, child, 'c')
    end
  end
  for field, by in pairs(counts) do
    local number = call('HINCRBY', c.k.FLOW .. flow, field, by)
    if field == 'left' and number == 0 then
      view.may_have_ended = true
    end
  end
  local may_have_ended = view.may_have_ended
  view.may_have_ended = nil
  if may_have_ended and view.kind == 'g' then
    local left = call('HGET', c.k.FLOW .. flow, 'left')
    if left == '0' and view.state == 'running' and FlowNodes.state_of(c, flow, view.output) then
      FlowNodes.end_flow(c, flow)
    end
  end
  if view.has_output then
    view.has_output = nil
    call('PUBLISH', c.k.DONE .. flow, '')
  end
end

local function write_views(c)
  repeat  -- a join that is complete is a change itself
    local again = false
    for flow, view in pairs(FlowNodes.flows_of(c).touched) do
      if view and (#view.changed > 0 or next(view.joins) or next(view.counts) or view.may_have_ended) then
        write_view(c, flow, view)
        again = true
      end
    end
  until not again
end

local function publish_news(c)
  for flow, view in pairs(FlowNodes.flows_of(c).touched) do
    local news = view and view.news or {}
    if #news > 0 then
      for first = 1, #news, BATCH do
        call('PUBLISH', c.k.FLOW_NEWS .. flow, table.concat(news, '\n', first, math.min(first + BATCH - 1, #news)))
      end
    end
  end
end

-- The next thing to do: of this call's agenda, else of older continuations; nil if there is nothing.
local function next_continuation(c, at, older)
  local agenda = FlowNodes.flows_of(c).agenda
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

-- Work on the agenda of this call, then on older continuations; what is left waits for the next claim. Every function that
-- touches a flow ends with this. True if something is left.
local function run_continuations(c, budget, older)
  local flows, at = FlowNodes.flows_of(c), 1
  while true do
    budget, flows.looked_up = budget - flows.looked_up, 0
    local continuation = budget > 0 and next_continuation(c, at, older)
    if not continuation then
      break
    end
    at = at + 1
    local what, number, piece, flow = continuation[1], continuation[2], continuation[3], continuation[4]
    if what == 'e' then
      budget = budget - FlowNodes.settle_piece(c, number, piece, flow, continuation[5])
    elseif what == 'c' then
      budget = budget - FlowPasses.cancel_pass(c, number, piece, flow)
    elseif what == 'z' then
      budget = budget - FlowPasses.results_pass(c, number, flow)
    elseif what == 'p' then
      budget = budget - FlowPasses.keep_pass(c, number, flow)
    elseif what == 'i' then
      budget = budget - FlowPasses.reserve_pass(c, number, flow)
    elseif what == 'd' then
      budget = budget - FlowPasses.delete_pass(c, number, piece, flow)
    else
      budget = budget - FlowPasses.reset_pass(c, number, piece, flow)
    end
  end
  write_views(c)
  local rest = {}
  for i = at, #flows.agenda do
    rest[#rest + 1] = table.concat(flows.agenda[i], '|', 1, 4)
  end
  flows.agenda = {}
  FlowPasses.write_released(c)
  for first = 1, #rest, BATCH do
    call('RPUSH', c.k.CONTINUATIONS, unpack(rest, first, math.min(first + BATCH - 1, #rest)))
  end
  publish_news(c)
  flows.touched = {}
  return #rest > 0
end

-- Whether a job is a node of a flow that was cancelled.
local function is_cancelled(c, packed)
  local entries = cmsgpack.unpack(packed)
  local entry = entries[#entries]
  local view = entry[1] == 'n' and FlowNodes.view_of(c, entry[2])
  return view and view.kind == 'g' and view.cancelled
end

return { run_continuations = run_continuations, is_cancelled = is_cancelled }
