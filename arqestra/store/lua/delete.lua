-- Remove every trace of a job that no worker holds.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: job id
--       4: '1' if this call may have been made before and its reply was lost
--       5: '1' if it is to be deleted only if it has ended
-- RETURNS  'running' nothing was done | 'again' nothing was done, it has not ended
--          | 'elsewhere' nothing was done, it is in another queue | 'deleted' | 'missing'
-- EVENTS   publishes its end; a node of a flow ends as aborted, and workers are woken for what that releases
-- REPEAT   argument 4 says so: then 'deleted' also if nothing is left.
-- USES  Lease, Wake, Flow, Erase
-- FLAGS  allow-oom

return function(c, argv)
  local k, queue, id = c.k, argv[2], argv[3]
  local is_resent, only_ended = argv[4] == '1', argv[5] == '1'
  if Lease.is_leased(call('GET', k.LEASE .. id), c.now) and call('ZSCORE', k.QUEUE .. queue, id) then
    return 'running'
  end
  if only_ended and call('ZSCORE', k.QUEUE .. queue, id) then
    return 'again'
  end
  if call('EXISTS', k.JOB .. id) == 1 and not call('ZSCORE', k.QUEUE .. queue, id) then
    return 'elsewhere'  -- payload and lease are by id alone: without them its entry there would be a ghost
  end
  local removed = Erase.erase(c, queue, id)
  if Flow.run_continuations(c, Flow.INLINE, false) then
    c.due_queues[queue] = true
  end
  Wake.wake_all(c)
  return (removed > 0 or is_resent) and 'deleted' or 'missing'
end
