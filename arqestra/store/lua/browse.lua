-- A page of a queue, for people: its jobs and the state of each. Changes nothing.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: state that is wanted, '' for all
--       4: position of the first entry to inspect; -1: the first that may be in that state
--       5: entries to inspect
--       6: payloads to give at most
-- RETURNS  { now, entries in the queue, position to go on at or -1, then of each job: id, state, score, lease record or
--          false, payload or false }
--          state: 'queued' due | 'deferred' | 'running' | 'held' by a limit | 'waiting' a workflow that waits for news
-- REPEAT   it changes nothing.
-- USES  State
-- FLAGS  no-writes

-- The position of the first entry that may be in a state.
local function first_of(c, queue, state)
  local least = { queued = '-inf', held = THROTTLED_SCORE, waiting = PARKED_SCORE }
  local below = least[state] or c.now + 1  -- a leased job is among the first that are not due
  return below == '-inf' and 0 or call('ZCOUNT', c.k.QUEUE .. queue, '-inf', string.format('(%.0f', below))
end

return function(c, argv)
  local k, queue, wanted, first = c.k, argv[2], argv[3], tonumber(argv[4])
  local size, payloads = tonumber(argv[5]), tonumber(argv[6])
  if first < 0 then
    first = first_of(c, queue, wanted)
  end
  local entries = call('ZRANGE', k.QUEUE .. queue, first, first + size - 1, 'WITHSCORES')
  local reply = { c.now, call('ZCARD', k.QUEUE .. queue), #entries == 2 * size and first + size or -1 }
  local records = State.leases_of(c, entries)
  for i = 1, #entries, 2 do
    local id, score, record = entries[i], entries[i + 1], records[(i + 1) / 2]
    local state = State.state_of(tonumber(score), record, c.now)
    if wanted == '' or state == wanted then
      local payload = false
      if payloads > 0 then
        payload, payloads = call('GET', k.JOB .. id), payloads - 1
      end
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = id, state, score, record, payload
    end
  end
  return reply
end
