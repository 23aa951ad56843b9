-- What a call knows of flows, releasing a node, the end of a node and of a flow, settling children.
-- USES  Score, Lease, Specs, Limits

local INLINE = 200           -- children handled in the call that ended their parent

local end_node               -- ends what hangs on it too

-- What the call knows and changes of flows:
--   agenda         what is left to do: { what, number, piece, flow, the only child if it is known }
--   touched        flow -> what the call knows and changes of it: see `view_of`
--   released       what is written of released nodes: payloads, and for each queue specs and scores
--   notified       workflows whose worker was told in this call
--   looked_up      only children of which the record was read when their parent ended
--   known_headers  text -> header: the nodes of a group have the same
local function flows_of(c)
  local flows = c.flows
  if not flows then
    flows = { agenda = {}, touched = {}, released = {}, notified = {}, looked_up = 0, known_headers = {} }
    c.flows = flows
  end
  return flows
end

local function flow_exists(c, flow)
  return call('EXISTS', c.k.FLOW .. flow) == 1
end

-- What this script knows of a flow. Many nodes of one flow end in one script: states, counts and joins are gathered
-- here, and written once, by `write_view`. False if there is no such flow.
local function view_of(c, flow)
  local view = flows_of(c).touched[flow]
  if view == nil then
    local kind, state, output, cancelled, ids =
      unpack(call('HMGET', c.k.FLOW .. flow, 'kind', 'state', 'output', 'cancelled', 'ids'))
    view = kind and {
      kind = kind, state = state, output = tonumber(output), cancelled = cancelled, chosen_ids = ids,
      listened_to = call('PUBSUB', 'NUMSUB', c.k.FLOW_NEWS .. flow)[2] > 0,
      states = {}, changed = {}, counts = {}, joins = {}, headers = {}, news = {},
    }
    flows_of(c).touched[flow] = view
    if not view then
      call('ZREM', c.k.FLOWS, flow)
    end
  end
  return view
end

local function state_of(c, flow, number)
  local view = view_of(c, flow)
  local state = view.states[number]
  if state == nil then
    state = call('HGET', c.k.STATES .. flow, number)
    view.states[number] = state
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

-- Chores of a flow are left: a worker of each of its queues may do them.
local function mark_its_queues(c, flow)
  for queue in string.gmatch(call('HGET', c.k.FLOW .. flow, 'queues') or '', '[^\n]+') do
    c.due_queues[queue] = true
  end
end

local function node_id(c, flow, number)
  local chosen = view_of(c, flow).chosen_ids and call('HGET', c.k.NODES .. flow, number .. 'i')
  return chosen or flow .. NODE_SEPARATOR .. number
end

local function count(view, field, by)
  local counts = view.counts
  counts[field] = (counts[field] or 0) + by
end


local function decoded(c, record)
  local header_end = 4 + tonumber(string.sub(record, 1, 4))
  local text = string.sub(record, 5, header_end)
  local header = flows_of(c).known_headers[text]
  if not header then
    header = cmsgpack.unpack(text)
    flows_of(c).known_headers[text] = header
  end
  local spec_end = header_end + 5 + tonumber(string.sub(record, header_end + 1, header_end + 5))
  return {
    kind = header[1], runs = header[2], on_failure = header[3], queue = header[4], priority = header[5],
    limit = header[6], when = header[7], record = record, spec_at = header_end + 6, spec_end = spec_end,
  }
end

local function node_of(c, flow, number)
  local record = call('HGET', c.k.NODES .. flow, number)
  return record and decoded(c, record) or nil
end

local function tell(c, flow, number, state)
  local view = view_of(c, flow)
  if view.listened_to then
    view.news[#view.news + 1] = number .. ' ' .. state
  end
end

local function append(lists, key, first, second)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  local n = #list
  list[n + 1], list[n + 2] = first, second
end

-- Make a job of a node, due at once or when its `when` says.
local function release(c, flow, number, node)
  if state_of(c, flow, number) then
    return
  end
  set_state(c, flow, number, 'q')
  local id, queue = node_id(c, flow, number), node.queue
  if view_of(c, flow).chosen_ids then
    call('DEL', c.k.RESERVED .. id)
  end
  append(flows_of(c).released, 'payloads', c.k.JOB .. id, string.sub(node.record, node.spec_end + 1))
  append(flows_of(c).released, c.k.SPECS .. queue, id, string.sub(node.record, node.spec_at, node.spec_end))
  if view_of(c, flow).kind == 'w' then
    call('DEL', c.k.RESULT .. id)  -- of an earlier life of the workflow
  end
  local due = c.now
  if node.when ~= '' then
    local ms = tonumber(string.sub(node.when, 2))
    due = string.sub(node.when, 1, 1) == '+' and c.now + ms or ms
  end
  if due <= c.now and node.limit ~= '' then
    local limits = Specs.limits_of(cmsgpack.unpack(string.sub(node.record, node.spec_at, node.spec_end)))
    Limits.throttle(c, queue, id, limits, Score.in_order(due, node.priority), node.limit, c.now)
  else
    append(flows_of(c).released, queue, Score.score_at(c, queue, id, due, node.priority), id)
  end
  if due <= c.now then
    c.due_queues[queue] = true
  else
    flows_of(c).released.deferred = flows_of(c).released.deferred or {}
    flows_of(c).released.deferred[queue] = math.min(due, flows_of(c).released.deferred[queue] or due)
  end
  count(view_of(c, flow), 'q', 1)
  tell(c, flow, number, 'q')
end

-- A workflow has news: its worker is told, or it becomes due if nobody holds it.
local function notify(c, flow)
  if flows_of(c).notified[flow] then
    return
  end
  flows_of(c).notified[flow] = true
  local queue = call('HGET', c.k.FLOW .. flow, 'queue')
  local lease = call('GET', c.k.LEASE .. flow)
  if Lease.worker_of(lease) and Lease.is_leased(lease, c.now) then
    call('PUBLISH', c.k.WORKER .. Lease.worker_of(lease), 'flow ' .. flow)
    return
  end
  local score = queue and tonumber(call('ZSCORE', c.k.QUEUE .. queue, flow) or 0) or 0
  if score > c.now and score ~= THROTTLED_SCORE then
    call('ZREM', c.k.PROMOTE .. queue, flow)
    call('ZADD', c.k.QUEUE .. queue, 'XX', Score.in_order(c.now, Score.priority_of(score)), flow)
    c.due_queues[queue] = true
  end
end

-- The code of a worker fits the history of a workflow again, or it does not matter any more (`block.lua`).
local function unblock(c, flow, queue)
  if call('HDEL', c.k.FLOW .. flow, 'blocked', 'blocked_by') > 0 then
    call('ZREM', c.k.BLOCKED .. queue, flow)
  end
end

-- All nodes of a graph have ended, or a workflow has. Results, and what is left of it, are continuations; the last one gives its
-- record a TTL.
local function end_flow(c, flow)
  local name = c.k.FLOW .. flow
  local kind, keep_ms = unpack(call('HMGET', name, 'kind', 'keep'))
  call('HSET', name, 'state', 'ended', 'ended', c.now)
  local view = view_of(c, flow)
  view.state = 'ended'
  call('ZREM', c.k.FLOWS, flow)
  call('ZADD', c.k.ENDED_FLOWS, c.now + keep_ms, flow)
  call('ZREMRANGEBYSCORE', c.k.ENDED_FLOWS, '-inf', c.now)
  if call('PTTL', c.k.ENDED_FLOWS) < tonumber(keep_ms) then
    call('PEXPIRE', c.k.ENDED_FLOWS, keep_ms)
  end
  if kind == 'w' then
    unblock(c, flow, call('HGET', name, 'queue') or '')
    flows_of(c).agenda[#flows_of(c).agenda + 1] = { 'c', 1, tonumber(call('HGET', name, 'nodes') or 0), flow }
  end
  flows_of(c).agenda[#flows_of(c).agenda + 1] = { 'z', 1, 0, flow }
  call('PUBLISH', c.k.DONE .. flow, '')
  tell(c, flow, 0, 'ended')
end

-- A join has ended; it is no job and is counted nowhere.
local function end_join(c, flow, number, state)
  set_state(c, flow, number, state)
  call('HDEL', c.k.PENDING .. flow, number)
  flows_of(c).agenda[#flows_of(c).agenda + 1] = { 'e', number, 0, flow }
end

-- A parent has ended: what that means for one child.
local function settle(c, flow, parent, state, child, record)
  if state_of(c, flow, child) then
    return
  end
  local view = view_of(c, flow)
  local node = view.headers[child] or (record and decoded(c, record)) or node_of(c, flow, child)
  local letter = string.sub(state, 1, 1)
  local verdict
  if view.cancelled then
    verdict = 'd'
  elseif node.runs == 'error' then
    verdict = (letter == 'c' or letter == 's') and 's' or nil
  elseif letter == 's' then
    verdict = 's'
  elseif letter ~= 'c' and node.on_failure == 'fail' then
    verdict = 'u' .. (letter == 'u' and string.sub(state, 2) or parent)
  end
  if node.kind == 'join' then
    view.headers[child] = node
    if verdict then
      end_join(c, flow, child, verdict)
    else
      view.joins[child] = (view.joins[child] or 0) + 1
    end
  elseif verdict then
    end_node(c, flow, child, verdict)
  else
    release(c, flow, child, node)
  end
end

-- If the only child is a join, that a parent of it has ended is told it at once; else it is a matter for the flows_of(c).agenda. So it
-- is if the script has read as many children as it may, and behind what is on the flows_of(c).agenda already: a join goes by the
-- parents in the order in which they ended.
local function count_down(c, view, flow, parent, state, child)
  local node = view.headers[child]
  if not node then
    if flows_of(c).looked_up >= INLINE then
      return false
    end
    flows_of(c).looked_up = flows_of(c).looked_up + 1
    node = node_of(c, flow, child)
    view.headers[child] = node
  end
  if node and node.kind == 'join' then
    settle(c, flow, parent, state, child, nil)
    return true
  end
end

-- A node has ended: write it down, and settle what hangs on it.
--
-- only_child: 0 it has none, a number the only one, nil if that is not known
function end_node(c, flow, number, state, only_child)
  local view = view_of(c, flow)
  local before = view and view.states[number]
  if not view or (before and before ~= 'q') then
    return  -- forgotten, or it has ended in this very script
  end
  set_state(c, flow, number, state)
  tell(c, flow, number, state)
  if view.kind == 'w' then
    if view.state == 'ended' then
      return  -- what a workflow left behind
    end
    call('RPUSH', c.k.LOG .. flow, 's ' .. number .. ' ' .. string.format('%.0f', c.now) .. ' ' .. state)
    return notify(c, flow)
  end
  if view.chosen_ids then
    call('DEL', c.k.RESERVED .. node_id(c, flow, number))
  end
  local at_once = only_child and #flows_of(c).agenda == 0
  if only_child ~= 0 and not (at_once and count_down(c, view, flow, number, state, only_child)) then
    flows_of(c).agenda[#flows_of(c).agenda + 1] = { 'e', number, 0, flow, only_child }
  end
  count(view, string.sub(state, 1, 1), 1)
  count(view, 'left', -1)
end

local function settle_piece(c, number, piece, flow, only_child)
  local state = view_of(c, flow) and state_of(c, flow, number)
  if not state then
    return 1
  end
  if only_child then
    settle(c, flow, number, state, only_child, nil)
    return 1
  end
  local packed = call('HGET', c.k.NODES .. flow, number .. 'c' .. piece)
  if not packed then
    return 1
  end
  local children = cmsgpack.unpack(packed)
  if children[1] == 1 then
    flows_of(c).agenda[#flows_of(c).agenda + 1] = { 'e', number, piece + 1, flow }
  end
  if #children > 1 then
    local records = call('HMGET', c.k.NODES .. flow, unpack(children, 2))
    local known = view_of(c, flow).states
    for i, child_state in ipairs(call('HMGET', c.k.STATES .. flow, unpack(children, 2))) do
      if known[children[i + 1]] == nil then
        known[children[i + 1]] = child_state
      end
    end
    for i = 2, #children do
      settle(c, flow, number, state, children[i], records[i - 1])
    end
  end
  return #children
end

-- Take a job from its queue that no worker holds. Its node ends with a state of the caller's.
local function withdraw(c, queue, id)
  local spec = Specs.spec_of(c, queue, id)
  Limits.leave_group(c, queue, id)
  if spec then
    Limits.give_back(c, queue, id, spec, true)
  end
  call('DEL', c.k.JOB .. id, c.k.ATTEMPTS .. id, c.k.LEASE .. id)
  call('ZREM', c.k.QUEUE .. queue, id)
  call('ZREM', c.k.PROMOTE .. queue, id)
  call('ZREM', c.k.ABORTS, id)
  call('PUBLISH', c.k.DONE .. id, '')
end

return {
  INLINE = INLINE,
  flows_of = flows_of,
  exists = flow_exists,
  view_of = view_of,
  state_of = state_of,
  set_state = set_state,
  mark_its_queues = mark_its_queues,
  node_id = node_id,
  count = count,
  decoded = decoded,
  node_of = node_of,
  release = release,
  notify = notify,
  unblock = unblock,
  end_flow = end_flow,
  end_join = end_join,
  end_node = end_node,
  tell = tell,
  settle_piece = settle_piece,
  withdraw = withdraw,
}
