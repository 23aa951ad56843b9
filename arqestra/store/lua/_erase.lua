-- Remove every trace of a job that no worker holds; a node of a flow ends as aborted, and a workflow ends. Marks queues
-- in c.due_queues. Returns how much there was of the job.
-- USES  Specs, Limits, Flow, RunEnd

-- Whether the job is a workflow that has not ended.
local function is_open_workflow(c, id)
  local name = c.k.FLOW .. id
  return Flow.exists(c, id) and call('HGET', name, 'kind') == 'w' and call('HGET', name, 'state') ~= 'ended'
end

local function erase(c, queue, id)
  local k, spec = c.k, Specs.spec_of(c, queue, id)
  if spec then
    Limits.leave_group(c, queue, id)
    Limits.free_limits(c, queue, id, spec, true)
    RunEnd.note_run_end(c, spec, id, 'a')
    local flow, number = Specs.flow_position(spec)
    if flow then
      Flow.end_node(c, flow, number, 'a')
    end
  end
  if is_open_workflow(c, id) then
    Flow.end_flow(c, id)
  end
  local removed = call('DEL', k.JOB .. id, k.RESULT .. id, k.ATTEMPTS .. id, k.LEASE .. id, k.ERRORS .. id)
  removed = removed + call('ZREM', k.QUEUE .. queue, id) + call('ZREM', k.DEAD .. queue, id)
  call('DEL', k.PROGRESS .. id, k.JOB_LOG .. id, k.INTERRUPTS .. id)
  call('HDEL', k.DEAD_RESULTS .. queue, id)
  call('ZREM', k.ABORTS, id)
  call('ZREM', k.PROMOTE .. queue, id)
  call('PUBLISH', k.DONE .. id, '')
  return removed
end

return {
  erase = erase,
}
