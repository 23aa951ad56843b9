-- Work on all nodes of a flow, a piece at a time.
-- USES  Lease, Wake, FlowNodes

local FORCED = 0.5           -- in the score of an abort: a worker obeys whether or not it allows aborts
local RESERVED_TTL_MS = 30 * 86400000
local PASS = 100             -- nodes looked at in one step of a pass over all of them

local function in_pieces(command, key, list)
  for first = 1, #list, BATCH do
    if key then
      call(command, key, unpack(list, first, math.min(first + BATCH - 1, #list)))
    else
      call(command, unpack(list, first, math.min(first + BATCH - 1, #list)))
    end
  end
end

-- Write the jobs of FlowNodes.flows_of(c).released nodes.
local function write_released(c)
  local payloads, deferred = FlowNodes.flows_of(c).released.payloads, FlowNodes.flows_of(c).released.deferred or {}
  if not payloads then
    return
  end
  FlowNodes.flows_of(c).released.payloads, FlowNodes.flows_of(c).released.deferred = nil, nil
  in_pieces('MSET', nil, payloads)
  for key, list in pairs(FlowNodes.flows_of(c).released) do
    if string.sub(key, 1, #c.k.SPECS) == c.k.SPECS then
      in_pieces('HSET', key, list)
    else
      in_pieces('ZADD', c.k.QUEUE .. key, list)
    end
  end
  FlowNodes.flows_of(c).released = {}
  for queue, due in pairs(deferred) do
    Wake.announce_deferred(c, queue, due)
  end
end

-- Abort the job of a FlowNodes.flows_of(c).released node: whoever runs it is told, else it is taken from its queue.
local function abort_node(c, flow, number, node)
  write_released(c)  -- it may be one of this very script
  local id = FlowNodes.node_id(c, flow, number)
  local lease = call('GET', c.k.LEASE .. id)
  if Lease.worker_of(lease) and Lease.is_leased(lease, c.now) then
    call('ZADD', c.k.ABORTS, c.now + FORCED, id)
    call('PUBLISH', c.k.WORKER .. Lease.worker_of(lease), 'abort! ' .. id)
  elseif FlowNodes.exists(c, id) and call('HGET', c.k.FLOW .. id, 'kind') == 'w' then
    call('ZADD', c.k.ABORTS, c.now + FORCED, id)  -- a workflow that waits: it is to abort its own steps
    call('ZADD', c.k.QUEUE .. node.queue, 'XX', c.now, id)
    c.due_queues[node.queue] = true
  elseif call('ZSCORE', c.k.QUEUE .. node.queue, id) then
    FlowNodes.withdraw(c, node.queue, id)
    FlowNodes.end_node(c, flow, number, 'a')
  end
end

-- Abort a job of a graph that was not FlowNodes.flows_of(c).released yet, by its id: its node ends, and what hangs on it. False if it is none.
local function abort_unreleased(c, id)
  local number, flow = string.match(call('GET', c.k.RESERVED .. id) or '', '^%S+ (%d+) (.+)$')
  if not flow then
    flow, number = string.match(id, '^(.+)' .. NODE_SEPARATOR .. '(%d+)$')
  end
  local view = flow and FlowNodes.exists(c, flow) and FlowNodes.view_of(c, flow)
  if not view or view.kind ~= 'g' or view.state ~= 'running' then
    return false
  end
  number = tonumber(number)
  local state, node = FlowNodes.state_of(c, flow, number), FlowNodes.node_of(c, flow, number)
  if not node or node.kind ~= 'job' or FlowNodes.node_id(c, flow, number) ~= id then
    return false
  end
  if state then
    return state == 'a' and call('EXISTS', c.k.RESULT .. id) == 0  -- by this very call, sent before
  end
  FlowNodes.count(view, 'q', 1)  -- as of one that was FlowNodes.flows_of(c).released and taken from its queue at once
  FlowNodes.end_node(c, flow, number, 'a')
  FlowNodes.mark_its_queues(c, flow)
  call('PUBLISH', c.k.DONE .. id, '')
  return true
end

local function read_states(c, flow, first, last)
  local numbers, known = {}, FlowNodes.view_of(c, flow).states
  for number = first, last do
    numbers[#numbers + 1] = number
  end
  for i, state in ipairs(#numbers > 0 and call('HMGET', c.k.STATES .. flow, unpack(numbers)) or {}) do
    if known[numbers[i]] == nil then
      known[numbers[i]] = state
    end
  end
end

-- Nodes that wait are dropped, those in a queue are taken from it, those that run are told to abort.
local function cancel_pass(c, first, until_number, flow)
  local view = FlowNodes.view_of(c, flow)
  if not view or (view.kind == 'g' and not view.cancelled) or (view.kind == 'w' and view.state == 'running') then
    return 1  -- another round has begun, or it was resumed
  end
  local total = until_number > 0 and until_number or call('HGET', c.k.FLOW .. flow, 'nodes')
  local last = math.min(tonumber(total or 0), first + PASS - 1)
  read_states(c, flow, first, last)
  for number = first, last do
    local state = FlowNodes.state_of(c, flow, number)
    local node = (not state or state == 'q') and FlowNodes.node_of(c, flow, number) or nil
    if node and node.kind == 'join' then
      FlowNodes.set_state(c, flow, number, 'd')
    elseif node and node.kind == 'job' and not state then
      FlowNodes.end_node(c, flow, number, 'd')
    elseif node and node.kind == 'job' then
      abort_node(c, flow, number, node)
    end
  end
  if last < tonumber(total or 0) then
    FlowNodes.flows_of(c).agenda[#FlowNodes.flows_of(c).agenda + 1] = { 'c', last + 1, until_number, flow }
  end
  return last - first + 1
end

-- The flow has ended: its nodes' results are kept as long as its record.
local function results_pass(c, first, flow)
  local view = FlowNodes.view_of(c, flow)
  if not view or view.state ~= 'ended' then
    return 1
  end
  local total, keep_ms = unpack(call('HMGET', c.k.FLOW .. flow, 'nodes', 'keep'))
  total = total or '0'
  local last = math.min(tonumber(total), first + PASS - 1)
  read_states(c, flow, first, last)
  local is_resumable = view.kind == 'w' and call('HEXISTS', c.k.FLOW .. flow, 'fault') == 1  -- it needs all results then
  local ids, ttls, histories = {}, {}, {}
  for number = first, last do
    local letter, ttl = string.match(FlowNodes.state_of(c, flow, number) or '', '^(%a)(%p?%d*)')
    if letter == 'c' or letter == 'f' or letter == 'a' or letter == 'x' then
      local n = #ids + 1
      ids[n], ttls[n] = FlowNodes.node_id(c, flow, number), ttl
      histories[n] = c.k.ERRORS .. ids[n]
    end
  end
  -- Hardly any has one, so one question saves a command for each.
  local have_history = #ids > 0 and call('EXISTS', unpack(histories)) > 0
  for i, id in ipairs(ids) do
    if ttls[i] == '0' and not is_resumable then
      call('DEL', c.k.RESULT .. id, histories[i])
    elseif ttls[i] ~= '!' then
      call('PEXPIRE', c.k.RESULT .. id, keep_ms)
      if have_history then
        call('PEXPIRE', histories[i], keep_ms)
      end
    end
  end
  if last < tonumber(total) then
    FlowNodes.flows_of(c).agenda[#FlowNodes.flows_of(c).agenda + 1] = { 'z', last + 1, 0, flow }
  else
    for _, prefix in ipairs({ c.k.FLOW, c.k.NODES, c.k.STATES, c.k.PENDING, c.k.LOG }) do
      call('PEXPIRE', prefix .. flow, keep_ms)
    end
  end
  return last - first + 1
end

-- Another round has begun: the results that it keeps have no TTL meanwhile.
local function keep_pass(c, first, flow)
  local total, state = unpack(call('HMGET', c.k.FLOW .. flow, 'nodes', 'state'))
  if not total or state ~= 'running' then
    return 1
  end
  local last = math.min(tonumber(total), first + PASS - 1)
  for number = first, last do
    call('PERSIST', c.k.RESULT .. FlowNodes.node_id(c, flow, number))
  end
  if last < tonumber(total) then
    FlowNodes.flows_of(c).agenda[#FlowNodes.flows_of(c).agenda + 1] = { 'p', last + 1, 0, flow }
  end
  return last - first + 1
end

-- The flow has started: ids that were chosen stay reserved for as long as it may take.
local function reserve_pass(c, first, flow)
  local last = math.min(tonumber(call('HGET', c.k.FLOW .. flow, 'nodes') or 0), first + PASS - 1)
  for number = first, last do
    local id = call('HGET', c.k.NODES .. flow, number .. 'i')
    if id then
      call('PEXPIRE', c.k.RESERVED .. id, RESERVED_TTL_MS)
    end
  end
  if last == first + PASS - 1 then
    FlowNodes.flows_of(c).agenda[#FlowNodes.flows_of(c).agenda + 1] = { 'i', last + 1, 0, flow }
  end
  return PASS
end

-- Results of steps of an earlier life of a workflow, up to a number.
local function delete_pass(c, first, last, flow)
  local names = {}
  for number = first, math.min(last, first + PASS - 1) do
    names[#names + 1] = c.k.RESULT .. flow .. NODE_SEPARATOR .. number
    names[#names + 1] = c.k.ERRORS .. flow .. NODE_SEPARATOR .. number
  end
  if #names > 0 then
    call('DEL', unpack(names))
  end
  if last >= first + PASS then
    FlowNodes.flows_of(c).agenda[#FlowNodes.flows_of(c).agenda + 1] = { 'd', first + PASS, last, flow }
  end
  return PASS
end

-- Nodes of an ended graph are to run again: piece k of number 'r' holds { '1' if more follow, number, parents, ... }.
local function reset_pass(c, round, piece, flow)
  if not FlowNodes.view_of(c, flow) then
    return 1
  end
  local packed = call('HGET', c.k.NODES .. flow, round .. 'r' .. piece)
  if not packed then
    return 1
  end
  local entries = cmsgpack.unpack(packed)
  for i = 2, #entries, 2 do
    local number, parents = entries[i], entries[i + 1]
    local state = FlowNodes.state_of(c, flow, number)
    if state then
      call('HDEL', c.k.STATES .. flow, number)
      FlowNodes.view_of(c, flow).states[number] = false
      local letter = string.sub(state, 1, 1)
      local node = FlowNodes.node_of(c, flow, number)
      if node.kind == 'join' then
        call('HSET', c.k.PENDING .. flow, number, parents)
      else
        FlowNodes.count(FlowNodes.view_of(c, flow), letter, -1)
        if letter == 'f' or letter == 'a' or letter == 'x' or letter == 'c' then
          local id = FlowNodes.node_id(c, flow, number)
          FlowNodes.count(FlowNodes.view_of(c, flow), 'q', -1)
          call('DEL', c.k.RESULT .. id, c.k.ERRORS .. id)
          call('ZREM', c.k.DEAD .. node.queue, id)
          call('HDEL', c.k.DEAD_RESULTS .. node.queue, id)
        end
      end
    end
  end
  call('HDEL', c.k.NODES .. flow, round .. 'r' .. piece)
  if entries[1] == 1 then
    FlowNodes.flows_of(c).agenda[#FlowNodes.flows_of(c).agenda + 1] = { 'r', round, piece + 1, flow }
  else
    FlowNodes.flows_of(c).agenda[#FlowNodes.flows_of(c).agenda + 1] = { 'e', round, 0, flow }
  end
  return #entries
end

return {
  write_released = write_released,
  abort_node = abort_node,
  abort_unreleased = abort_unreleased,
  cancel_pass = cancel_pass,
  results_pass = results_pass,
  keep_pass = keep_pass,
  reserve_pass = reserve_pass,
  delete_pass = delete_pass,
  reset_pass = reset_pass,
}
