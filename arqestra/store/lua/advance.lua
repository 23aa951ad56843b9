-- What a workflow decided, written by the worker that holds its lease: steps that it asked for, events that it brought
-- about itself, steps that it gives up (docs/protocols.md, "Replay of workflows").
--
-- ARGV  1: time in ms or ''
--       2: queue of the workflow
--       3: job id, which is the flow's
--       4: token
--       5: ms to keep the record
--       6: name of the function
--       7: when it started in ms, if that is not written down yet
--       8: how many nodes, events, aborts and waits follow, separated by blanks
--       9: how far it has come (flow/compare.py, Point), '' if this is not all that it decided up to there
--       10: '-', or of one that is about to end as failed: from where it can be resumed, '' from where it is
--       then of each node: number, record     'timer' in the header: `when` is its duration, and it is no job
--       then of each event: number or 0, kind, value
--            number 0: kind 'x' it was cancelled (value: a nonce) | 'd' its time is over
--       then of each abort: number of the node
--       then of each wait: its number, name of the event
-- RETURNS  { '1' or '0' if the lease is lost, now, of each timer when it is due }
-- EVENTS   wakes workers for its steps; tells those that run steps which it gives up
-- REPEAT   a node, an event or an abort is written once.
-- USES  Lease, Wake, Flow

-- Write that the workflow runs, and how far it has come.
local function write_record(c, argv, lease)
  local k, queue, flow = c.k, argv[2], argv[3]
  local ran, fault = argv[9], argv[10]
  local name = k.FLOW .. flow
  call('HSET', name, 'kind', 'w')
  if call('HSETNX', name, 'created', c.now) == 1 then
    call('ZADD', k.FLOWS, c.now, flow)
  end
  call('HSET', name, 'state', 'running', 'queue', queue, 'keep', argv[5], 'name', argv[6])
  call('HSETNX', name, 'started', argv[7])
  call('SET', k.ATTEMPTS .. flow, 1)
  -- It has come through its history to where it waits: the worker's crashes, if there were some, are not its fault.
  call('SET', k.LEASE .. flow, string.match(lease, '^(.*|)%d+$') .. '0', 'KEEPTTL')
  if ran ~= '' then
    call('HSET', name, 'ran', ran)
    Flow.unblock(c, flow, queue)
  end
  if fault ~= '-' then
    call('HSET', name, 'fault', fault)
    call('HSETNX', name, 'ran', '')
  end
end

-- Write nodes that begin at argv[at]: jobs are released. Returns where the next thing begins in argv, and when each
-- timer is due.
local function write_nodes(c, argv, at, count)
  local flow, timers = argv[3], {}
  local name, nodes = c.k.FLOW .. flow, c.k.NODES .. flow
  local highest = tonumber(call('HGET', name, 'nodes') or 0)
  for _ = 1, count do
    local number, record = tonumber(argv[at]), argv[at + 1]
    local header, spec_first, spec_last = Flow.decoded(c, record)
    -- Without the payload: it is the job's, and a replay need not read it.
    local is_new = call('HSETNX', nodes, number, string.sub(record, 1, spec_last)) == 1
    if is_new and number > highest then  -- one that is tried anew has a number that was counted
      call('HSET', name, 'nodes', number)
      highest = number
    end
    if header.kind == 'job' and is_new then
      Flow.release(c, flow, number, record, header, spec_first, spec_last)
    elseif header.kind == 'timer' then
      call('HSETNX', nodes, number .. 't', c.now + tonumber(header.when))
      timers[#timers + 1] = call('HGET', nodes, number .. 't')
    end
    at = at + 2
  end
  return at, timers
end

local function append_event(c, flow, number, kind, value)
  call('RPUSH', c.k.LOG .. flow, kind .. ' ' .. number .. ' ' .. string.format('%.0f', c.now) .. ' ' .. value)
end

-- Write events that begin at argv[at]. Returns where the next thing begins in argv.
local function write_events(c, argv, at, count)
  local k, flow = c.k, argv[3]
  local name = k.FLOW .. flow
  for _ = 1, count do
    local number, kind, value = tonumber(argv[at]), argv[at + 1], argv[at + 2]
    if number > 0 then
      if call('HSETNX', k.STATES .. flow, number, 'c') == 1 then
        append_event(c, flow, number, kind, value)
      end
    elseif kind == 'x' then
      if call('HGET', name, 'cancelled') ~= value then
        call('HSET', name, 'cancelled', value)
        append_event(c, flow, 0, kind, value)
      end
      call('ZREM', k.ABORTS, flow)
    elseif call('HSETNX', name, 'timed_out', c.now) == 1 then
      append_event(c, flow, 0, kind, value)
    end
    at = at + 3
  end
  return at
end

-- Abort the steps whose numbers begin at argv[at]. Returns where the next thing begins in argv.
local function abort_steps(c, argv, at, count)
  local flow = argv[3]
  for _ = 1, count do
    local number = tonumber(argv[at])
    if Flow.state_of(c, flow, number) == 'q' then
      local header = Flow.node_of(c, flow, number)
      Flow.abort_node(c, flow, number, header)
    end
    at = at + 1
  end
  return at
end

local function write_waits(c, argv, at, count)
  local nodes = c.k.NODES .. argv[3]
  for _ = 1, count do
    call('HSETNX', nodes, argv[at] .. 'w', argv[at + 1])
    at = at + 2
  end
end

return function(c, argv)
  local flow, token = argv[3], argv[4]
  local lease = call('GET', c.k.LEASE .. flow)
  if not Lease.has_token(lease, token) then
    return { '0', c.now }
  end
  write_record(c, argv, lease)
  local nodes, events, aborts, waits = string.match(argv[8], '^(%d+) (%d+) (%d+) (%d+)$')
  local at, timers = write_nodes(c, argv, 11, tonumber(nodes))
  at = write_events(c, argv, at, tonumber(events))
  at = abort_steps(c, argv, at, tonumber(aborts))
  write_waits(c, argv, at, tonumber(waits))
  Flow.run_continuations(c, Flow.INLINE, false)
  Wake.wake_all(c)
  return { '1', c.now, unpack(timers) }
end
