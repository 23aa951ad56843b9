-- Cancel a graph that runs: what waits is dropped, what is queued is taken from its queue, what runs is told to abort.
--
-- ARGV  1: time in ms or ''
--       2: flow
--       3: reason
-- RETURNS  'cancelled' | 'ended' | 'missing'
-- USES  Wake, Flow

return function(c, argv)
  local flow = argv[2]
  local state = call('HGET', c.k.FLOW .. flow, 'state')
  if not state then
    return 'missing'
  end
  if state == 'ended' then
    return 'ended'
  end
  call('HSETNX', c.k.FLOW .. flow, 'cancelled', argv[3])
  Flow.add_continuation(c, 'c', 1, 0, flow)
  if Flow.run_continuations(c, Flow.INLINE, false) then
    Flow.mark_its_queues(c, flow)
  end
  Wake.wake_all(c)
  return 'cancelled'
end
