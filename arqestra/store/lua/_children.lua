-- Jobs that wait for other jobs. A child is registered with each parent that has not ended (CHILDREN: child -> queue), and
-- knows the parents that it still waits for (PARENTS). Needs _score, _wake.

-- The parent has ended or is gone: children for whom it was the last one become due. Marks their queues in due_queues.
local function release_children(parent, now, due_queues)
  local children = call('HGETALL', CHILDREN .. parent)
  for i = 1, #children, 2 do
    local child, queue = children[i], children[i + 1]
    call('SREM', PARENTS .. child, parent)
    if call('EXISTS', PARENTS .. child) == 0 then
      local score = tonumber(call('ZSCORE', queue, child) or FAR_FUTURE)
      call('ZADD', queue, 'XX', in_order(now, priority_of(score)), child)
      due_queues[queue] = true
    end
  end
  call('DEL', CHILDREN .. parent)
end

-- The child has ended before its parents did (it was aborted or deleted): no parent is to release it any more.
local function leave_parents(child)
  for _, parent in ipairs(call('SMEMBERS', PARENTS .. child)) do
    call('HDEL', CHILDREN .. parent, child)
  end
  call('DEL', PARENTS .. child)
end
