-- Part of finish.lua, the module `Cases`: everything except the plain end of a job without limits.

local DEAD_SET_LIMIT = 10000
local HISTORY_LIMIT = 20
local FREE_INTERRUPTS = 100          -- of one job: a job that stops its worker each time must not go on for ever
local INTERRUPTS_KEPT_MS = 86400000  -- since the last one
local keep_dead_ms = tonumber(argv[2])

-- @include _lease
-- @include _run_end

local function bury(id, queue, result)
  call('ZADD', DEAD .. queue, now, id)
  call('HSET', DEAD_RESULTS .. queue, id, result)
  local gone = call('ZRANGEBYSCORE', DEAD .. queue, '-inf', now - keep_dead_ms, 'LIMIT', 0, 100)
  local surplus = math.min(100, call('ZCARD', DEAD .. queue) - #gone - DEAD_SET_LIMIT)
  if surplus > 0 then
    gone = call('ZRANGE', DEAD .. queue, 0, #gone + surplus - 1)
  end
  if #gone > 0 then
    call('ZREM', DEAD .. queue, unpack(gone))
    call('HDEL', DEAD_RESULTS .. queue, unpack(gone))
  end
  call('PEXPIRE', DEAD .. queue, keep_dead_ms)
  call('PEXPIRE', DEAD_RESULTS .. queue, keep_dead_ms)
end

local function note_error(id, error)
  if error ~= '' and error ~= '+' then
    call('RPUSH', ERRORS .. id, error)
    call('LTRIM', ERRORS .. id, -HISTORY_LIMIT, -1)
  end
end

-- The history of an ended job is kept as long as its result.
local function keep_history(id, ttl)
  if ttl == '0' then
    call('PERSIST', ERRORS .. id)
  elseif ttl == '-1' then
    call('DEL', ERRORS .. id)
  else
    call('PEXPIRE', ERRORS .. id, ttl)
  end
end

-- A node of a flow ends. Its result is kept as long as the flow; the node's state says what happens to the result then. An
-- error is kept with the flow's record, even if results are not kept: it says why the flow failed.
local function finish_node(flow, number, kind, ttl, value, only_child, is_output)
  local is_unkept = value == '' or (kind == 'end' and not is_output)
  local mark = ttl == '-1' and is_unkept and '0' or ttl == '0' and '!' or ''
  Flow.end_node(flow, number, LETTERS[kind] .. mark, now, due_queues, only_child)
end

local function put_back(id, queue, kind, delay_ms, lease, attempts)
  local line_end = string.find(attempts, '\n', 1, true)
  if line_end then
    call('SET', JOB .. id, string.sub(attempts, line_end + 1))
    attempts = string.sub(attempts, 1, line_end - 1)
  end
  local _, due_score = fields_of(lease)
  local score = tonumber(due_score)
  local priority = priority_of(score)
  if kind == 'again' or (kind == 'park' and call('LLEN', LOG .. id) > tonumber(attempts)) then
    score = in_order(now, priority)  -- it has news already
    due_queues[queue] = true
  elseif kind == 'park' and delay_ms == '-1' then
    score = PARKED_SCORE + priority
  elseif delay_ms == '0' then
    if score >= PARKED_SCORE then
      score = in_order(now, priority)  -- a workflow that was leased only to record its abort
    end
    due_queues[queue] = true
  else
    local due = now + delay_ms
    score = score_at(queue, id, due, priority, now)
    deferred[queue] = math.min(due, deferred[queue] or due)
  end
  call('ZADD', QUEUE .. queue, score, id)
  call('DEL', LEASE .. id)
  call('PERSIST', JOB .. id)
  if kind == 'again' then
    call('DEL', ATTEMPTS .. id)
  elseif attempts ~= '' and kind ~= 'park' then
    call('SET', ATTEMPTS .. id, attempts)
  end
  if kind ~= 'retry' and kind ~= 'again' and call('DECR', ATTEMPTS .. id) <= 0 then
    call('DEL', ATTEMPTS .. id)
  end
end

-- The kind for a job that was interrupted while it ran: 'release', or 'retry' when that has happened too often.
local function interrupted(id)
  local count = call('INCR', INTERRUPTS .. id)
  call('PEXPIRE', INTERRUPTS .. id, INTERRUPTS_KEPT_MS)
  return count > FREE_INTERRUPTS and 'retry' or 'release'
end

-- The lease stays. A crash count of EARLY_CRASHES or more says that the job must not run again.
local function acknowledge_early(id, lease)
  local head, crashes = string.match(lease, '^(.*|)(%d+)$')
  call('SET', LEASE .. id, head .. math.max(tonumber(crashes), EARLY_CRASHES), 'KEEPTTL')
end

-- A workflow continues as new: running steps are aborted and the history is forgotten, except for events that nobody took.
-- The numbers of its new steps follow those of the old ones.
local function begin_anew(id, value)
  local head, payload = string.match(value, '^([^\n]*)\n(.*)$')
  local seen, unread, running = string.match(head, '^(%d+) (%S*) (%S*)$')
  for number in string.gmatch(running, '%d+') do
    local node = Flow.node_of(id, tonumber(number))
    if node and Flow.state_of(id, tonumber(number)) == 'q' then
      Flow.abort_node(id, tonumber(number), node, now, due_queues)
    end
  end
  local kept = {}
  for i, event in ipairs(call('LRANGE', LOG .. id, 0, -1)) do
    local nonce = string.match(event, '^g %d+ %d+ (%S+)')
    if nonce and (i > tonumber(seen) or string.find(unread, nonce, 1, true)) then
      kept[#kept + 1] = event
    end
  end
  local base, nodes = unpack(call('HMGET', FLOW .. id, 'base', 'nodes'))
  call('UNLINK', NODES .. id, STATES .. id, LOG .. id)
  for first = 1, #kept, BATCH do
    call('RPUSH', LOG .. id, unpack(kept, first, math.min(first + BATCH - 1, #kept)))
  end
  Flow.unblock(id, call('HGET', FLOW .. id, 'queue') or '')
  Flow.forget_view(id)
  Flow.add_continuation('d', tonumber(base or 0) + 1, tonumber(nodes or 0), id)
  call('HSET', FLOW .. id, 'base', nodes or 0)
  call('HDEL', FLOW .. id, 'started', 'cancelled', 'timed_out', 'ran', 'resumed')
  call('HINCRBY', FLOW .. id, 'rounds', 1)
  call('SET', JOB .. id, payload)
end

local function remove_spec(queue, id)
  local list = spec_removals[queue] or {}
  spec_removals[queue] = list
  list[#list + 1] = id
end

-- Give back the room under limits and the locks that the job had; replace the old spec with the new one, if there is one.
local function settle_spec(id, queue, token, kind, unstarted, new_spec)
  local spec
  if has_extras(queue) then
    local packed = specs[id]
    if packed == nil or queue ~= first_queue then
      spec = spec_of(queue, id)
    elseif packed then
      spec = cmsgpack.unpack(packed)
    end
  end
  if spec and LETTERS[kind] and #spec == 1 and (spec[1][1] == 'n' or spec[1][1] == 's') then
    remove_spec(queue, id)
  elseif spec then
    Limits.give_back(queue, id, spec, now, LETTERS[kind] ~= nil, due_queues)
  end
  if spec and unstarted then
    Limits.take_back_start(id, spec, now, token, due_queues)
  end
  if kind == 'limit' and new_spec ~= '' then
    call('HSET', SPECS .. queue, id, new_spec)
  elseif kind == 'limit' then
    call('HDEL', SPECS .. queue, id)
  end
  return spec
end

-- The job has ended, as a node of a flow or not. An ending has the fields that finish.lua lists, and `lease_name`; the
-- jobs of a group share one, so nobody changes or keeps it.
local function end_job(ending, kind, flow, number, only_child, is_output)
  local id, queue, keep_ms, ttl, value = ending.id, ending.queue, ending.number, ending.ttl, ending.result
  local view = flow and Flow.view_of(flow)
  if view and view.state == 'running' then
    finish_job(id, queue, ending.lease_name, keep_ms, value == '' and '-1' or '0', value)
    return finish_node(flow, number, kind, ttl, value, only_child, is_output)
  end
  if view then  -- the workflow has ended without it: its result is kept as any job's
    Flow.set_state(flow, number, LETTERS[kind])
  end
  finish_job(id, queue, ending.lease_name, keep_ms, ttl, value)
  if ending.error ~= '' then
    keep_history(id, ttl)
  end
end

-- A job of the first queue has ended. It never failed and is a node of a flow, and nothing else is special about it. Nearly
-- all jobs with a spec are like that.
local function end_member(ending, packed)
  remove_spec(first_queue, ending.id)
  local _, flow, number, only_child, is_output = unpack(cmsgpack.unpack(packed)[1])
  return end_job(ending, ending.kind, flow, number, only_child ~= -1 and only_child or nil, is_output == 1)
end

-- Write the outcome of one job, of any kind.
local function settle(ending, lease, has_specs)
  local id, queue, kind, error = ending.id, ending.queue, ending.kind, ending.error
  local unstarted = string.sub(kind, -1) == '!'
  if unstarted then
    kind = string.sub(kind, 1, -2)
  end
  if kind == 'interrupt' then
    kind = interrupted(id)
  end
  if (kind == 'retry' or kind == 'release' or kind == 'limit') and has_extras(queue) then
    local packed = call('HGET', SPECS .. queue, id)
    if packed and Flow.is_cancelled(packed) then
      kind = 'abort'
      ending = {  -- a new table: the group's jobs share the other one
        id = id, queue = queue, token = ending.token, kind = kind, number = '0', ttl = '-1', result = '', error = error,
        lease_name = ending.lease_name,
      }
    end
  end
  local value = ending.result
  if error ~= '' then
    note_error(id, error)
  end
  local flow, number, only_child, is_output
  if kind ~= 'early' and (kind == 'limit' or has_specs) then
    local spec = settle_spec(id, queue, ending.token, kind, unstarted or kind == 'limit', value)
    if spec and LETTERS[kind] then
      note_run_end(spec, id, LETTERS[kind], now)
      flow, number, only_child, is_output = place_in_flow(spec)
    end
  end
  if kind == 'early' then
    acknowledge_early(id, lease)
  elseif LETTERS[kind] then
    if kind == 'dead' then
      bury(id, queue, value)
    end
    end_job(ending, kind, flow, number, only_child, is_output)
  elseif kind == 'again' then
    begin_anew(id, value)
    put_back(id, queue, kind, '0', lease, '')
  else
    put_back(id, queue, kind, ending.number, lease, kind == 'limit' and '' or value)
  end
end

-- End the workflows among the ended jobs: their flows end too.
local function end_workflows()
  local flows = {}
  for i, id in ipairs(ended) do
    flows[i] = FLOW .. id
  end
  if call('EXISTS', unpack(flows)) > 0 then
    for _, id in ipairs(ended) do
      if Flow.exists(id) and call('HGET', FLOW .. id, 'kind') == 'w' then
        Flow.end_flow(id, now, due_queues)
      end
    end
  end
end

return { settle = settle, end_member = end_member, end_workflows = end_workflows }
