-- Resume a workflow that failed or was aborted: at its failed step, or where it stood if its own code failed.
--
-- ARGV  1: time in ms or ''
--       2: queue of the workflow
--       3: job id, which is the flow's
--       4: 'queue' run it once more: it has ended, and its job is gone
--          'life'  its job is queued already and leased (as a step of a workflow that is resumed)
--          'mark'  only note that its next life is to resume it (as a node of a graph that is run again)
--       of 'queue': 5: the result as it was read
--       6: payload
--       7: priority
--       of 'life': 5: token
-- RETURNS  { 'queued' | 'resumed' | 'marked', steps that are tried anew } | { 'busy', steps that are still being aborted }
--          | { 'changed' } the result is another one or gone | { 'exists' } it is queued or runs
--          | { 'missing' } there is no such workflow that has ended | { 'lost' } the lease is
--
-- WHAT IS KEPT. The record says after how many events, steps and waits it went on to its end ('fault': flow/compare.py,
-- Point); '' if what ended it was no step: then all is kept. Of what came later, events about earlier steps stay, but for
-- failures; later steps, timers and waits are forgotten. A step that has no event then is forgotten too, whether it failed,
-- was aborted with the workflow, or never came to its end: the replay asks for it again, and it is released anew. A workflow
-- among these is not begun anew, but is marked to be resumed in its turn.
-- REPEAT   what was resumed has not ended.
-- USES  Score, Lease, Wake, Flow

local DEEPEST = 10

return function(c, argv)
  local queue, id, mode = argv[2], argv[3], argv[4]

  local function ended_workflow(flow)
    local kind, state = unpack(call('HMGET', c.k.FLOW .. flow, 'kind', 'state'))
    return kind == 'w' and state == 'ended'
  end

  -- What stays of the log; which steps, timers and values have an event in it; whether the time limit is over in it.
  local function kept_events(flow, base, before, last)
    local kept, has_event, is_late = {}, {}, false
    for i, event in ipairs(call('LRANGE', c.k.LOG .. flow, 0, -1)) do
      local kind, number, value = string.match(event, '^(%a) (%d+) %d+ (.?)')
      number = tonumber(number)
      local about_earlier = number > base and number <= last
      if i <= before or kind == 'g' or (kind == 's' and about_earlier and value == 'c')
          or ((kind == 't' or kind == 'e') and about_earlier and i > before + 1) then
        kept[#kept + 1] = event
        has_event[number] = true
        is_late = is_late or kind == 'd'
      end
    end
    return kept, has_event, is_late
  end

  -- The end of a life: after which event it went on to its end, the highest number and the waits before that.
  local function end_of(flow)
    local base, nodes, fault, ran = unpack(call('HMGET', c.k.FLOW .. flow, 'base', 'nodes', 'fault', 'ran'))
    local before, last, waits = string.match(fault or '', '^(%d+) (%d+) (%d+)$')
    local is_step = before ~= nil
    return {
      base = tonumber(base or 0), nodes = tonumber(nodes or 0), is_step = is_step, fault = fault, ran = ran or '',
      before = tonumber(before or call('LLEN', c.k.LOG .. flow)), last = tonumber(last or nodes or 0), waits = tonumber(waits),
    }
  end

  -- Calls fn(number, queue, is it to be tried anew) for each step that is forgotten.
  local function each_forgotten(flow, life, has_event, fn)
    for number = life.base + 1, life.nodes do
      if number > life.last or not has_event[number] then
        local node = Flow.node_of(c, flow, number)
        if node then
          fn(number, node, number <= life.last)
        end
      end
    end
  end

  local function count_busy(flow, depth)
    local life = end_of(flow)
    local _, has_event = kept_events(flow, life.base, life.before, life.last)
    local busy = 0
    each_forgotten(flow, life, has_event, function(number, node)
      local step = flow .. NODE_SEPARATOR .. number
      if node.kind == 'job' and call('HGET', c.k.STATES .. flow, number) == 'q' and call('EXISTS', c.k.JOB .. step) == 1 then
        busy = busy + 1
      elseif node.kind == 'job' and depth < DEEPEST and ended_workflow(step) then
        busy = busy + count_busy(step, depth + 1)
      end
    end)
    return busy
  end

  local function forget(flow, number, node, is_again)
    local step = flow .. NODE_SEPARATOR .. number
    if node.kind == 'job' then
      call('DEL', c.k.RESULT .. step, c.k.ERRORS .. step)
      call('ZREM', c.k.DEAD .. node.queue, step)
      call('HDEL', c.k.DEAD_RESULTS .. node.queue, step)
      if is_again and ended_workflow(step) then
        call('HSET', c.k.FLOW .. step, 'resume', 1)
      end
    end
    call('HDEL', c.k.STATES .. flow, number)
    if node.kind == 'job' or not is_again then
      call('HDEL', c.k.NODES .. flow, number, number .. 't')
    end
  end

  local function resume(flow)
    local name, life, again = c.k.FLOW .. flow, end_of(flow), 0
    local kept, has_event, is_late = kept_events(flow, life.base, life.before, life.last)
    each_forgotten(flow, life, has_event, function(number, node, is_again)
      forget(flow, number, node, is_again)
      if is_again and node.kind == 'job' then
        again = again + 1
      end
    end)
    local ran_events, _, ran_waits = string.match(life.ran, '^(%d+) (%d+) (%d+)$')
    if life.is_step then
      for wait = life.waits + 1, tonumber(ran_waits or 0) do
        call('HDEL', c.k.NODES .. flow, wait .. 'w')
      end
      call('HSET', name, 'nodes', life.last)
      if ran_events and tonumber(ran_events) > life.before then
        call('HSET', name, 'ran', life.fault)
      end
    end
    call('DEL', c.k.LOG .. flow)
    for first = 1, #kept, BATCH do
      call('RPUSH', c.k.LOG .. flow, unpack(kept, first, math.min(first + BATCH - 1, #kept)))
    end
    call('HDEL', name, 'ended', 'fault', 'resume', 'cancelled')
    if not is_late then
      call('HDEL', name, 'timed_out')
    end
    call('HSET', name, 'state', 'running', 'resumed', c.now, 'again', again)
    for _, prefix in ipairs({ c.k.FLOW, c.k.NODES, c.k.STATES, c.k.PENDING, c.k.LOG }) do
      call('PERSIST', prefix .. flow)
    end
    call('ZREM', c.k.ENDED_FLOWS, flow)
    call('ZADD', c.k.FLOWS, c.now, flow)
    Flow.add_continuation(c, 'p', 1, 0, flow)
    return again
  end

  if mode == 'queue' then
    local stored = call('GET', c.k.JOB .. id)
    if stored then
      return stored == argv[6] and { 'queued', tonumber(call('HGET', c.k.FLOW .. id, 'again') or 0) } or { 'exists' }
    elseif (call('GET', c.k.RESULT .. id) or call('HGET', c.k.DEAD_RESULTS .. queue, id)) ~= argv[5] then
      return { 'changed' }
    end
  elseif mode == 'life' then
    if not Lease.has_token(call('GET', c.k.LEASE .. id), argv[5]) then
      return { 'lost' }
    end
  end
  if not ended_workflow(id) then
    return { 'missing' }
  end
  if mode ~= 'life' then
    local busy = count_busy(id, 0)
    if busy > 0 then
      return { 'busy', busy }
    end
  end
  if mode == 'mark' then
    call('HSET', c.k.FLOW .. id, 'resume', 1)
    return { 'marked', 0 }
  end
  local again = resume(id)
  if mode == 'queue' then
    call('DEL', c.k.RESULT .. id, c.k.ATTEMPTS .. id, c.k.LEASE .. id)
    call('ZREM', c.k.ABORTS, id)
    call('ZREM', c.k.DEAD .. queue, id)
    call('HDEL', c.k.DEAD_RESULTS .. queue, id)
    call('SET', c.k.JOB .. id, argv[6])
    call('ZADD', c.k.QUEUE .. queue, Score.in_order(c.now, tonumber(argv[7])), id)
    c.due_queues[queue] = true
  end
  if Flow.run_continuations(c, Flow.INLINE, false) then
    c.due_queues[queue] = true
  end
  Wake.wake_all(c)
  return { mode == 'queue' and 'queued' or 'resumed', again }
end
