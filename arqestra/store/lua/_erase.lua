-- Remove every trace of a job that no worker holds. Needs _score, _wake, _limits, _children. Marks queues in due_queues.

local function erase(queue, id, now, due_queues)
  local spec = spec_of(queue, id)
  if spec then
    fetch_from_lane(queue, id)
    give_back(queue, id, spec, now, true, due_queues)
  end
  leave_parents(id)
  release_children(id, now, due_queues)
  local removed = call('DEL', JOB .. id, RESULT .. id, ATTEMPTS .. id, LEASE .. id, ERRORS .. id)
  removed = removed + call('ZREM', queue, id) + call('ZREM', DEAD .. queue, id)
  call('HDEL', DEAD_RESULTS .. queue, id)
  call('ZREM', ABORTS, id)
  call('ZREM', PROMOTE .. queue, id)
  call('PUBLISH', DONE .. id, '')
  return removed
end
