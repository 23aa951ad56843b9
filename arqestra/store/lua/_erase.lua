-- Remove every trace of a job that no worker holds; a node of a flow ends as aborted, and a workflow ends. Needs _score,
-- _wake, _limits, _flow, _run_end. Marks queues in due_queues.

local function erase(queue, id, now, due_queues)
  local spec = spec_of(queue, id)
  if spec then
    Limits.leave_group(queue, id)
    Limits.give_back(queue, id, spec, now, true, due_queues)
    note_run_end(spec, id, 'a', now)
    local flow, number = place_in_flow(spec)
    if flow then
      Flow.end_node(flow, number, 'a', now, due_queues)
    end
  end
  if Flow.exists(id) and call('HGET', FLOW .. id, 'kind') == 'w' and call('HGET', FLOW .. id, 'state') ~= 'ended' then
    Flow.end_flow(id, now, due_queues)
  end
  local removed = call('DEL', JOB .. id, RESULT .. id, ATTEMPTS .. id, LEASE .. id, ERRORS .. id)
  removed = removed + call('ZREM', QUEUE .. queue, id) + call('ZREM', DEAD .. queue, id)
  call('DEL', PROGRESS .. id, JOB_LOG .. id, INTERRUPTS .. id)
  call('HDEL', DEAD_RESULTS .. queue, id)
  call('ZREM', ABORTS, id)
  call('ZREM', PROMOTE .. queue, id)
  call('PUBLISH', DONE .. id, '')
  return removed
end
