-- How a queue stands, for people: how many jobs are in which state, how old the oldest due one is. Changes nothing.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: ms after the end of a lease from which a job that nobody took counts as stuck
-- RETURNS  { now, entries, due (running ones of stock workers not counted), deferred, running, held, waiting workflows,
--       of the running: those of stock workers, stuck, when the oldest due job became due or -1, '1' if the queue is
--       paused, workers that wait for jobs or rest, dead jobs, '1' if not all entries could be looked at,
--       workflows that are blocked by code }
--
-- Running jobs have to be looked for: those of ours are the first that are not due, since a lease is short; those of
-- stock workers are the first in the queue.

-- @include _clock
-- @include _score
-- @include _lease
-- @include _state

local PAGES = 3              -- that are looked at, of BATCH entries each

local queue, stuck_ms = name_of(KEYS[1]), tonumber(ARGV[2])
local now = clock(ARGV[1])
local past = call('ZCOUNT', QUEUE .. queue, '-inf', now)
local future = call('ZCOUNT', QUEUE .. queue, '(' .. now, string.format('(%.0f', THROTTLED_SCORE))
local running_past, running_future, stock, stuck, cut = 0, 0, 0, 0, false

local function look(first, last)
  local running = 0
  for page = 0, PAGES - 1 do
    local from = first + page * BATCH
    if from > last then
      return running
    end
    local entries = call('ZRANGE', QUEUE .. queue, from, math.min(last, from + BATCH - 1), 'WITHSCORES')
    local seen = 0
    for _, record in ipairs(leases_of(entries)) do
      if is_leased(record, now) then
        running, seen = running + 1, seen + 1
        if not lease_end_of(record) then
          stock = stock + 1
        end
      elseif has_holder(record) and lease_end_of(record) + stuck_ms < now then
        stuck = stuck + 1
      end
    end
    if #entries < 2 * BATCH then
      return running
    end
    if seen == 0 then
      break
    end
  end
  cut = cut or running >= BATCH
  return running
end

running_past = look(0, past - 1)
running_future = look(past, past + future - 1)

local oldest = -1
for priority = 0, MAX_PRIORITY do
  local least = in_order(STOCK_ABORT_SCORE, priority)
  local bounds = { string.format('(%.0f', least), string.format('%.0f', in_order(now, priority)) }
  local entries = call('ZRANGEBYSCORE', QUEUE .. queue, bounds[1], bounds[2], 'WITHSCORES', 'LIMIT', 0, 200)
  local records = leases_of(entries)
  for i = 1, #entries, 2 do
    if not is_leased(records[(i + 1) / 2], now) then
      local due = due_of(tonumber(entries[i + 1]))
      if oldest < 0 or due < oldest then
        oldest = due
      end
      break
    end
  end
end

return {
  now,
  call('ZCARD', QUEUE .. queue),
  past - running_past,
  future - running_future,
  running_past + running_future,
  call('ZCOUNT', QUEUE .. queue, string.format('%.0f', THROTTLED_SCORE), string.format('(%.0f', PARKED_SCORE)),
  call('ZCOUNT', QUEUE .. queue, string.format('%.0f', PARKED_SCORE), '+inf'),
  stock,
  stuck,
  string.format('%.0f', oldest),
  call('SISMEMBER', PAUSED, queue),
  call('ZCARD', WAITING .. queue) + call('ZCARD', RESTING .. queue),
  call('ZCARD', DEAD .. queue),
  cut and 1 or 0,
  call('ZCARD', BLOCKED .. queue),
}
