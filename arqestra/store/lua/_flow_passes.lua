-- Part of _flow: work on all nodes of a flow, a piece at a time. Needs _flow_nodes.

local function in_pieces(command, key, list)
  for first = 1, #list, BATCH do
    if key then
      call(command, key, unpack(list, first, math.min(first + BATCH - 1, #list)))
    else
      call(command, unpack(list, first, math.min(first + BATCH - 1, #list)))
    end
  end
end

-- Write the jobs of released nodes.
local function write_released(now)
  local payloads, deferred = released.payloads, released.deferred or {}
  if not payloads then
    return
  end
  released.payloads, released.deferred = nil, nil
  in_pieces('MSET', nil, payloads)
  for key, list in pairs(released) do
    if string.sub(key, 1, #SPECS) == SPECS then
      in_pieces('HSET', key, list)
    else
      in_pieces('ZADD', QUEUE .. key, list)
    end
  end
  released = {}
  for queue, due in pairs(deferred) do
    announce_deferred(queue, due, now)
  end
end

-- Abort the job of a released node: whoever runs it is told, else it is taken from its queue.
function abort_node(flow, number, node, now, due_queues)
  write_released(now)  -- it may be one of this very script
  local id = node_id(flow, number)
  local lease = call('GET', LEASE .. id)
  if worker_of(lease) and is_leased(lease, now) then
    call('ZADD', ABORTS, now + FORCED, id)
    call('PUBLISH', WORKER .. worker_of(lease), 'abort! ' .. id)
  elseif flow_exists(id) and call('HGET', FLOW .. id, 'kind') == 'w' then
    call('ZADD', ABORTS, now + FORCED, id)  -- a workflow that waits: it is to abort its own steps
    call('ZADD', QUEUE .. node.queue, 'XX', now, id)
    due_queues[node.queue] = true
  elseif call('ZSCORE', QUEUE .. node.queue, id) then
    withdraw(node.queue, id, now, due_queues)
    end_node(flow, number, 'a', now, due_queues)
  end
end

-- Abort a job of a graph that was not released yet, by its id: its node ends, and what hangs on it. False if it is none.
function abort_unreleased(id, now, due_queues)
  local number, flow = string.match(call('GET', RESERVED .. id) or '', '^%S+ (%d+) (.+)$')
  if not flow then
    flow, number = string.match(id, '^(.+)' .. NODE_SEPARATOR .. '(%d+)$')
  end
  local view = flow and flow_exists(flow) and view_of(flow)
  if not view or view.kind ~= 'g' or view.state ~= 'running' then
    return false
  end
  number = tonumber(number)
  local state, node = state_of(flow, number), node_of(flow, number)
  if not node or node.kind ~= 'job' or node_id(flow, number) ~= id then
    return false
  end
  if state then
    return state == 'a' and call('EXISTS', RESULT .. id) == 0  -- by this very call, sent before
  end
  count(view, 'q', 1)  -- as of one that was released and taken from its queue at once
  end_node(flow, number, 'a', now, due_queues)
  mark_its_queues(flow, due_queues)
  call('PUBLISH', DONE .. id, '')
  return true
end

local function read_states(flow, first, last)
  local numbers, known = {}, view_of(flow).states
  for number = first, last do
    numbers[#numbers + 1] = number
  end
  for i, state in ipairs(#numbers > 0 and call('HMGET', STATES .. flow, unpack(numbers)) or {}) do
    if known[numbers[i]] == nil then
      known[numbers[i]] = state
    end
  end
end

-- Nodes that wait are dropped, those in a queue are taken from it, those that run are told to abort.
local function cancel_pass(first, until_number, flow, now, due_queues)
  local view = view_of(flow)
  if not view or (view.kind == 'g' and not view.cancelled) or (view.kind == 'w' and view.state == 'running') then
    return 1  -- another round has begun, or it was resumed
  end
  local total = until_number > 0 and until_number or call('HGET', FLOW .. flow, 'nodes')
  local last = math.min(tonumber(total or 0), first + PASS - 1)
  read_states(flow, first, last)
  for number = first, last do
    local state = state_of(flow, number)
    local node = (not state or state == 'q') and node_of(flow, number) or nil
    if node and node.kind == 'join' then
      set_state(flow, number, 'd')
    elseif node and node.kind == 'job' and not state then
      end_node(flow, number, 'd', now, due_queues)
    elseif node and node.kind == 'job' then
      abort_node(flow, number, node, now, due_queues)
    end
  end
  if last < tonumber(total or 0) then
    agenda[#agenda + 1] = { 'c', last + 1, until_number, flow }
  end
  return last - first + 1
end

-- The flow has ended: its nodes' results are kept as long as its record.
local function results_pass(first, flow)
  local view = view_of(flow)
  if not view or view.state ~= 'ended' then
    return 1
  end
  local total, keep_ms = unpack(call('HMGET', FLOW .. flow, 'nodes', 'keep'))
  total = total or '0'
  local last = math.min(tonumber(total), first + PASS - 1)
  read_states(flow, first, last)
  local is_resumable = view.kind == 'w' and call('HEXISTS', FLOW .. flow, 'fault') == 1  -- it needs all results then
  local ids, ttls, histories = {}, {}, {}
  for number = first, last do
    local letter, ttl = string.match(state_of(flow, number) or '', '^(%a)(%p?%d*)')
    if letter == 'c' or letter == 'f' or letter == 'a' or letter == 'x' then
      local n = #ids + 1
      ids[n], ttls[n] = node_id(flow, number), ttl
      histories[n] = ERRORS .. ids[n]
    end
  end
  -- Hardly any has one, so one question saves a command for each.
  local have_history = #ids > 0 and call('EXISTS', unpack(histories)) > 0
  for i, id in ipairs(ids) do
    if ttls[i] == '0' and not is_resumable then
      call('DEL', RESULT .. id, histories[i])
    elseif ttls[i] ~= '!' then
      call('PEXPIRE', RESULT .. id, keep_ms)
      if have_history then
        call('PEXPIRE', histories[i], keep_ms)
      end
    end
  end
  if last < tonumber(total) then
    agenda[#agenda + 1] = { 'z', last + 1, 0, flow }
  else
    for _, prefix in ipairs({ FLOW, NODES, STATES, PENDING, LOG }) do
      call('PEXPIRE', prefix .. flow, keep_ms)
    end
  end
  return last - first + 1
end

-- Another round has begun: the results that it keeps have no TTL meanwhile.
local function keep_pass(first, flow)
  local total, state = unpack(call('HMGET', FLOW .. flow, 'nodes', 'state'))
  if not total or state ~= 'running' then
    return 1
  end
  local last = math.min(tonumber(total), first + PASS - 1)
  for number = first, last do
    call('PERSIST', RESULT .. node_id(flow, number))
  end
  if last < tonumber(total) then
    agenda[#agenda + 1] = { 'p', last + 1, 0, flow }
  end
  return last - first + 1
end

-- The flow has started: ids that were chosen stay reserved for as long as it may take.
local function reserve_pass(first, flow)
  local last = math.min(tonumber(call('HGET', FLOW .. flow, 'nodes') or 0), first + PASS - 1)
  for number = first, last do
    local id = call('HGET', NODES .. flow, number .. 'i')
    if id then
      call('PEXPIRE', RESERVED .. id, RESERVED_TTL_MS)
    end
  end
  if last == first + PASS - 1 then
    agenda[#agenda + 1] = { 'i', last + 1, 0, flow }
  end
  return PASS
end

-- Results of steps of an earlier life of a workflow, up to a number.
local function delete_pass(first, last, flow)
  local names = {}
  for number = first, math.min(last, first + PASS - 1) do
    names[#names + 1] = RESULT .. flow .. NODE_SEPARATOR .. number
    names[#names + 1] = ERRORS .. flow .. NODE_SEPARATOR .. number
  end
  if #names > 0 then
    call('DEL', unpack(names))
  end
  if last >= first + PASS then
    agenda[#agenda + 1] = { 'd', first + PASS, last, flow }
  end
  return PASS
end

-- Nodes of an ended graph are to run again: piece k of number 'r' holds { '1' if more follow, number, parents, ... }.
local function reset_pass(round, piece, flow)
  if not view_of(flow) then
    return 1
  end
  local packed = call('HGET', NODES .. flow, round .. 'r' .. piece)
  if not packed then
    return 1
  end
  local entries = cmsgpack.unpack(packed)
  for i = 2, #entries, 2 do
    local number, parents = entries[i], entries[i + 1]
    local state = state_of(flow, number)
    if state then
      call('HDEL', STATES .. flow, number)
      view_of(flow).states[number] = false
      local letter = string.sub(state, 1, 1)
      local node = node_of(flow, number)
      if node.kind == 'join' then
        call('HSET', PENDING .. flow, number, parents)
      else
        count(view_of(flow), letter, -1)
        if letter == 'f' or letter == 'a' or letter == 'x' or letter == 'c' then
          local id = node_id(flow, number)
          count(view_of(flow), 'q', -1)
          call('DEL', RESULT .. id, ERRORS .. id)
          call('ZREM', DEAD .. node.queue, id)
          call('HDEL', DEAD_RESULTS .. node.queue, id)
        end
      end
    end
  end
  call('HDEL', NODES .. flow, round .. 'r' .. piece)
  if entries[1] == 1 then
    agenda[#agenda + 1] = { 'r', round, piece + 1, flow }
  else
    agenda[#agenda + 1] = { 'e', round, 0, flow }
  end
  return #entries
end
