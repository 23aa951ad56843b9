-- The outcomes of jobs: everything except the plain end of a job without limits. `f` is explained in _finish.
-- USES  Score, Lease, Specs, Special, RunEnd, Limits, Flow, JobEnds, Failures

local FREE_INTERRUPTS = 100          -- of one job: a job that stops its worker each time must not go on for ever
local INTERRUPTS_KEPT_MS = 86400000  -- since the last one

-- How the outcomes that end a job are noted in flows and schedules.
local LETTERS = { ['end'] = 'c', fail = 'f', dead = 'f', abort = 'a', expire = 'x' }

-- A node of a flow ends. Its result is kept as long as the flow; the node's state says what happens to the result then.
-- An error is kept with the flow's record, even if results are not kept: it says why the flow failed.
local function end_node_of_flow(c, flow, number, kind, ttl, value, only_child, is_output)
  local is_unkept = value == '' or (kind == 'end' and not is_output)
  local mark = ttl == '-1' and is_unkept and '0' or ttl == '0' and '!' or ''
  Flow.end_node(c, flow, number, LETTERS[kind] .. mark, only_child)
end

local function put_back(c, f, id, queue, kind, delay_ms, lease, attempts)
  local line_end = string.find(attempts, '\n', 1, true)
  if line_end then
    call('SET', c.k.JOB .. id, string.sub(attempts, line_end + 1))
    attempts = string.sub(attempts, 1, line_end - 1)
  end
  local _, due_score = Lease.fields_of(lease)
  local score = tonumber(due_score)
  local priority = Score.priority_of(score)
  if kind == 'again' or (kind == 'park' and call('LLEN', c.k.LOG .. id) > tonumber(attempts)) then
    score = Score.in_order(c.now, priority)  -- it has news already
    c.due_queues[queue] = true
  elseif kind == 'park' and delay_ms == '-1' then
    score = PARKED_SCORE + priority
  elseif delay_ms == '0' then
    if score >= PARKED_SCORE then
      score = Score.in_order(c.now, priority)  -- a workflow that was leased only to record its abort
    end
    c.due_queues[queue] = true
  else
    local due = c.now + delay_ms
    score = Score.score_at(c, queue, id, due, priority)
    f.deferred[queue] = math.min(due, f.deferred[queue] or due)
  end
  call('ZADD', c.k.QUEUE .. queue, score, id)
  call('DEL', c.k.LEASE .. id)
  call('PERSIST', c.k.JOB .. id)
  if kind == 'again' then
    call('DEL', c.k.ATTEMPTS .. id)
  elseif attempts ~= '' and kind ~= 'park' then
    call('SET', c.k.ATTEMPTS .. id, attempts)
  end
  if kind ~= 'retry' and kind ~= 'again' and call('DECR', c.k.ATTEMPTS .. id) <= 0 then
    call('DEL', c.k.ATTEMPTS .. id)
  end
end

-- The kind for a job that was interrupted while it ran: 'release', or 'retry' when that has happened too often.
local function interrupted(c, id)
  local count = call('INCR', c.k.INTERRUPTS .. id)
  call('PEXPIRE', c.k.INTERRUPTS .. id, INTERRUPTS_KEPT_MS)
  return count > FREE_INTERRUPTS and 'retry' or 'release'
end

-- The lease stays, with a crash count of EARLY_CRASHES. If it runs out, the next claim makes it one more and finds the
-- job dead: so it does not run again.
local function acknowledge_early(c, id, lease)
  local head, crashes = string.match(lease, '^(.*|)(%d+)$')
  call('SET', c.k.LEASE .. id, head .. math.max(tonumber(crashes), EARLY_CRASHES), 'KEEPTTL')
end

-- A workflow continues as new: running steps are aborted and the history is forgotten, except for events that nobody
-- took. The numbers of its new steps follow those of the old ones.
local function continue_as_new(c, id, value)
  local head, payload = string.match(value, '^([^\n]*)\n(.*)$')
  local seen, unread, running = string.match(head, '^(%d+) (%S*) (%S*)$')
  for number in string.gmatch(running, '%d+') do
    local node = Flow.node_of(c, id, tonumber(number))
    if node and Flow.state_of(c, id, tonumber(number)) == 'q' then
      Flow.abort_node(c, id, tonumber(number), node)
    end
  end
  local kept = {}
  for i, event in ipairs(call('LRANGE', c.k.LOG .. id, 0, -1)) do
    local nonce = string.match(event, '^g %d+ %d+ (%S+)')
    if nonce and (i > tonumber(seen) or string.find(unread, nonce, 1, true)) then
      kept[#kept + 1] = event
    end
  end
  local base, nodes = unpack(call('HMGET', c.k.FLOW .. id, 'base', 'nodes'))
  call('UNLINK', c.k.NODES .. id, c.k.STATES .. id, c.k.LOG .. id)
  for first = 1, #kept, BATCH do
    call('RPUSH', c.k.LOG .. id, unpack(kept, first, math.min(first + BATCH - 1, #kept)))
  end
  Flow.unblock(c, id, call('HGET', c.k.FLOW .. id, 'queue') or '')
  Flow.forget_view(c, id)
  Flow.add_continuation(c, 'd', tonumber(base or 0) + 1, tonumber(nodes or 0), id)
  call('HSET', c.k.FLOW .. id, 'base', nodes or 0)
  call('HDEL', c.k.FLOW .. id, 'started', 'cancelled', 'timed_out', 'ran', 'resumed')
  call('HINCRBY', c.k.FLOW .. id, 'rounds', 1)
  call('SET', c.k.JOB .. id, payload)
end

local function remove_spec(f, queue, id)
  local list = f.spec_removals[queue] or {}
  f.spec_removals[queue] = list
  list[#list + 1] = id
end

-- Free the room under limits and the locks that the job had; replace the old spec with the new one, if there is
-- one.
local function free_limits(c, f, id, queue, token, kind, unstarted, new_spec)
  local spec
  if Special.of_queue(c, queue).limits then
    local packed = f.specs[id]
    if packed == nil or queue ~= f.first_queue then
      spec = Specs.spec_of(c, queue, id)
    elseif packed then
      spec = cmsgpack.unpack(packed)
    end
  end
  if spec and LETTERS[kind] and #spec == 1 and (spec[1][1] == 'n' or spec[1][1] == 's') then
    remove_spec(f, queue, id)
  elseif spec then
    Limits.free_limits(c, queue, id, spec, LETTERS[kind] ~= nil)
  end
  if spec and unstarted then
    Limits.uncount_start(c, id, spec, token)
  end
  if kind == 'limit' and new_spec ~= '' then
    call('HSET', c.k.SPECS .. queue, id, new_spec)
  elseif kind == 'limit' then
    call('HDEL', c.k.SPECS .. queue, id)
  end
  return spec
end

-- The job has ended, as a node of a flow or not. An ending has the fields that _finish lists, and `lease_name`; the
-- jobs of a group share one, so nobody changes or keeps it.
local function end_job(c, f, ending, kind, flow, number, only_child, is_output)
  local id, queue, keep_ms, ttl, value = ending.id, ending.queue, ending.ms, ending.ttl, ending.result
  local view = flow and Flow.view_of(c, flow)
  if view and view.state == 'running' then
    JobEnds.add(c, f, id, queue, ending.lease_name, keep_ms, value == '' and '-1' or '0', value)
    return end_node_of_flow(c, flow, number, kind, ttl, value, only_child, is_output)
  end
  if view then  -- the workflow has ended without it: its result is kept as any job's
    Flow.set_state(c, flow, number, LETTERS[kind])
  end
  JobEnds.add(c, f, id, queue, ending.lease_name, keep_ms, ttl, value)
  if ending.error ~= '' then
    Failures.keep_history(c, id, ttl)
  end
end

-- A job of the first queue has ended. It never failed and is a node of a flow, and nothing else is special about it.
-- Nearly all jobs with a spec are like that.
local function end_node(c, f, ending, packed)
  remove_spec(f, f.first_queue, ending.id)
  local _, flow, number, only_child, is_output = unpack(cmsgpack.unpack(packed)[1])
  return end_job(c, f, ending, ending.kind, flow, number, only_child ~= -1 and only_child or nil, is_output == 1)
end

-- Write the outcome of one job, of any kind.
local function write_outcome(c, f, ending, lease, has_specs)
  f.is_special = true
  local id, queue, kind, error = ending.id, ending.queue, ending.kind, ending.error
  local unstarted = string.sub(kind, -1) == '!'
  if unstarted then
    kind = string.sub(kind, 1, -2)
  end
  if kind == 'interrupt' then
    kind = interrupted(c, id)
  end
  if (kind == 'retry' or kind == 'release' or kind == 'limit') and Special.of_queue(c, queue).limits then
    local packed = call('HGET', c.k.SPECS .. queue, id)
    if packed and Flow.is_cancelled(c, packed) then
      kind = 'abort'
      ending = {  -- a new table: the group's jobs share the other one
        id = id, queue = queue, token = ending.token, kind = kind, ms = '0', ttl = '-1', result = '', error = error,
        lease_name = ending.lease_name,
      }
    end
  end
  local value = ending.result
  if error ~= '' then
    Failures.note(c, id, error)
  end
  local flow, number, only_child, is_output
  if kind ~= 'early' and (kind == 'limit' or has_specs) then
    local spec = free_limits(c, f, id, queue, ending.token, kind, unstarted or kind == 'limit', value)
    if spec and LETTERS[kind] then
      RunEnd.note_run_end(c, spec, id, LETTERS[kind])
      flow, number, only_child, is_output = Specs.flow_position(spec)
    end
  end
  if kind == 'early' then
    acknowledge_early(c, id, lease)
  elseif LETTERS[kind] then
    if kind == 'dead' then
      Failures.bury(c, f.dead, id, queue, value)
    end
    end_job(c, f, ending, kind, flow, number, only_child, is_output)
  elseif kind == 'again' then
    continue_as_new(c, id, value)
    put_back(c, f, id, queue, kind, '0', lease, '')
  else
    put_back(c, f, id, queue, kind, ending.ms, lease, kind == 'limit' and '' or value)
  end
end

-- End the workflows among the ended jobs: their flows end too.
local function end_workflows(c, f)
  local flows = {}
  for i, id in ipairs(f.ended) do
    flows[i] = c.k.FLOW .. id
  end
  if call('EXISTS', unpack(flows)) > 0 then
    for _, id in ipairs(f.ended) do
      if Flow.exists(c, id) and call('HGET', c.k.FLOW .. id, 'kind') == 'w' then
        Flow.end_flow(c, id)
      end
    end
  end
end

return {
  write_outcome = write_outcome,
  end_node = end_node,
  end_workflows = end_workflows,
}
