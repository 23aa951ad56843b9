-- What a workflow decided, written by the worker that holds its lease: steps that it asked for, events that it brought
-- about itself, steps that it gives up.
--
-- KEYS  1: queue of the workflow
-- ARGV  1: time in ms or ''   2: job id, which is the flow's   3: token   4: ms to keep the record   5: name of the function
--       6: when it started, if that is not written down yet
--       7: number of nodes, of events, of aborts, of waits, separated by blanks
--       8: how far it has come (flow/compare.py, Point), '' if this is not all that it decided up to there
--       9: '-', or of one that is about to end as failed: from where it can be resumed, '' from where it is
--       then of each node: number, record     'timer' in the header: `when` is its duration, and it is no job
--       then of each event: number or 0, kind, value      number 0: 'x' cancelled (value: a nonce) | 'd' its time is over
--       then of each abort: number      then of each wait: number, name of the event
-- RETURNS  { '1' or '0' if the lease is lost, now, of each timer when it is due }
--
-- Repeating the call is harmless: a node, an event or an abort is written once.

-- @include _clock
-- @include _lease
-- @include _score
-- @include _wake
-- @include _specs
-- @module Limits _limits
-- @module Flow _flow

local queue, flow, token = name_of(KEYS[1]), ARGV[2], ARGV[3]
local now = clock(ARGV[1])
local lease = call('GET', LEASE .. flow)
if not has_token(lease, token) then
  return { '0', now }
end
local name, due_queues, timers = FLOW .. flow, {}, {}
call('HSET', name, 'kind', 'w')
if call('HSETNX', name, 'created', now) == 1 then
  call('ZADD', FLOWS, now, flow)
end
call('HSET', name, 'state', 'running', 'queue', queue, 'keep', ARGV[4], 'name', ARGV[5])
call('HSETNX', name, 'started', ARGV[6])
call('SET', ATTEMPTS .. flow, 1)
-- It has come through its history to where it waits: the worker's crashes, if there were some, are not its fault.
call('SET', LEASE .. flow, string.match(lease, '^(.*|)%d+$') .. '0', 'KEEPTTL')

local function add_event(number, kind, value)
  call('RPUSH', LOG .. flow, kind .. ' ' .. number .. ' ' .. string.format('%.0f', now) .. ' ' .. value)
end

if ARGV[8] ~= '' then
  call('HSET', name, 'ran', ARGV[8])
  Flow.unblock(flow, queue)
end
if ARGV[9] ~= '-' then
  call('HSET', name, 'fault', ARGV[9])
  call('HSETNX', name, 'ran', '')
end
local nodes, events, aborts, waits = string.match(ARGV[7], '^(%d+) (%d+) (%d+) (%d+)$')
local at, last = 10, tonumber(call('HGET', name, 'nodes') or 0)
for _ = 1, tonumber(nodes) do
  local number, record = tonumber(ARGV[at]), ARGV[at + 1]
  local node = Flow.decoded(record)
  -- Without the payload: it is the job's, and a replay need not read it.
  local new = call('HSETNX', NODES .. flow, number, string.sub(record, 1, node.spec_end)) == 1
  if new and number > last then  -- one that is tried anew has a number that was counted
    call('HSET', name, 'nodes', number)
    last = number
  end
  if node.kind == 'job' and new then
    Flow.release(flow, number, node, now, due_queues)
  elseif node.kind == 'timer' then
    local due = now + tonumber(node.when)
    call('HSETNX', NODES .. flow, number .. 't', due)
    timers[#timers + 1] = call('HGET', NODES .. flow, number .. 't')
  end
  at = at + 2
end
for _ = 1, tonumber(events) do
  local number, kind, value = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  if number > 0 then
    if call('HSETNX', STATES .. flow, number, 'c') == 1 then
      add_event(number, kind, value)
    end
  elseif kind == 'x' then
    if call('HGET', name, 'cancelled') ~= value then
      call('HSET', name, 'cancelled', value)
      add_event(0, kind, value)
    end
    call('ZREM', ABORTS, flow)
  elseif call('HSETNX', name, 'timed_out', now) == 1 then
    add_event(0, kind, value)
  end
  at = at + 3
end
for _ = 1, tonumber(aborts) do
  local number = tonumber(ARGV[at])
  if Flow.state_of(flow, number) == 'q' then
    Flow.abort_node(flow, number, Flow.node_of(flow, number), now, due_queues)
  end
  at = at + 1
end
for _ = 1, tonumber(waits) do
  call('HSETNX', NODES .. flow, ARGV[at] .. 'w', ARGV[at + 1])
  at = at + 2
end
Flow.run_continuations(Flow.INLINE, false, now, due_queues)
for due_queue in pairs(due_queues) do
  wake(due_queue, now)
end
return { '1', now, unpack(timers) }
