-- Cancel a graph that runs: what waits is dropped, what is queued is taken from its queue, what runs is told to abort
-- (docs/protocols.md, "Flows and joins").
--
-- ARGV  1: time in ms or ''
--       2: flow
--       3: reason
-- RETURNS  'cancelled' | 'ended' | 'missing'
-- EVENTS   tells the workers that hold its jobs; publishes the end of each job that is taken from its queue, and that
--          of the flow; wakes workers if something is left to do
-- REPEAT   the first reason stays, and nodes that have ended are left alone.
-- USES  Wake, Flow

return function(c, argv)
  local flow = argv[2]
  local name = c.k.FLOW .. flow
  local state = call('HGET', name, 'state')
  if not state then
    return 'missing'
  end
  if state == 'ended' then
    return 'ended'
  end
  call('HSETNX', name, 'cancelled', argv[3])
  Flow.add_continuation(c, 'c', 1, 0, flow)
  if Flow.run_continuations(c, Flow.INLINE, false) then
    Flow.mark_its_queues(c, flow)
  end
  Wake.wake_all(c)
  return 'cancelled'
end
