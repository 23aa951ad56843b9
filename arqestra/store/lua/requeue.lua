-- Run a job that ended without success once more, under its id. The caller made the payload out of the result it read,
-- or out of that in the dead set; it must still be that one.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: job id   3: the result as it was read   4: payload   5: priority
-- RETURNS  'queued' | 'changed' the result is another one or gone | 'exists' the job is queued or running already

-- @include _clock
-- @include _score
-- @include _wake

local queue, id = name_of(KEYS[1]), ARGV[2]
local now = clock(ARGV[1])
local stored = call('GET', JOB .. id)
if stored then
  return stored == ARGV[4] and 'queued' or 'exists'  -- equal: this very call, sent again
end
if (call('GET', RESULT .. id) or call('HGET', DEAD_RESULTS .. queue, id)) ~= ARGV[3] then
  return 'changed'
end
call('HDEL', FLOW .. id, 'resume')  -- from its beginning
call('DEL', RESULT .. id, ATTEMPTS .. id, LEASE .. id, INTERRUPTS .. id)
call('ZREM', ABORTS, id)
call('ZREM', DEAD .. queue, id)
call('HDEL', DEAD_RESULTS .. queue, id)
call('SET', JOB .. id, ARGV[4])
call('ZADD', QUEUE .. queue, in_order(now, tonumber(ARGV[5])), id)
wake(queue, now)
return 'queued'
