-- Remove every trace of a job that no worker holds; a node of a flow ends as aborted, and a workflow ends. Marks queues in
-- c.due_queues.
-- USES  Specs, Limits, Flow, RunEnd

local function erase(c, queue, id)
  local spec = Specs.spec_of(c, queue, id)
  if spec then
    Limits.leave_group(c, queue, id)
    Limits.give_back(c, queue, id, spec, true)
    RunEnd.note_run_end(c, spec, id, 'a')
    local flow, number = Specs.place_in_flow(spec)
    if flow then
      Flow.end_node(c, flow, number, 'a')
    end
  end
  if Flow.exists(c, id) and call('HGET', c.k.FLOW .. id, 'kind') == 'w' and call('HGET', c.k.FLOW .. id, 'state') ~= 'ended' then
    Flow.end_flow(c, id)
  end
  local removed = call('DEL', c.k.JOB .. id, c.k.RESULT .. id, c.k.ATTEMPTS .. id, c.k.LEASE .. id, c.k.ERRORS .. id)
  removed = removed + call('ZREM', c.k.QUEUE .. queue, id) + call('ZREM', c.k.DEAD .. queue, id)
  call('DEL', c.k.PROGRESS .. id, c.k.JOB_LOG .. id, c.k.INTERRUPTS .. id)
  call('HDEL', c.k.DEAD_RESULTS .. queue, id)
  call('ZREM', c.k.ABORTS, id)
  call('ZREM', c.k.PROMOTE .. queue, id)
  call('PUBLISH', c.k.DONE .. id, '')
  return removed
end

return {
  erase = erase,
}
