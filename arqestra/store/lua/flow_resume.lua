-- Resume a workflow that failed or was aborted: at its failed step, or where it stood if its own code failed
-- (docs/protocols.md, "Replay of workflows").
--
-- ARGV  1: time in ms or ''
--       2: queue of the workflow
--       3: job id, which is the flow's
--       4: 'queue' run it once more: it has ended, and its job is gone
--          'life'  its job is queued already and leased (as a step of a workflow that is resumed)
--          'mark'  only note that its next life is to resume it (as a node of a graph that is run again)
--       of 'queue': 5: the result as it was read
--                   6: payload
--                   7: priority
--       of 'life':  5: token
-- RETURNS  { 'queued' | 'resumed' | 'marked', steps that are tried anew }
--          | { 'busy', steps that are still being aborted } | { 'changed' } the result is another one or gone
--          | { 'exists' } it is queued or runs | { 'missing' } there is no such workflow that has ended
--          | { 'lost' } the lease is
-- EVENTS   wakes a worker
-- REPEAT   what was resumed has not ended; of 'queue', the payload is there already.
--
-- WHAT IS KEPT. The record says after how many events, steps and waits it went on to its end ('fault': flow/compare.py,
-- Point); '' if what ended it was no step: then all is kept. Of what came later, events about earlier steps stay, but
-- for failures; later steps, timers and waits are forgotten. A step that has no event then is forgotten too, whether it
-- failed, was aborted with the workflow, or never came to its end: the replay asks for it again, and it is released
-- anew. A workflow among these keeps its history, and is marked to be resumed in its turn.
-- USES  Score, Lease, Wake, Pieces, Flow

local DEEPEST = 10           -- of workflows that are steps of workflows

local function is_ended_workflow(c, flow)
  local kind, state = unpack(call('HMGET', c.k.FLOW .. flow, 'kind', 'state'))
  return kind == 'w' and state == 'ended'
end

-- How a workflow came to its end, by its record: `before` events after which it went on to its end, `last` step and
-- `waits` before that. `base` and `nodes` are the step before its first and its last one.
local function end_of(c, flow)
  local base, nodes, fault, ran = unpack(call('HMGET', c.k.FLOW .. flow, 'base', 'nodes', 'fault', 'ran'))
  local before, last, waits = string.match(fault or '', '^(%d+) (%d+) (%d+)$')
  local is_step = before ~= nil
  return {
    base = tonumber(base or 0), nodes = tonumber(nodes or 0), is_step = is_step, fault = fault, ran = ran or '',
    before = tonumber(before or call('LLEN', c.k.LOG .. flow)),
    last = tonumber(last or nodes or 0), waits = tonumber(waits),
  }
end

-- What stays of the log; which steps, timers and values have an event in that; whether the time limit is over in it.
local function kept_events(c, flow, its_end)
  local base, before, last = its_end.base, its_end.before, its_end.last
  local kept, has_event, is_late = {}, {}, false
  for i, event in ipairs(call('LRANGE', c.k.LOG .. flow, 0, -1)) do
    local kind, number, value = string.match(event, '^(%a) (%d+) %d+ (.?)')
    number = tonumber(number)
    local is_about_earlier = number > base and number <= last
    if i <= before or kind == 'g' or (kind == 's' and is_about_earlier and value == 'c')
        or ((kind == 't' or kind == 'e') and is_about_earlier and i > before + 1) then
      kept[#kept + 1] = event
      has_event[number] = true
      is_late = is_late or kind == 'd'
    end
  end
  return kept, has_event, is_late
end

-- The steps that are forgotten: { number, header, is it to be tried anew }. It is not if it was asked for after the
-- point from which the workflow is resumed.
local function forgotten_steps(c, flow, its_end, has_event)
  local steps = {}
  for number = its_end.base + 1, its_end.nodes do
    if number > its_end.last or not has_event[number] then
      local header = Flow.node_of(c, flow, number)
      if header then
        steps[#steps + 1] = { number, header, number <= its_end.last }
      end
    end
  end
  return steps
end

-- How many of the steps that are forgotten have not ended yet, of the workflows among its steps too.
local function count_busy(c, flow, depth)
  local its_end = end_of(c, flow)
  local _, has_event = kept_events(c, flow, its_end)
  local busy = 0
  for _, step in ipairs(forgotten_steps(c, flow, its_end, has_event)) do
    local number, header = step[1], step[2]
    local id = flow .. NODE_SEPARATOR .. number
    if header.kind == 'job' then
      if call('HGET', c.k.STATES .. flow, number) == 'q' and call('EXISTS', c.k.JOB .. id) == 1 then
        busy = busy + 1
      elseif depth < DEEPEST and is_ended_workflow(c, id) then
        busy = busy + count_busy(c, id, depth + 1)
      end
    end
  end
  return busy
end

local function forget(c, flow, number, header, is_tried_anew)
  local k, id = c.k, flow .. NODE_SEPARATOR .. number
  if header.kind == 'job' then
    call('DEL', k.RESULT .. id, k.ERRORS .. id)
    call('ZREM', k.DEAD .. header.queue, id)
    call('HDEL', k.DEAD_RESULTS .. header.queue, id)
    if is_tried_anew and is_ended_workflow(c, id) then
      call('HSET', k.FLOW .. id, 'resume', 1)
    end
  end
  call('HDEL', k.STATES .. flow, number)
  if header.kind == 'job' or not is_tried_anew then
    call('HDEL', k.NODES .. flow, number, number .. 't')
  end
end

-- Take the record and the log back to where it is resumed. Returns how many steps are tried anew.
local function resume(c, flow)
  local k = c.k
  local name, its_end, tried_anew = k.FLOW .. flow, end_of(c, flow), 0
  local kept, has_event, is_late = kept_events(c, flow, its_end)
  for _, step in ipairs(forgotten_steps(c, flow, its_end, has_event)) do
    local number, header, is_tried_anew = unpack(step)
    forget(c, flow, number, header, is_tried_anew)
    if is_tried_anew and header.kind == 'job' then
      tried_anew = tried_anew + 1
    end
  end
  local ran_events, _, ran_waits = string.match(its_end.ran, '^(%d+) (%d+) (%d+)$')
  if its_end.is_step then
    for wait = its_end.waits + 1, tonumber(ran_waits or 0) do
      call('HDEL', k.NODES .. flow, wait .. 'w')
    end
    call('HSET', name, 'nodes', its_end.last)
    if ran_events and tonumber(ran_events) > its_end.before then
      call('HSET', name, 'ran', its_end.fault)
    end
  end
  call('DEL', k.LOG .. flow)
  Pieces.write('RPUSH', k.LOG .. flow, kept)
  call('HDEL', name, 'ended', 'fault', 'resume', 'cancelled')
  if not is_late then
    call('HDEL', name, 'timed_out')
  end
  call('HSET', name, 'state', 'running', 'resumed', c.now, 'again', tried_anew)
  for _, prefix in ipairs({ k.FLOW, k.NODES, k.STATES, k.PENDING, k.LOG }) do
    call('PERSIST', prefix .. flow)
  end
  call('ZREM', k.ENDED_FLOWS, flow)
  call('ZADD', k.FLOWS, c.now, flow)
  Flow.add_continuation(c, 'p', 1, 0, flow)
  return tried_anew
end

-- Put the job of the workflow into its queue anew.
local function enqueue(c, queue, id, payload, priority)
  local k = c.k
  call('DEL', k.RESULT .. id, k.ATTEMPTS .. id, k.LEASE .. id)
  call('ZREM', k.ABORTS, id)
  call('ZREM', k.DEAD .. queue, id)
  call('HDEL', k.DEAD_RESULTS .. queue, id)
  call('SET', k.JOB .. id, payload)
  call('ZADD', k.QUEUE .. queue, Score.in_order(c.now, priority), id)
  c.due_queues[queue] = true
end

return function(c, argv)
  local k, queue, id, mode = c.k, argv[2], argv[3], argv[4]
  if mode == 'queue' then
    local result, payload = argv[5], argv[6]
    local stored = call('GET', k.JOB .. id)
    if stored then
      return stored == payload and { 'queued', tonumber(call('HGET', k.FLOW .. id, 'again') or 0) } or { 'exists' }
    elseif (call('GET', k.RESULT .. id) or call('HGET', k.DEAD_RESULTS .. queue, id)) ~= result then
      return { 'changed' }
    end
  elseif mode == 'life' and not Lease.has_token(call('GET', k.LEASE .. id), argv[5]) then
    return { 'lost' }
  end
  if not is_ended_workflow(c, id) then
    return { 'missing' }
  end
  if mode ~= 'life' then
    local busy = count_busy(c, id, 0)
    if busy > 0 then
      return { 'busy', busy }
    end
  end
  if mode == 'mark' then
    call('HSET', k.FLOW .. id, 'resume', 1)
    return { 'marked', 0 }
  end
  local tried_anew = resume(c, id)
  if mode == 'queue' then
    enqueue(c, queue, id, argv[6], tonumber(argv[7]))
  end
  if Flow.run_continuations(c, Flow.INLINE, false) then
    c.due_queues[queue] = true
  end
  Wake.wake_all(c)
  return { mode == 'queue' and 'queued' or 'resumed', tried_anew }
end
