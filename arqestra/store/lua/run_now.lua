-- Make a deferred job due at once; one that waits for its next attempt too.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: job id
-- RETURNS  'queued' it is due, from now on or already | 'running'
--          | 'held' by a limit, or a workflow that waits for news | 'missing'
-- EVENTS   wakes a worker
-- REPEAT   it is due already: 'queued'.
-- USES  Score, Wake, State

return function(c, argv)
  local k, queue, id = c.k, argv[2], argv[3]
  local score = tonumber(call('ZSCORE', k.QUEUE .. queue, id) or nil)
  if not score then
    return 'missing'
  end
  local state = State.state_of(score, call('GET', k.LEASE .. id), c.now)
  if state == 'running' then
    return 'running'
  elseif state == 'held' or state == 'waiting' then
    return 'held'
  elseif state == 'deferred' then
    call('ZADD', k.QUEUE .. queue, 'XX', Score.in_order(c.now, Score.priority_of(score)), id)
    call('ZREM', k.PROMOTE .. queue, id)
    Wake.wake(c, queue)
  end
  return 'queued'
end
