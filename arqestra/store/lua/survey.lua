-- How a queue stands, for people: how many jobs are in which state, how old the oldest due one is. Changes nothing.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: ms after the end of a lease from which a job that nobody took counts as stuck
-- RETURNS  { now, entries, due (running ones of stock workers not counted), deferred, running, held, waiting workflows,
--       of the running: those of stock workers, stuck, when the oldest due job became due or -1, '1' if the queue is
--       paused, workers that wait for jobs or rest, dead jobs, '1' if not all entries could be inspected,
--       workflows that are blocked by code }
--
-- Running jobs have to be searched: those of ours are the first that are not due, since a lease is short; those of
-- stock workers are the first in the queue.
-- USES  Score, Lease, State
-- FLAGS  no-writes

local PAGES = 3              -- that are inspected, of BATCH entries each

-- Look at the entries of a part of the queue; returns how many are running. Adds to `s.stock` those of stock workers,
-- to `s.stuck` those that are stuck, and sets `s.cut` if there may be more.
local function inspect(c, s, queue, first, last)
  local running = 0
  for page = 0, PAGES - 1 do
    local from = first + page * BATCH
    if from > last then
      return running
    end
    local entries = call('ZRANGE', c.k.QUEUE .. queue, from, math.min(last, from + BATCH - 1), 'WITHSCORES')
    local seen = 0
    for _, record in ipairs(State.leases_of(c, entries)) do
      if Lease.is_leased(record, c.now) then
        running, seen = running + 1, seen + 1
        if not Lease.lease_end_of(record) then
          s.stock = s.stock + 1
        end
      elseif Lease.has_holder(record) and Lease.lease_end_of(record) + s.stuck_ms < c.now then
        s.stuck = s.stuck + 1
      end
    end
    if #entries < 2 * BATCH then
      return running
    end
    if seen == 0 then
      break
    end
  end
  s.cut = s.cut or running >= BATCH
  return running
end

-- When the oldest due job became due, or -1.
local function oldest_due(c, queue)
  local oldest = -1
  for priority = 0, MAX_PRIORITY do
    local least = Score.in_order(Score.STOCK_ABORT_SCORE, priority)
    local bounds = { string.format('(%.0f', least), string.format('%.0f', Score.in_order(c.now, priority)) }
    local entries = call('ZRANGEBYSCORE', c.k.QUEUE .. queue, bounds[1], bounds[2], 'WITHSCORES', 'LIMIT', 0, 200)
    local records = State.leases_of(c, entries)
    for i = 1, #entries, 2 do
      if not Lease.is_leased(records[(i + 1) / 2], c.now) then
        local due = Score.due_of(tonumber(entries[i + 1]))
        if oldest < 0 or due < oldest then
          oldest = due
        end
        break
      end
    end
  end
  return oldest
end

return function(c, argv)
  local queue = argv[2]
  local past = call('ZCOUNT', c.k.QUEUE .. queue, '-inf', c.now)
  local future = call('ZCOUNT', c.k.QUEUE .. queue, '(' .. c.now, string.format('(%.0f', THROTTLED_SCORE))
  local s = { stuck_ms = tonumber(argv[3]), stock = 0, stuck = 0, cut = false }
  local running_past = inspect(c, s, queue, 0, past - 1)
  local running_future = inspect(c, s, queue, past, past + future - 1)

  return {
    c.now,
    call('ZCARD', c.k.QUEUE .. queue),
    past - running_past,
    future - running_future,
    running_past + running_future,
    call('ZCOUNT', c.k.QUEUE .. queue, string.format('%.0f', THROTTLED_SCORE), string.format('(%.0f', PARKED_SCORE)),
    call('ZCOUNT', c.k.QUEUE .. queue, string.format('%.0f', PARKED_SCORE), '+inf'),
    s.stock,
    s.stuck,
    string.format('%.0f', oldest_due(c, queue)),
    call('SISMEMBER', c.k.PAUSED, queue),
    call('ZCARD', c.k.WAITING .. queue) + call('ZCARD', c.k.RESTING .. queue),
    call('ZCARD', c.k.DEAD .. queue),
    s.cut and 1 or 0,
    call('ZCARD', c.k.BLOCKED .. queue),
  }
end
