-- Part of _flow: what a script knows of flows, releasing a node, the end of a node and of a flow, settling children.

function flow_exists(flow)
  return call('EXISTS', FLOW .. flow) == 1
end

-- What this script knows of a flow. Many nodes of one flow end in one script: states, counts and joins are gathered
-- here, and written once, by `write_view`. False if there is no such flow.
function view_of(flow)
  local view = touched[flow]
  if view == nil then
    local kind, state, output, cancelled, ids =
      unpack(call('HMGET', FLOW .. flow, 'kind', 'state', 'output', 'cancelled', 'ids'))
    view = kind and {
      kind = kind, state = state, output = tonumber(output), cancelled = cancelled, chosen_ids = ids,
      listened_to = call('PUBSUB', 'NUMSUB', FLOW_NEWS .. flow)[2] > 0,
      states = {}, changed = {}, counts = {}, joins = {}, headers = {}, news = {},
    }
    touched[flow] = view
    if not view then
      call('ZREM', FLOWS, flow)
    end
  end
  return view
end

function state_of(flow, number)
  local view = view_of(flow)
  local state = view.states[number]
  if state == nil then
    state = call('HGET', STATES .. flow, number)
    view.states[number] = state
  end
  return state
end

function set_state(flow, number, state)
  local view = view_of(flow)
  view.states[number] = state
  local changed = view.changed
  local n = #changed
  changed[n + 1], changed[n + 2] = number, state
  if view.output == number and state ~= 'q' then
    view.has_output, view.may_have_ended = true, true
  end
end

-- Chores of a flow are left: a worker of each of its queues may do them.
function mark_its_queues(flow, due_queues)
  for queue in string.gmatch(call('HGET', FLOW .. flow, 'queues') or '', '[^\n]+') do
    due_queues[queue] = true
  end
end

local function node_id(flow, number)
  local chosen = view_of(flow).chosen_ids and call('HGET', NODES .. flow, number .. 'i')
  return chosen or flow .. NODE_SEPARATOR .. number
end

local function count(view, field, by)
  local counts = view.counts
  counts[field] = (counts[field] or 0) + by
end

local looked_up = 0          -- only children of which the record was read when their parent ended
local known_headers = {}     -- text -> header: the nodes of a group have the same

function decoded(record)
  local header_end = 4 + tonumber(string.sub(record, 1, 4))
  local text = string.sub(record, 5, header_end)
  local header = known_headers[text]
  if not header then
    header = cmsgpack.unpack(text)
    known_headers[text] = header
  end
  local spec_end = header_end + 5 + tonumber(string.sub(record, header_end + 1, header_end + 5))
  return {
    kind = header[1], runs = header[2], on_failure = header[3], queue = header[4], priority = header[5],
    limit = header[6], when = header[7], record = record, spec_at = header_end + 6, spec_end = spec_end,
  }
end

function node_of(flow, number)
  local record = call('HGET', NODES .. flow, number)
  return record and decoded(record) or nil
end

local function tell(flow, number, state)
  local view = view_of(flow)
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
function release(flow, number, node, now, due_queues)
  if state_of(flow, number) then
    return
  end
  set_state(flow, number, 'q')
  local id, queue = node_id(flow, number), node.queue
  if view_of(flow).chosen_ids then
    call('DEL', RESERVED .. id)
  end
  append(released, 'payloads', JOB .. id, string.sub(node.record, node.spec_end + 1))
  append(released, SPECS .. queue, id, string.sub(node.record, node.spec_at, node.spec_end))
  if view_of(flow).kind == 'w' then
    call('DEL', RESULT .. id)  -- of an earlier life of the workflow
  end
  local due = now
  if node.when ~= '' then
    local ms = tonumber(string.sub(node.when, 2))
    due = string.sub(node.when, 1, 1) == '+' and now + ms or ms
  end
  if due <= now and node.limit ~= '' then
    local limits = limits_of(cmsgpack.unpack(string.sub(node.record, node.spec_at, node.spec_end)))
    Limits.throttle(queue, id, limits, in_order(due, node.priority), node.limit, now)
  else
    append(released, queue, score_at(queue, id, due, node.priority, now), id)
  end
  if due <= now then
    due_queues[queue] = true
  else
    released.deferred = released.deferred or {}
    released.deferred[queue] = math.min(due, released.deferred[queue] or due)
  end
  count(view_of(flow), 'q', 1)
  tell(flow, number, 'q')
end

-- A workflow has news: its worker is told, or it becomes due if nobody holds it.
function notify(flow, now, due_queues)
  if notified[flow] then
    return
  end
  notified[flow] = true
  local queue = call('HGET', FLOW .. flow, 'queue')
  local lease = call('GET', LEASE .. flow)
  if worker_of(lease) and is_leased(lease, now) then
    call('PUBLISH', WORKER .. worker_of(lease), 'flow ' .. flow)
    return
  end
  local score = queue and tonumber(call('ZSCORE', QUEUE .. queue, flow) or 0) or 0
  if score > now and score ~= THROTTLED_SCORE then
    call('ZREM', PROMOTE .. queue, flow)
    call('ZADD', QUEUE .. queue, 'XX', in_order(now, priority_of(score)), flow)
    due_queues[queue] = true
  end
end

-- The code of a worker fits the history of a workflow again, or it does not matter any more (`block.lua`).
function unblock(flow, queue)
  if call('HDEL', FLOW .. flow, 'blocked', 'blocked_by') > 0 then
    call('ZREM', BLOCKED .. queue, flow)
  end
end

-- All nodes of a graph have ended, or a workflow has. Results, and what is left of it, are continuations; the last one gives its
-- record a TTL.
function end_flow(flow, now, due_queues)
  local name = FLOW .. flow
  local kind, keep_ms = unpack(call('HMGET', name, 'kind', 'keep'))
  call('HSET', name, 'state', 'ended', 'ended', now)
  local view = view_of(flow)
  view.state = 'ended'
  call('ZREM', FLOWS, flow)
  call('ZADD', ENDED_FLOWS, now + keep_ms, flow)
  call('ZREMRANGEBYSCORE', ENDED_FLOWS, '-inf', now)
  if call('PTTL', ENDED_FLOWS) < tonumber(keep_ms) then
    call('PEXPIRE', ENDED_FLOWS, keep_ms)
  end
  if kind == 'w' then
    unblock(flow, call('HGET', name, 'queue') or '')
    agenda[#agenda + 1] = { 'c', 1, tonumber(call('HGET', name, 'nodes') or 0), flow }
  end
  agenda[#agenda + 1] = { 'z', 1, 0, flow }
  call('PUBLISH', DONE .. flow, '')
  tell(flow, 0, 'ended')
end

-- A join has ended; it is no job and is counted nowhere.
local function end_join(flow, number, state)
  set_state(flow, number, state)
  call('HDEL', PENDING .. flow, number)
  agenda[#agenda + 1] = { 'e', number, 0, flow }
end

-- A parent has ended: what that means for one child.
local function settle(flow, parent, state, child, record, now, due_queues)
  if state_of(flow, child) then
    return
  end
  local view = view_of(flow)
  local node = view.headers[child] or (record and decoded(record)) or node_of(flow, child)
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
      end_join(flow, child, verdict)
    else
      view.joins[child] = (view.joins[child] or 0) + 1
    end
  elseif verdict then
    end_node(flow, child, verdict, now, due_queues)
  else
    release(flow, child, node, now, due_queues)
  end
end

-- If the only child is a join, that a parent of it has ended is told it at once; else it is a matter for the agenda. So it
-- is if the script has read as many children as it may, and behind what is on the agenda already: a join goes by the
-- parents in the order in which they ended.
local function count_down(view, flow, parent, state, child, now, due_queues)
  local node = view.headers[child]
  if not node then
    if looked_up >= INLINE then
      return false
    end
    looked_up = looked_up + 1
    node = node_of(flow, child)
    view.headers[child] = node
  end
  if node and node.kind == 'join' then
    settle(flow, parent, state, child, nil, now, due_queues)
    return true
  end
end

-- A node has ended: write it down, and settle what hangs on it.
--
-- only_child: 0 it has none, a number the only one, nil if that is not known
function end_node(flow, number, state, now, due_queues, only_child)
  local view = view_of(flow)
  local before = view and view.states[number]
  if not view or (before and before ~= 'q') then
    return  -- forgotten, or it has ended in this very script
  end
  set_state(flow, number, state)
  tell(flow, number, state)
  if view.kind == 'w' then
    if view.state == 'ended' then
      return  -- what a workflow left behind
    end
    call('RPUSH', LOG .. flow, 's ' .. number .. ' ' .. string.format('%.0f', now) .. ' ' .. state)
    return notify(flow, now, due_queues)
  end
  if view.chosen_ids then
    call('DEL', RESERVED .. node_id(flow, number))
  end
  local at_once = only_child and #agenda == 0
  if only_child ~= 0 and not (at_once and count_down(view, flow, number, state, only_child, now, due_queues)) then
    agenda[#agenda + 1] = { 'e', number, 0, flow, only_child }
  end
  count(view, string.sub(state, 1, 1), 1)
  count(view, 'left', -1)
end

local function settle_piece(number, piece, flow, only_child, now, due_queues)
  local state = view_of(flow) and state_of(flow, number)
  if not state then
    return 1
  end
  if only_child then
    settle(flow, number, state, only_child, nil, now, due_queues)
    return 1
  end
  local packed = call('HGET', NODES .. flow, number .. 'c' .. piece)
  if not packed then
    return 1
  end
  local children = cmsgpack.unpack(packed)
  if children[1] == 1 then
    agenda[#agenda + 1] = { 'e', number, piece + 1, flow }
  end
  if #children > 1 then
    local records = call('HMGET', NODES .. flow, unpack(children, 2))
    local known = view_of(flow).states
    for i, child_state in ipairs(call('HMGET', STATES .. flow, unpack(children, 2))) do
      if known[children[i + 1]] == nil then
        known[children[i + 1]] = child_state
      end
    end
    for i = 2, #children do
      settle(flow, number, state, children[i], records[i - 1], now, due_queues)
    end
  end
  return #children
end

-- Take a job from its queue that no worker holds. Its node ends with a state of the caller's.
local function withdraw(queue, id, now, due_queues)
  local spec = spec_of(queue, id)
  Limits.leave_group(queue, id)
  if spec then
    Limits.give_back(queue, id, spec, now, true, due_queues)
  end
  call('DEL', JOB .. id, ATTEMPTS .. id, LEASE .. id)
  call('ZREM', QUEUE .. queue, id)
  call('ZREM', PROMOTE .. queue, id)
  call('ZREM', ABORTS, id)
  call('PUBLISH', DONE .. id, '')
end
