-- Lease due jobs to one worker.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''      2: worker id           3: number of this claim (token = worker id .. '.' .. number)
--       4: free slots            5: lease in ms         6: ms that the record outlives the lease
--       7: '1' register as waiting when slots stay free 8: '1' take jobs that are to be aborted, beyond the slots
--       9: '1' the worker holds a suspect already      10: crashes after which a job is dead
--      11: '1' this claim may have been made before and its reply was lost
--      12...: ids, to claim just these if they are due
-- RETURNS  { jobs in the queue, ms until the next becomes due or -1, '1' if the claim was cut to a fair share,
--            now, then for each job: id, payload or false, attempt, due, mark }
--          mark: '' run it, as nearly always | 'crashes flag' with the flag '' run it | 'abort' | 'dead' (record it only)
-- EVENTS   wakes the next waiting worker while due jobs remain; tells workers which of their jobs are to be aborted
--
-- The lease record, never the score, says whether a job is free: a stock abort() gives a leased job a past score (it is
-- repaired here), and stock arq workers leave their running jobs at the head of the queue (they are paged past, not moved).
-- A lease that ran out counts a crash. From the second crash on a job is a suspect: a worker holds one suspect at a time,
-- so that the job that kills its worker for the third time takes no innocent neighbour to the dead set with it.

-- @include _clock
-- @include _wake

local SCAN_LIMIT = 5000      -- entries looked at in one claim: bounds the time of the script
local PAGE = 250             -- entries a page after the first
local ABORTS_A_CLAIM = 100
local ABORT_MAX_AGE_MS = 86400000
local POSTPONE_SUSPECT_MS = 1000
local WAITING_TTL_MS = 60000  -- workers register anew at least every 30 s
local STOCK_ABORT_SCORE = 1  -- what stock arq's abort() writes: such a job may still wait for its parents
local FAR_FUTURE = 8640000000000000

local queue = KEYS[1]
local now = clock(ARGV[1])
local worker, slots, lease_ms, margin_ms = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local token = worker .. '.' .. ARGV[3]
local wait, aborts, holds_suspect, max_crashes = ARGV[7] == '1', ARGV[8] == '1', ARGV[9] == '1', tonumber(ARGV[10])
local waiting = WAITING .. queue

local waiting_count = 0
local ids, dues, crash_counts, flags = {}, {}, {}, {}
local moves, seen = {}, {}   -- moves: score, id, score, id, ... of entries that are not taken

local function take(id, due, crashes, flag)
  local n = #ids + 1
  ids[n], dues[n], crash_counts[n], flags[n] = id, math.max(0, math.floor(due)), crashes, flag
  seen[id] = true
end

local function move(id, score)
  moves[#moves + 1] = score
  moves[#moves + 1] = id
end

-- One due entry and its lease record: take it, move it, or leave it alone.
local function judge(id, score, lease)
  if seen[id] then
    return
  end
  if not lease then
    if score <= STOCK_ABORT_SCORE and call('EXISTS', PARENTS .. id) == 1 then
      return move(id, FAR_FUTURE)
    end
    return take(id, score <= STOCK_ABORT_SCORE and now or score, 0, '')
  end
  local lease_end, due, crashes = string.match(lease, '|(%d+)|(%d+)|(%d+)$')
  if not lease_end then
    return  -- a stock worker runs it
  end
  if tonumber(lease_end) > now then
    return move(id, lease_end)
  end
  if call('EXISTS', PARENTS .. id) == 1 then
    return move(id, FAR_FUTURE)  -- it was leased only to record its abort
  end
  crashes = crashes + 1
  if crashes >= max_crashes then
    return take(id, tonumber(due), crashes, 'dead')
  end
  if crashes >= max_crashes - 1 then
    if holds_suspect then
      return move(id, now + POSTPONE_SUSPECT_MS)
    end
    holds_suspect = true
  end
  return take(id, tonumber(due), crashes, '')
end

local function leases_of(list, first, step)
  local names = {}
  for i = first, #list, step do
    names[#names + 1] = LEASE .. list[i]
  end
  return call('MGET', unpack(names))
end

-- A job of this queue that is to be aborted. A worker that holds it is told: a stock client tells nobody.
local function take_abort(id, score)
  local lease = call('GET', LEASE .. id)
  if not lease then
    return take(id, score <= STOCK_ABORT_SCORE and now or score, 0, 'abort')
  end
  local lease_end, due, crashes = string.match(lease, '|(%d+)|(%d+)|(%d+)$')
  if lease_end and tonumber(lease_end) <= now then
    take(id, tonumber(due), tonumber(crashes), 'abort')
  elseif lease_end then
    call('PUBLISH', WORKER .. string.match(lease, '^([^.|]+)'), 'abort ' .. id)
  end
end

local function take_aborts()
  call('ZREMRANGEBYSCORE', ABORTS, '-inf', now - ABORT_MAX_AGE_MS)
  for first = 0, SCAN_LIMIT - 1, PAGE do
    local requested = call('ZREVRANGE', ABORTS, first, first + PAGE - 1)
    if #requested == 0 then
      return
    end
    for i, score in ipairs(call('ZMSCORE', queue, unpack(requested))) do
      if score and #ids < ABORTS_A_CLAIM then
        take_abort(requested[i], tonumber(score))
      end
    end
  end
end

local function take_due(want)
  local offset, size = 0, want
  local goal = #ids + want
  while #ids < goal and offset < SCAN_LIMIT do
    local page = call('ZRANGEBYSCORE', queue, '-inf', now, 'WITHSCORES', 'LIMIT', offset, size)
    if #page == 0 then
      return
    end
    local leases = leases_of(page, 1, 2)
    for i = 1, #page, 2 do
      if #ids >= goal then
        return
      end
      judge(page[i], tonumber(page[i + 1]), leases[(i + 1) / 2])
    end
    offset, size = offset + #page / 2, PAGE
  end
end

-- Why a job of this claim was taken, as far as that can still be seen.
local function flag_of(id, crashes)
  if crashes >= max_crashes then
    return 'dead'
  end
  return aborts and call('ZSCORE', ABORTS, id) and 'abort' or ''
end

-- The jobs of this very claim whose reply was lost; their leases are among the newest.
local function take_again()
  local leased = call('ZREVRANGEBYSCORE', queue, now + lease_ms, '(' .. now, 'LIMIT', 0, SCAN_LIMIT)
  for i = 1, math.floor(#leased / 2) do
    leased[i], leased[#leased + 1 - i] = leased[#leased + 1 - i], leased[i]
  end
  for first = 1, #leased, 1000 do
    local names = {}
    for i = first, math.min(first + 999, #leased) do
      names[#names + 1] = LEASE .. leased[i]
    end
    for i, lease in ipairs(call('MGET', unpack(names))) do
      if lease and string.sub(lease, 1, #token + 1) == token .. '|' then
        local due, crashes = string.match(lease, '|(%d+)|(%d+)$')
        local id = leased[first + i - 1]
        take(id, tonumber(due), tonumber(crashes), flag_of(id, tonumber(crashes)))
      end
    end
  end
end

-- Write the leases; returns the part of the reply that lists the jobs.
local function lease_taken(jobs, count_attempt)
  local n = #ids
  if n == 0 then
    return jobs
  end
  local job_names, attempt_names = {}, {}
  for i = 1, n do
    job_names[i], attempt_names[i] = JOB .. ids[i], ATTEMPTS .. ids[i]
  end
  local payloads = call('MGET', unpack(job_names))
  local attempts = call('MGET', unpack(attempt_names))
  local lease_end = now + lease_ms
  local lease_head = token .. '|' .. lease_end .. '|'
  local ttl_ms = lease_ms + margin_ms
  local scores, counts = {}, {}
  for i = 1, n do
    local id, payload, attempt = ids[i], payloads[i], tonumber(attempts[i] or 0)
    if not payload and call('EXISTS', RESULT .. id) == 1 then
      call('ZREM', queue, id)  -- a ghost: it has ended, only its queue entry stayed
      call('DEL', ATTEMPTS .. id, LEASE .. id)
    else
      if flags[i] == '' and count_attempt then
        attempt = attempt + 1
        counts[#counts + 1] = ATTEMPTS .. id
        counts[#counts + 1] = attempt
      end
      -- %.0f: Lua writes numbers of 15 digits and more with an exponent
      local record = string.format('%s%.0f|%d', lease_head, dues[i], crash_counts[i])
      call('SET', LEASE .. id, record, 'PX', ttl_ms)
      scores[#scores + 1] = lease_end
      scores[#scores + 1] = id
      local at = #jobs
      jobs[at + 1], jobs[at + 2], jobs[at + 3] = id, payload, attempt
      jobs[at + 4] = dues[i]
      jobs[at + 5] = (crash_counts[i] == 0 and flags[i] == '') and '' or crash_counts[i] .. ' ' .. flags[i]
    end
  end
  if #scores > 0 then
    call('ZADD', queue, unpack(scores))
  end
  if #counts > 0 then
    call('MSET', unpack(counts))
  end
  return jobs
end

-- The worker's place among those that wait; returns the ms until the next job becomes due if it is the lookout.
local function settle_waiting(free)
  if not wait then
    return -1
  end
  if not free then
    if waiting_count > 0 and call('ZREM', waiting, worker) == 1 then
      appoint(queue, now)
    end
    return -1
  end
  call('ZADD', waiting, 'NX', now, worker)
  call('PEXPIRE', waiting, WAITING_TTL_MS)
  for _ = 1, 10 do
    local lookout = call('ZRANGE', waiting, 0, 0)[1]
    if lookout == worker then
      break
    end
    if call('PUBSUB', 'NUMSUB', WORKER .. lookout)[2] > 0 then
      return -1
    end
    call('ZREM', waiting, lookout)
  end
  return nil
end

local others = 0
if wait then
  waiting_count = call('ZCARD', waiting)
  others = waiting_count
  if others > 0 and call('ZSCORE', waiting, worker) then
    others = others - 1
  end
end

local want, due_count, shared = slots, 0, false
if others > 0 then
  due_count = call('ZCOUNT', queue, '-inf', now)
  local fair = math.ceil(due_count / (others + 1))
  if fair < want then
    want, shared = fair, due_count > fair
  end
end

local again = ARGV[11] == '1'
if again then
  take_again()
end
if #ids == 0 then
  again = false
  if aborts and call('EXISTS', ABORTS) == 1 then
    take_aborts()
  end
  if #ARGV >= 12 then
    local given = {}
    for i = 12, #ARGV do
      given[#given + 1] = ARGV[i]
    end
    local leases = leases_of(given, 1, 1)
    for i, id in ipairs(given) do
      local score = tonumber(call('ZSCORE', queue, id) or FAR_FUTURE)
      if score <= now and #ids < want then
        judge(id, score, leases[i])
      end
    end
  elseif want > 0 then
    take_due(want)
  end
end

local found = #ids
local jobs = lease_taken({ 0, -1, '0', now }, not again)
if #moves > 0 then
  for first = 1, #moves, 1000 do
    call('ZADD', queue, 'XX', unpack(moves, first, math.min(first + 999, #moves)))
  end
end
if others > 0 and due_count > found then
  wake(queue, now)
end
jobs[1] = call('ZCARD', queue)
jobs[3] = shared and '1' or '0'
local delay = settle_waiting(slots > found and not shared)
if (delay == nil or not wait) and slots > found then
  local next_due = call('ZRANGEBYSCORE', queue, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  delay = next_due and next_due - now or -1
end
jobs[2] = math.min(delay or -1, 2147483647)
return jobs
