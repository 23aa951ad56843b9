-- Run a job that ended without success once more, under its id. The caller made the payload out of the result it read,
-- or out of that in the dead set; it must still be that one.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: job id
--       4: the result as it was read
--       5: payload
--       6: priority
-- RETURNS  'queued' | 'changed' the result is another one or gone | 'exists' the job is queued or running already
-- EVENTS   wakes a worker
-- REPEAT   the payload is there already: 'queued'.
-- USES  Score, Wake

return function(c, argv)
  local k, queue, id = c.k, argv[2], argv[3]
  local result, payload, priority = argv[4], argv[5], tonumber(argv[6])
  local stored = call('GET', k.JOB .. id)
  if stored then
    return stored == payload and 'queued' or 'exists'  -- equal: this very call, sent again
  end
  if (call('GET', k.RESULT .. id) or call('HGET', k.DEAD_RESULTS .. queue, id)) ~= result then
    return 'changed'
  end
  call('HDEL', k.FLOW .. id, 'resume')  -- from its beginning
  call('DEL', k.RESULT .. id, k.ATTEMPTS .. id, k.LEASE .. id, k.INTERRUPTS .. id)
  call('ZREM', k.ABORTS, id)
  call('ZREM', k.DEAD .. queue, id)
  call('HDEL', k.DEAD_RESULTS .. queue, id)
  call('SET', k.JOB .. id, payload)
  call('ZADD', k.QUEUE .. queue, Score.in_order(c.now, priority), id)
  Wake.wake(c, queue)
  return 'queued'
end
