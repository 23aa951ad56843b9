-- Releasing a node, the end of a node, and what that means for its children; news of a workflow, and the end of a flow.
-- USES  Score, Lease, Specs, Limits, FlowView

local INLINE = 200           -- children handled in the call that ended their parent

local end_node               -- ends what hangs on it too

local function append(lists, key, first, second)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  local n = #list
  list[n + 1], list[n + 2] = first, second
end

-- Make a job of a node, due at once or when the `when` of its header says. The other arguments are as FlowView.decoded
-- gives them. The job is collected in c.flows.released, and FlowPasses.write_released writes it:
--   payloads  name, payload, name, payload, ...
--   specs     queue -> id, spec, ...
--   scores    queue -> score, id, ...
--   deferred  queue -> when the first of its jobs is due that are not due yet
local function release(c, flow, number, record, header, spec_first, spec_last)
  if FlowView.state_of(c, flow, number) then
    return
  end
  FlowView.set_state(c, flow, number, 'q')
  local k, now, view, flows = c.k, c.now, FlowView.view_of(c, flow), FlowView.flows_of(c)
  local id, queue = FlowView.node_id(c, flow, number), header.queue
  if view.chosen_ids then
    call('DEL', k.RESERVED .. id)
  end
  local released = flows.released
  if not released then
    released = { payloads = {}, specs = {}, scores = {}, deferred = {} }
    flows.released = released
  end
  local payloads, spec = released.payloads, string.sub(record, spec_first, spec_last)
  local n = #payloads
  payloads[n + 1], payloads[n + 2] = k.JOB .. id, string.sub(record, spec_last + 1)
  append(released.specs, queue, id, spec)
  if view.kind == 'w' then
    call('DEL', k.RESULT .. id)  -- of an earlier life of the workflow
  end
  local due = now
  if header.when ~= '' then
    local ms = tonumber(string.sub(header.when, 2))
    due = string.sub(header.when, 1, 1) == '+' and now + ms or ms
  end
  if due <= now and header.limit ~= '' then
    local limits = Specs.limits_of(cmsgpack.unpack(spec))
    Limits.throttle(c, queue, id, limits, Score.in_order(due, header.priority), header.limit, now)
  else
    append(released.scores, queue, Score.score_at(c, queue, id, due, header.priority), id)
  end
  if due <= now then
    c.due_queues[queue] = true
  else
    local deferred = released.deferred
    deferred[queue] = math.min(due, deferred[queue] or due)
  end
  FlowView.count(view, 'q', 1)
  FlowView.tell(view, number, 'q')
end

-- Take a job from its queue that no worker holds. Its node ends with a state of the caller's.
local function withdraw(c, queue, id)
  local k, spec = c.k, Specs.spec_of(c, queue, id)
  Limits.leave_group(c, queue, id)
  if spec then
    Limits.free_limits(c, queue, id, spec, true)
  end
  call('DEL', k.JOB .. id, k.ATTEMPTS .. id, k.LEASE .. id)
  call('ZREM', k.QUEUE .. queue, id)
  call('ZREM', k.PROMOTE .. queue, id)
  call('ZREM', k.ABORTS, id)
  call('PUBLISH', k.DONE .. id, '')
end

-- A workflow has news: its worker is told, or it becomes due if nobody holds it.
local function notify(c, flow)
  local k, now, notified = c.k, c.now, FlowView.flows_of(c).notified
  if notified[flow] then
    return
  end
  notified[flow] = true
  local queue = call('HGET', k.FLOW .. flow, 'queue')
  local lease = call('GET', k.LEASE .. flow)
  local worker = Lease.worker_of(lease)
  if worker and Lease.is_leased(lease, now) then
    call('PUBLISH', k.WORKER .. worker, 'flow ' .. flow)
    return
  end
  local score = queue and tonumber(call('ZSCORE', k.QUEUE .. queue, flow) or 0) or 0
  if score > now and score ~= THROTTLED_SCORE then
    call('ZREM', k.PROMOTE .. queue, flow)
    call('ZADD', k.QUEUE .. queue, 'XX', Score.in_order(now, Score.priority_of(score)), flow)
    c.due_queues[queue] = true
  end
end

-- The code of a worker fits the history of a workflow again, or it does not matter any more (`block.lua`).
local function unblock(c, flow, queue)
  if call('HDEL', c.k.FLOW .. flow, 'blocked', 'blocked_by') > 0 then
    call('ZREM', c.k.BLOCKED .. queue, flow)
  end
end

-- All nodes of a graph have ended, or a workflow has. What its nodes left behind, and their results, are continuations;
-- the last one gives the flow's record a TTL.
local function end_flow(c, flow)
  local k, now = c.k, c.now
  local name = k.FLOW .. flow
  local kind, keep_ms = unpack(call('HMGET', name, 'kind', 'keep'))
  call('HSET', name, 'state', 'ended', 'ended', now)
  local view = FlowView.view_of(c, flow)
  view.state = 'ended'
  call('ZREM', k.FLOWS, flow)
  call('ZADD', k.ENDED_FLOWS, now + keep_ms, flow)
  call('ZREMRANGEBYSCORE', k.ENDED_FLOWS, '-inf', now)
  if call('PTTL', k.ENDED_FLOWS) < tonumber(keep_ms) then
    call('PEXPIRE', k.ENDED_FLOWS, keep_ms)
  end
  if kind == 'w' then
    unblock(c, flow, call('HGET', name, 'queue') or '')
    FlowView.add_continuation(c, 'c', 1, tonumber(call('HGET', name, 'nodes') or 0), flow)
  end
  FlowView.add_continuation(c, 'z', 1, 0, flow)
  call('PUBLISH', k.DONE .. flow, '')
  FlowView.tell(view, 0, 'ended')
end

-- A join has ended; it is no job and is counted nowhere.
local function end_join(c, flow, number, state)
  FlowView.set_state(c, flow, number, state)
  call('HDEL', c.k.PENDING .. flow, number)
  FlowView.add_continuation(c, 'e', number, 0, flow)
end

-- The state in which a child ends because of how its parent ended; nil if it does not end: it may run, or it goes on
-- waiting for other parents.
local function state_by_parent(view, header, parent, parent_state)
  local letter = string.sub(parent_state, 1, 1)
  if view.cancelled then
    return 'd'
  elseif header.runs == 'error' then
    return (letter == 'c' or letter == 's') and 's' or nil
  elseif letter == 's' then
    return 's'
  elseif letter ~= 'c' and header.on_failure == 'fail' then
    return 'u' .. (letter == 'u' and string.sub(parent_state, 2) or parent)
  end
end

-- A parent has ended, and its child learns of it: it is released, a join counts the parent, or a failure is passed on.
-- A child that has a state already is left alone.
local function pass_on(c, flow, parent, parent_state, child, record)
  if FlowView.state_of(c, flow, child) then
    return
  end
  local view = FlowView.view_of(c, flow)
  local header, spec_first, spec_last = view.headers[child], nil, nil
  if not header then
    record = view.records[child] or record or call('HGET', c.k.NODES .. flow, child)
    header, spec_first, spec_last = FlowView.decoded(c, record)
  end
  local state = state_by_parent(view, header, parent, parent_state)
  if header.kind == 'join' then
    view.headers[child] = header
    if state then
      end_join(c, flow, child, state)
    else
      view.joins[child] = (view.joins[child] or 0) + 1
    end
  elseif state then
    end_node(c, flow, child, state)
  else
    release(c, flow, child, record, header, spec_first, spec_last)
  end
end

-- Whether the only child of a node is a join. If it is not known, the child's record is read, as long as the call has
-- not read as many as it may.
local function is_join(c, view, flow, child)
  if view.headers[child] then
    return true
  end
  local flows = FlowView.flows_of(c)
  if view.records[child] or flows.looked_up >= INLINE then
    return false
  end
  flows.looked_up = flows.looked_up + 1
  local header, record = FlowView.node_of(c, flow, child)
  if header and header.kind == 'join' then
    view.headers[child] = header
    return true
  end
  view.records[child] = record
  return false
end

-- A node has ended: write it down, and pass that on to what hangs on it. A join that is the only child counts it at
-- once. All other children are a matter for the agenda. So is that join if something is on the agenda already: a join
-- goes by the parents in the order in which they ended.
--
-- only_child: 0 it has none, a number the only one, nil if that is not known
function end_node(c, flow, number, state, only_child)
  local view = FlowView.view_of(c, flow)
  local before = view and view.states[number]
  if not view or (before and before ~= 'q') then
    return  -- forgotten, or it has ended in this very call
  end
  FlowView.set_state(c, flow, number, state)
  FlowView.tell(view, number, state)
  if view.kind == 'w' then
    if view.state == 'ended' then
      return  -- what a workflow left behind
    end
    call('RPUSH', c.k.LOG .. flow, 's ' .. number .. ' ' .. string.format('%.0f', c.now) .. ' ' .. state)
    return notify(c, flow)
  end
  if view.chosen_ids then
    call('DEL', c.k.RESERVED .. FlowView.node_id(c, flow, number))
  end
  if only_child ~= 0 then
    if only_child and #FlowView.flows_of(c).agenda == 0 and is_join(c, view, flow, only_child) then
      pass_on(c, flow, number, state, only_child, nil)
    else
      FlowView.add_continuation(c, 'e', number, 0, flow, only_child)
    end
  end
  FlowView.count(view, string.sub(state, 1, 1), 1)
  FlowView.count(view, 'left', -1)
end

-- A node has ended, and a piece of its children learns of it. Returns how many it has handled, as passes do.
local function children_pass(c, number, piece, flow, only_child)
  local view = FlowView.view_of(c, flow)
  local state = view and FlowView.state_of(c, flow, number)
  if not state then
    return 1
  end
  if only_child then
    pass_on(c, flow, number, state, only_child, nil)
    return 1
  end
  local k = c.k
  local packed = call('HGET', k.NODES .. flow, number .. 'c' .. piece)
  if not packed then
    return 1
  end
  local children = cmsgpack.unpack(packed)
  local has_more = table.remove(children, 1) == 1
  if has_more then
    FlowView.add_continuation(c, 'e', number, piece + 1, flow)
  end
  if #children > 0 then
    local records = call('HMGET', k.NODES .. flow, unpack(children))
    FlowView.note_states(view, children, call('HMGET', k.STATES .. flow, unpack(children)))
    for i, child in ipairs(children) do
      pass_on(c, flow, number, state, child, records[i])
    end
  end
  return #children + 1
end

return {
  INLINE = INLINE,
  release = release,
  withdraw = withdraw,
  notify = notify,
  unblock = unblock,
  end_flow = end_flow,
  end_join = end_join,
  end_node = end_node,
  children_pass = children_pass,
}
