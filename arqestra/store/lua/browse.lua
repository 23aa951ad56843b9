-- A page of a queue, for people: its jobs and the state of each. Changes nothing.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: state that is wanted, '' for all   3: place of the first entry to look at; -1: the first
--       that may be in that state   4: entries to look at   5: payloads to give at most
-- RETURNS  { now, entries in the queue, place to go on at or -1, then of each job: id, state, score, lease record or
--       false, payload or false }
-- A state is 'queued' due | 'deferred' | 'running' | 'held' by a limit | 'waiting' a workflow that waits for news.

-- @include _clock
-- @include _score
-- @include _lease
-- @include _state

local queue, wanted, first = name_of(KEYS[1]), ARGV[2], tonumber(ARGV[3])
local size, payloads = tonumber(ARGV[4]), tonumber(ARGV[5])
local now = clock(ARGV[1])
if first < 0 then
  local least = { queued = '-inf', held = THROTTLED_SCORE, waiting = PARKED_SCORE }
  local below = least[wanted] or now + 1  -- a leased job is among the first that are not due
  first = below == '-inf' and 0 or call('ZCOUNT', QUEUE .. queue, '-inf', string.format('(%.0f', below))
end
local entries = call('ZRANGE', QUEUE .. queue, first, first + size - 1, 'WITHSCORES')
local reply = { now, call('ZCARD', QUEUE .. queue), #entries == 2 * size and first + size or -1 }
local records = leases_of(entries)
for i = 1, #entries, 2 do
  local id, score, record = entries[i], entries[i + 1], records[(i + 1) / 2]
  local state = state_of(tonumber(score), record, now)
  if wanted == '' or state == wanted then
    local payload = false
    if payloads > 0 then
      payload, payloads = call('GET', JOB .. id), payloads - 1
    end
    local at = #reply
    reply[at + 1], reply[at + 2], reply[at + 3], reply[at + 4], reply[at + 5] = id, state, score, record, payload
  end
end
return reply
