-- Work on all nodes of a flow, a piece at a time: each pass puts its next piece on the agenda. A pass gets what its
-- continuation says (`_flow.lua`), and returns about how many nodes it has handled: calls have a budget.
-- USES  Lease, Wake, Pieces, FlowView, FlowNodes

local FORCED = 0.5           -- in the score of an abort: a worker obeys whether or not it allows aborts
local RESERVED_TTL_MS = 30 * 86400000
local PASS = 100             -- nodes inspected in one step of a pass over all of them

-- Write the jobs of the nodes that were released.
local function write_released(c)
  local k, flows = c.k, FlowView.flows_of(c)
  local released = flows.released
  if not released then
    return
  end
  flows.released = nil
  Pieces.set(released.payloads)
  for queue, list in pairs(released.specs) do
    Pieces.write('HSET', k.SPECS .. queue, list)
  end
  for queue, list in pairs(released.scores) do
    Pieces.write('ZADD', k.QUEUE .. queue, list)
  end
  for queue, due in pairs(released.deferred) do
    Wake.announce_deferred(c, queue, due)
  end
end

-- Abort the job of a node that was released: whoever runs it is told, else it is taken from its queue.
local function abort_node(c, flow, number, header)
  write_released(c)  -- it may be one of this very call
  local k, now = c.k, c.now
  local id, queue = FlowView.node_id(c, flow, number), header.queue
  local lease = call('GET', k.LEASE .. id)
  local worker = Lease.worker_of(lease)
  if worker and Lease.is_leased(lease, now) then
    call('ZADD', k.ABORTS, now + FORCED, id)
    call('PUBLISH', k.WORKER .. worker, 'abort! ' .. id)
  elseif FlowView.exists(c, id) and call('HGET', k.FLOW .. id, 'kind') == 'w' then
    call('ZADD', k.ABORTS, now + FORCED, id)  -- a workflow that waits: it is to abort its own steps
    call('ZADD', k.QUEUE .. queue, 'XX', now, id)
    c.due_queues[queue] = true
  elseif call('ZSCORE', k.QUEUE .. queue, id) then
    FlowNodes.withdraw(c, queue, id)
    FlowNodes.end_node(c, flow, number, 'a')
  end
end

-- Abort a job of a graph that was not released yet, by its id: its node ends, and what hangs on it. False if it is
-- none.
local function abort_unreleased(c, id)
  local k = c.k
  local number, flow = string.match(call('GET', k.RESERVED .. id) or '', '^%S+ (%d+) (.+)$')
  if not flow then
    flow, number = string.match(id, '^(.+)' .. NODE_SEPARATOR .. '(%d+)$')
  end
  local view = flow and FlowView.exists(c, flow) and FlowView.view_of(c, flow)
  if not view or view.kind ~= 'g' or view.state ~= 'running' then
    return false
  end
  number = tonumber(number)
  local state, header = FlowView.state_of(c, flow, number), FlowView.node_of(c, flow, number)
  if not header or header.kind ~= 'job' or FlowView.node_id(c, flow, number) ~= id then
    return false
  end
  if state then
    return state == 'a' and call('EXISTS', k.RESULT .. id) == 0  -- by this very call, sent before
  end
  FlowView.count(view, 'q', 1)  -- as of one that was released and taken from its queue at once
  FlowNodes.end_node(c, flow, number, 'a')
  FlowView.mark_its_queues(c, flow)
  call('PUBLISH', k.DONE .. id, '')
  return true
end

-- The last node of the piece that begins with `first`, if the pass ends at `total`.
local function last_of_piece(first, total)
  return math.min(total, first + PASS - 1)
end

local function read_states(c, view, flow, first, last)
  local numbers = {}
  for number = first, last do
    numbers[#numbers + 1] = number
  end
  if #numbers > 0 then
    FlowView.note_states(view, numbers, call('HMGET', c.k.STATES .. flow, unpack(numbers)))
  end
end

-- The flow was cancelled, or a workflow has ended. Nodes that wait are dropped, those in a queue are taken from it,
-- those that run are told to abort.
local function cancel_pass(c, first, until_node, flow)
  local view = FlowView.view_of(c, flow)
  if not view or (view.kind == 'g' and not view.cancelled) or (view.kind == 'w' and view.state == 'running') then
    return 1  -- another round has begun, or it was resumed
  end
  local total = tonumber(until_node > 0 and until_node or call('HGET', c.k.FLOW .. flow, 'nodes') or 0)
  local last = last_of_piece(first, total)
  read_states(c, view, flow, first, last)
  for number = first, last do
    local state = FlowView.state_of(c, flow, number)
    local header = (not state or state == 'q') and FlowView.node_of(c, flow, number) or nil
    if header and header.kind == 'join' then
      FlowView.set_state(c, flow, number, 'd')
    elseif header and header.kind == 'job' and not state then
      FlowNodes.end_node(c, flow, number, 'd')
    elseif header and header.kind == 'job' then
      abort_node(c, flow, number, header)
    end
  end
  if last < total then
    FlowView.add_continuation(c, 'c', last + 1, until_node, flow)
  end
  return last - first + 1
end

-- The flow has ended: its nodes' results are kept as long as its record, which gets its TTL at the end.
local function results_pass(c, first, _, flow)
  local k, view = c.k, FlowView.view_of(c, flow)
  if not view or view.state ~= 'ended' then
    return 1
  end
  local nodes, keep_ms = unpack(call('HMGET', k.FLOW .. flow, 'nodes', 'keep'))
  local total = tonumber(nodes or 0)
  local last = last_of_piece(first, total)
  read_states(c, view, flow, first, last)
  local is_resumable = view.kind == 'w' and call('HEXISTS', k.FLOW .. flow, 'fault') == 1  -- it needs all results then
  local ids, marks, histories = {}, {}, {}
  for number = first, last do
    local letter, mark = string.match(FlowView.state_of(c, flow, number) or '', '^(%a)(%p?%d*)')
    if letter == 'c' or letter == 'f' or letter == 'a' or letter == 'x' then
      local n = #ids + 1
      ids[n], marks[n] = FlowView.node_id(c, flow, number), mark
      histories[n] = k.ERRORS .. ids[n]
    end
  end
  -- Hardly any has one, so one question saves a command for each.
  local have_history = #ids > 0 and call('EXISTS', unpack(histories)) > 0
  for i, id in ipairs(ids) do
    if marks[i] == '0' and not is_resumable then
      call('DEL', k.RESULT .. id, histories[i])
    elseif marks[i] ~= '!' then
      call('PEXPIRE', k.RESULT .. id, keep_ms)
      if have_history then
        call('PEXPIRE', histories[i], keep_ms)
      end
    end
  end
  if last < total then
    FlowView.add_continuation(c, 'z', last + 1, 0, flow)
  else
    for _, prefix in ipairs({ k.FLOW, k.NODES, k.STATES, k.PENDING, k.LOG }) do
      call('PEXPIRE', prefix .. flow, keep_ms)
    end
  end
  return last - first + 1
end

-- Another round has begun: the results that it keeps have no TTL meanwhile.
local function keep_pass(c, first, _, flow)
  local k = c.k
  local total, state = unpack(call('HMGET', k.FLOW .. flow, 'nodes', 'state'))
  if not total or state ~= 'running' then
    return 1
  end
  total = tonumber(total)
  local last = last_of_piece(first, total)
  for number = first, last do
    call('PERSIST', k.RESULT .. FlowView.node_id(c, flow, number))
  end
  if last < total then
    FlowView.add_continuation(c, 'p', last + 1, 0, flow)
  end
  return last - first + 1
end

-- The flow has started: ids that were chosen stay reserved for as long as it may take.
local function reserve_pass(c, first, _, flow)
  local k = c.k
  local last = last_of_piece(first, tonumber(call('HGET', k.FLOW .. flow, 'nodes') or 0))
  for number = first, last do
    local id = call('HGET', k.NODES .. flow, number .. 'i')
    if id then
      call('PEXPIRE', k.RESERVED .. id, RESERVED_TTL_MS)
    end
  end
  if last == first + PASS - 1 then
    FlowView.add_continuation(c, 'i', last + 1, 0, flow)
  end
  return PASS
end

-- A workflow continues as new: results of its steps so far are deleted.
local function delete_pass(c, first, until_node, flow)
  local k, names = c.k, {}
  for number = first, last_of_piece(first, until_node) do
    names[#names + 1] = k.RESULT .. flow .. NODE_SEPARATOR .. number
    names[#names + 1] = k.ERRORS .. flow .. NODE_SEPARATOR .. number
  end
  if #names > 0 then
    call('DEL', unpack(names))
  end
  if until_node >= first + PASS then
    FlowView.add_continuation(c, 'd', first + PASS, until_node, flow)
  end
  return PASS
end

-- One node of an ended graph is to run once more: it waits for that, as if it had never run.
local function reset_node(c, view, flow, number, parents)
  local k, state = c.k, FlowView.state_of(c, flow, number)
  if not state then
    return
  end
  call('HDEL', k.STATES .. flow, number)
  view.states[number] = false
  local header = FlowView.node_of(c, flow, number)
  if header.kind == 'join' then
    call('HSET', k.PENDING .. flow, number, parents)
    return
  end
  local letter = string.sub(state, 1, 1)
  FlowView.count(view, letter, -1)
  if letter == 'f' or letter == 'a' or letter == 'x' or letter == 'c' then
    local id = FlowView.node_id(c, flow, number)
    FlowView.count(view, 'q', -1)
    call('DEL', k.RESULT .. id, k.ERRORS .. id)
    call('ZREM', k.DEAD .. header.queue, id)
    call('HDEL', k.DEAD_RESULTS .. header.queue, id)
  end
end

-- Nodes of an ended graph are to run once more; after the last piece, the source of the new round starts it. Piece n of
-- the source is in its field 'r' .. n: { 1 if more follow, number, parents, number, parents, ... }.
local function reset_pass(c, source, piece, flow)
  local view = FlowView.view_of(c, flow)
  if not view then
    return 1
  end
  local name, field = c.k.NODES .. flow, source .. 'r' .. piece
  local packed = call('HGET', name, field)
  if not packed then
    return 1
  end
  local entries = cmsgpack.unpack(packed)
  for i = 2, #entries, 2 do
    reset_node(c, view, flow, entries[i], entries[i + 1])
  end
  call('HDEL', name, field)
  if entries[1] == 1 then
    FlowView.add_continuation(c, 'r', source, piece + 1, flow)
  else
    FlowView.add_continuation(c, 'e', source, 0, flow)
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
