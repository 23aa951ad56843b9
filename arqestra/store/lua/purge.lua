-- Remove the jobs of a queue that no worker holds, a piece of the queue at a time.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: entries to pass over: running jobs that were seen before
--       4: entries to inspect
-- RETURNS  { removed, entries to pass over next time, '1' if the end of the queue was reached }
-- EVENTS   publishes the end of each job; nodes of flows end as aborted, and workers are woken for what that releases
-- REPEAT   it goes on with the jobs that are left.
-- USES  Lease, Wake, Flow, Erase
-- FLAGS  allow-oom

return function(c, argv)
  local k, queue, skip, size = c.k, argv[2], tonumber(argv[3]), tonumber(argv[4])
  local removed = 0
  local ids = call('ZRANGE', k.QUEUE .. queue, skip, skip + size - 1)
  for _, id in ipairs(ids) do
    if Lease.is_leased(call('GET', k.LEASE .. id), c.now) then
      skip = skip + 1
    else
      Erase.erase(c, queue, id)
      removed = removed + 1
    end
  end
  c.due_queues[queue] = nil
  if Flow.run_continuations(c, Flow.INLINE, false) then
    c.due_queues[queue] = true
  end
  Wake.wake_all(c)
  return { removed, skip, #ids < size and '1' or '0' }
end
