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
-- USES  Score, Wake

return function(c, argv)
  local queue, id = argv[2], argv[3]
  local stored = call('GET', c.k.JOB .. id)
  if stored then
    return stored == argv[5] and 'queued' or 'exists'  -- equal: this very call, sent again
  end
  if (call('GET', c.k.RESULT .. id) or call('HGET', c.k.DEAD_RESULTS .. queue, id)) ~= argv[4] then
    return 'changed'
  end
  call('HDEL', c.k.FLOW .. id, 'resume')  -- from its beginning
  call('DEL', c.k.RESULT .. id, c.k.ATTEMPTS .. id, c.k.LEASE .. id, c.k.INTERRUPTS .. id)
  call('ZREM', c.k.ABORTS, id)
  call('ZREM', c.k.DEAD .. queue, id)
  call('HDEL', c.k.DEAD_RESULTS .. queue, id)
  call('SET', c.k.JOB .. id, argv[5])
  call('ZADD', c.k.QUEUE .. queue, Score.in_order(c.now, tonumber(argv[6])), id)
  Wake.wake(c, queue)
  return 'queued'
end
