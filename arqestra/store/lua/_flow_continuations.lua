-- Part of _flow: writing what a script found out, and the continuations. Needs _flow_nodes, _flow_passes.

-- Write what this script found out of a flow; joins that are complete, and the flow's end, make new continuations.
local function write_view(flow, view, now, due_queues)
  local changed = view.changed
  view.changed = {}
  for first = 1, #changed, BATCH do
    call('HSET', STATES .. flow, unpack(changed, first, math.min(first + BATCH - 1, #changed)))
  end
  local joins, counts = view.joins, view.counts
  view.joins, view.counts = {}, {}
  for child, parents in pairs(joins) do
    if not state_of(flow, child) and call('HINCRBY', PENDING .. flow, child, -parents) <= 0 then
      end_join(flow, child, 'c')
    end
  end
  for field, by in pairs(counts) do
    local number = call('HINCRBY', FLOW .. flow, field, by)
    if field == 'left' and number == 0 then
      view.may_have_ended = true
    end
  end
  local may_have_ended = view.may_have_ended
  view.may_have_ended = nil
  if may_have_ended and view.kind == 'g' then
    local left = call('HGET', FLOW .. flow, 'left')
    if left == '0' and view.state == 'running' and state_of(flow, view.output) then
      end_flow(flow, now, due_queues)
    end
  end
  if view.has_output then
    view.has_output = nil
    call('PUBLISH', DONE .. flow, '')
  end
end

local function write_views(now, due_queues)
  repeat  -- a join that is complete is a change itself
    local again = false
    for flow, view in pairs(touched) do
      if view and (#view.changed > 0 or next(view.joins) or next(view.counts) or view.may_have_ended) then
        write_view(flow, view, now, due_queues)
        again = true
      end
    end
  until not again
end

local function publish_news()
  for flow, view in pairs(touched) do
    local news = view and view.news or {}
    if #news > 0 then
      for first = 1, #news, BATCH do
        call('PUBLISH', FLOW_NEWS .. flow, table.concat(news, '\n', first, math.min(first + BATCH - 1, #news)))
      end
    end
  end
end

-- The next thing to do: of this script's agenda, else of older continuations; nil if there is nothing.
local function next_continuation(at, older, now, due_queues)
  if not agenda[at] then
    write_views(now, due_queues)  -- may put joins that are complete on the agenda
  end
  if not agenda[at] and older then
    local waiting = call('LPOP', CONTINUATIONS)
    if waiting then
      local what, number, piece, flow = string.match(waiting, '^(%a)|(%d+)|(%d+)|(.*)$')
      agenda[at] = { what, tonumber(number), tonumber(piece), flow }
    end
  end
  return agenda[at]
end

-- Work on the agenda of this script, then on older continuations; what is left waits for the next claim. Every script that
-- touches a flow ends with this. True if something is left.
function run_continuations(budget, older, now, due_queues)
  local at = 1
  while true do
    budget, looked_up = budget - looked_up, 0
    local continuation = budget > 0 and next_continuation(at, older, now, due_queues)
    if not continuation then
      break
    end
    at = at + 1
    local what, number, piece, flow = continuation[1], continuation[2], continuation[3], continuation[4]
    if what == 'e' then
      budget = budget - settle_piece(number, piece, flow, continuation[5], now, due_queues)
    elseif what == 'c' then
      budget = budget - cancel_pass(number, piece, flow, now, due_queues)
    elseif what == 'z' then
      budget = budget - results_pass(number, flow)
    elseif what == 'p' then
      budget = budget - keep_pass(number, flow)
    elseif what == 'i' then
      budget = budget - reserve_pass(number, flow)
    elseif what == 'd' then
      budget = budget - delete_pass(number, piece, flow)
    else
      budget = budget - reset_pass(number, piece, flow)
    end
  end
  write_views(now, due_queues)
  local rest = {}
  for i = at, #agenda do
    rest[#rest + 1] = agenda[i][1] .. '|' .. agenda[i][2] .. '|' .. agenda[i][3] .. '|' .. agenda[i][4]
  end
  agenda = {}
  write_released(now)
  for first = 1, #rest, BATCH do
    call('RPUSH', CONTINUATIONS, unpack(rest, first, math.min(first + BATCH - 1, #rest)))
  end
  publish_news()
  touched = {}
  return #rest > 0
end

-- Whether a job is a node of a flow that was cancelled.
function is_cancelled(packed)
  local entries = cmsgpack.unpack(packed)
  local entry = entries[#entries]
  local view = entry[1] == 'n' and view_of(entry[2])
  return view and view.kind == 'g' and view.cancelled
end
