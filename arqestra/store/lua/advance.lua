-- What a workflow decided, written by the worker that holds its lease: steps that it asked for, events that it brought
-- about itself, steps that it gives up.
--
-- ARGV  1: time in ms or ''
--       2: queue of the workflow
--       3: job id, which is the flow's
--       4: token
--       5: ms to keep the record
--       6: name of the function
--       7: when it started, if that is not written down yet
--       8: number of nodes, of events, of aborts, of waits, separated by blanks
--       9: how far it has come (flow/compare.py, Point), '' if this is not all that it decided up to there
--       10: '-', or of one that is about to end as failed: from where it can be resumed, '' from where it is
--       then of each node: number, record     'timer' in the header: `when` is its duration, and it is no job
--       then of each event: number or 0, kind, value      number 0: 'x' cancelled (value: a nonce) | 'd' its time is over
--       then of each abort: number      then of each wait: number, name of the event
-- RETURNS  { '1' or '0' if the lease is lost, now, of each timer when it is due }
-- REPEAT   a node, an event or an abort is written once.
-- USES  Lease, Wake, Flow

return function(c, argv)
  local queue, flow, token = argv[2], argv[3], argv[4]
  local lease = call('GET', c.k.LEASE .. flow)
  if not Lease.has_token(lease, token) then
    return { '0', c.now }
  end
  local name, timers = c.k.FLOW .. flow, {}
  call('HSET', name, 'kind', 'w')
  if call('HSETNX', name, 'created', c.now) == 1 then
    call('ZADD', c.k.FLOWS, c.now, flow)
  end
  call('HSET', name, 'state', 'running', 'queue', queue, 'keep', argv[5], 'name', argv[6])
  call('HSETNX', name, 'started', argv[7])
  call('SET', c.k.ATTEMPTS .. flow, 1)
  -- It has come through its history to where it waits: the worker's crashes, if there were some, are not its fault.
  call('SET', c.k.LEASE .. flow, string.match(lease, '^(.*|)%d+$') .. '0', 'KEEPTTL')

  local function add_event(number, kind, value)
    call('RPUSH', c.k.LOG .. flow, kind .. ' ' .. number .. ' ' .. string.format('%.0f', c.now) .. ' ' .. value)
  end

  if argv[9] ~= '' then
    call('HSET', name, 'ran', argv[9])
    Flow.unblock(c, flow, queue)
  end
  if argv[10] ~= '-' then
    call('HSET', name, 'fault', argv[10])
    call('HSETNX', name, 'ran', '')
  end
  local nodes, events, aborts, waits = string.match(argv[8], '^(%d+) (%d+) (%d+) (%d+)$')
  local at, last = 11, tonumber(call('HGET', name, 'nodes') or 0)
  for _ = 1, tonumber(nodes) do
    local number, record = tonumber(argv[at]), argv[at + 1]
    local node = Flow.decoded(c, record)
    -- Without the payload: it is the job's, and a replay need not read it.
    local new = call('HSETNX', c.k.NODES .. flow, number, string.sub(record, 1, node.spec_end)) == 1
    if new and number > last then  -- one that is tried anew has a number that was counted
      call('HSET', name, 'nodes', number)
      last = number
    end
    if node.kind == 'job' and new then
      Flow.release(c, flow, number, node)
    elseif node.kind == 'timer' then
      local due = c.now + tonumber(node.when)
      call('HSETNX', c.k.NODES .. flow, number .. 't', due)
      timers[#timers + 1] = call('HGET', c.k.NODES .. flow, number .. 't')
    end
    at = at + 2
  end
  for _ = 1, tonumber(events) do
    local number, kind, value = tonumber(argv[at]), argv[at + 1], argv[at + 2]
    if number > 0 then
      if call('HSETNX', c.k.STATES .. flow, number, 'c') == 1 then
        add_event(number, kind, value)
      end
    elseif kind == 'x' then
      if call('HGET', name, 'cancelled') ~= value then
        call('HSET', name, 'cancelled', value)
        add_event(0, kind, value)
      end
      call('ZREM', c.k.ABORTS, flow)
    elseif call('HSETNX', name, 'timed_out', c.now) == 1 then
      add_event(0, kind, value)
    end
    at = at + 3
  end
  for _ = 1, tonumber(aborts) do
    local number = tonumber(argv[at])
    if Flow.state_of(c, flow, number) == 'q' then
      Flow.abort_node(c, flow, number, Flow.node_of(c, flow, number))
    end
    at = at + 1
  end
  for _ = 1, tonumber(waits) do
    call('HSETNX', c.k.NODES .. flow, argv[at] .. 'w', argv[at + 1])
    at = at + 2
  end
  Flow.run_continuations(c, Flow.INLINE, false)
  Wake.wake_all(c)
  return { '1', c.now, unpack(timers) }
end
