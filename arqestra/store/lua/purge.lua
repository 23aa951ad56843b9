-- Remove the jobs of a queue that no worker holds, a piece of the queue at a time.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: entries to pass over: running jobs that were seen before   3: entries to look at
-- RETURNS  { removed, entries to pass over next time, '1' if the end of the queue was reached }

-- @include _clock
-- @include _score
-- @include _lease
-- @include _wake
-- @include _specs
-- @module Limits _limits
-- @module Flow _flow
-- @include _run_end
-- @include _erase

local queue, skip, size = name_of(KEYS[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock(ARGV[1])
local removed, due_queues = 0, {}
local ids = call('ZRANGE', QUEUE .. queue, skip, skip + size - 1)
for _, id in ipairs(ids) do
  if is_leased(call('GET', LEASE .. id), now) then
    skip = skip + 1
  else
    erase(queue, id, now, due_queues)
    removed = removed + 1
  end
end
due_queues[queue] = nil
if Flow.run_continuations(Flow.INLINE, false, now, due_queues) then
  due_queues[queue] = true
end
for due_queue in pairs(due_queues) do
  wake(due_queue, now)
end
return { removed, skip, #ids < size and '1' or '0' }
