-- Lease due jobs of one or several queues to one worker.
--
-- KEYS  1: the first queue (for routing)
-- ARGV  1: time in ms or ''   2: worker id           3: number of this claim (token = worker id .. '.' .. number)
--       4: free slots            5: lease in ms         6: ms that the record outlives the lease
--       7: '1' register as waiting when slots stay free 8: '1' take jobs that are to be aborted, beyond the slots
--       9: '1' the worker holds a suspect already      10: crashes after which a job is dead
--      11: '1' this claim may have been made before and its reply was lost
--      12: number of the offer on which the worker took in a job last, or 0 (_deliver)
--      13: ms that an offer to be sent the next job stands, if this claim finds none; 0: the worker makes none
--      14: number of queues; then for each: queue, its share of the slots, the most that it may take
--          then ids, to claim just these if they are due
-- RETURNS  { jobs in the queues, ms until the next becomes due or -1, '1' if the claim was cut to a fair share, now,
--            '' or of several queues { for each '1' if more may be due, place of a queue, jobs of it, ... },
--            then for each job: id, payload or false, attempt, due, mark }
--          mark: '' run it, as nearly always | 'crashes flag spec' with the flag '' run it | 'abort' | 'dead' (record it
--          only) and the spec of a job that was admitted under its limits
-- EVENTS   wakes the next waiting worker while due jobs remain; tells workers which of their jobs are to be aborted
--
-- The queues come in the order of their urgency. Each gets its share first; what is left goes to them in their order.
--
-- The lease record, never the score, says whether a job is free: a stock abort() gives a leased job a past score (it is
-- repaired here), and stock arq workers leave their running jobs at the head of the queue (they are paged past, not moved).
-- A lease that ran out counts a crash. From the second crash on a job is a suspect: a worker holds one suspect at a time,
-- so that the job that kills its worker for the third time takes no innocent neighbour to the dead set with it.

-- @include _clock
-- @include _score
-- @include _wake
-- @include _specs
-- @include _offer
-- @include _set_all
-- @module Limits _limits

local SCAN_LIMIT = 5000      -- entries looked at in one claim: bounds the time of the script
local PAGE = 250             -- entries a page after the first
local LIMIT_VISITS = 300      -- limits that are tried in one claim
local LIMITS_COUNTED, GROUPS_COUNTED = 50, 10  -- of limits that may be tried, and of groups in each wait list, to find a fair share
local ABORTS_PER_CLAIM = 100
local CONTINUATIONS_PER_CLAIM = 300    -- nodes of flows that are settled in one claim
local SPECS_SWEPT, CLAIMS_PER_SWEEP = 20, 16
local ABORT_MAX_AGE_MS = 86400000
local POSTPONE_SUSPECT_MS = 1000
local WAITING_TTL_MS = 180000  -- workers register anew at least once a minute
local AFTER_TIMER_OWNER_MS = 1000  -- in case the timer owner died, the others look so long after it

local now = clock(ARGV[1])
local worker, number, slots = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lease_ms, margin_ms = tonumber(ARGV[5]), tonumber(ARGV[6])
local token = worker .. '.' .. ARGV[3]
local has_aborts             -- whether any job is to be aborted
local wait, aborts, holds_suspect, max_crashes = ARGV[7] == '1', ARGV[8] == '1', ARGV[9] == '1', tonumber(ARGV[10])

local queues = {}            -- in order: name, quota, most, and what is found out of each
local queue, extras          -- the name of the one being looked at, and whether it has groups, specs or promotions
local ids, dues, owners = {}, {}, {}  -- of each job that is taken: its id, its score, its queue
local due_texts, lease_names = {}, {}  -- of most of them: the score and the name of the lease as texts, not made again
local special = {}           -- of a few: { crashes, flag, spec or false } where these are not 0, '' and false
local places = {}            -- of jobs of flows and schedules of which nothing else is special: the spec
local throttled = 0             -- entries that left the due ones while these are paged through
local passed = {}            -- queue -> due entries that were looked at and are still there
local freed = {}             -- queues in which jobs may start that others kept waiting
local moves, seen = {}, {}   -- moves: queue -> score, id, score, id, ... of entries that are not taken

for i = 1, tonumber(ARGV[14]) do
  local at = 12 + 3 * i
  queues[i] = { name = ARGV[at], quota = tonumber(ARGV[at + 1]), most = tonumber(ARGV[at + 2]), taken = 0 }
  queues[i].cap = queues[i].most
end
local first_id, several = 15 + 3 * #queues, #queues > 1

-- @module Flow _flow
-- @include _claim_take
-- @module Cases _claim_cases
-- @module Throttled _claim_throttled
-- @include _claim_lease

-- Throttled jobs and the queue share the slots half and half, so that neither starves the other; a single slot goes to them in turns.
local function take_jobs(want)
  if not extras then
    return take_due(want)
  end
  if not passed[queue] then  -- once in a claim: it changes the order
    promote(queue, now)
  end
  local goal = #ids + want
  if want == 1 and number % 2 == 0 then
    take_due(1)
  else
    Throttled.take_throttled(math.ceil(want / 2))
    take_due(goal - #ids)
  end
  if #ids < goal then
    Throttled.take_throttled(goal - #ids)
  end
end

local registered = false     -- as waiting for one of the queues

-- The worker's place among those that wait for a queue; returns the ms until the next job becomes due, if it
-- is not the timer owner a moment more.
local function settle_waiting(q, free)
  if not wait then
    return free and not q.paused and next_due(q.name, now) or nil
  end
  local waiting = WAITING .. q.name
  if not free or q.paused then
    if q.waiting_count > 0 and call('ZREM', waiting, worker) == 1 then
      tell_timer_owner(q.name, now)
    end
    if free then
      call('ZADD', RESTING .. q.name, now, worker)
      call('PEXPIRE', RESTING .. q.name, WAITING_TTL_MS)
    end
    return nil
  end
  call('ZADD', waiting, 'NX', now, worker)
  call('PEXPIRE', waiting, WAITING_TTL_MS)
  registered = true
  for _ = 1, 10 do
    local timer_owner = call('ZRANGE', waiting, 0, 0)[1]
    if timer_owner == worker then
      break
    end
    if call('PUBSUB', 'NUMSUB', WORKER .. timer_owner)[2] > 0 then
      local due_in = next_due(q.name, now)
      return due_in and due_in + AFTER_TIMER_OWNER_MS
    end
    call('ZREM', waiting, timer_owner)
  end
  return next_due(q.name, now)
end

-- Go to a queue. The first time: what is special about it, and which part of its due jobs is a fair share.
local function enter(q)
  queue = q.name
  if q.extras == nil then
    q.extras = call('EXISTS', RETRY_AT .. queue, SPECS .. queue, PROMOTE .. queue, PAUSED) > 0
    q.paused = q.extras and call('SISMEMBER', PAUSED, queue) == 1
    q.waiting_count, q.others, q.due_count = 0, 0, 0
    if wait then
      q.waiting_count = call('ZCARD', WAITING .. queue)
      q.others = q.waiting_count
      if q.others > 0 and call('ZSCORE', WAITING .. queue, worker) then
        q.others = q.others - 1
      end
    end
    if q.others > 0 and not q.paused then
      q.due_count = call('ZCOUNT', QUEUE .. queue, '-inf', now)
      if q.extras then
        q.due_count = q.due_count + Throttled.count_ready(q.most * (q.others + 1) - q.due_count)
      end
      local fair = math.ceil(q.due_count / (q.others + 1))
      if fair < q.most then
        q.most, q.shared = fair, q.due_count > fair
      end
    end
  end
  extras = q.extras
end

-- Take up to that many jobs of a queue.
local function visit_queue(q, want)
  enter(q)
  want = math.min(want, q.most - q.taken)
  if want <= 0 or q.paused then
    q.more = not q.paused and (q.others == 0 or q.due_count > q.taken)
    return 0
  end
  local before = #ids
  take_jobs(want)
  local found = #ids - before
  q.taken = q.taken + found
  q.more = found >= want
  return found
end

-- A claim of given jobs leaves the offer alone; one that an outage held up until newer ones were made makes none itself.
local offers = wait and #ARGV < first_id and withdraw_offer(worker, number, ARGV[12])

-- What flows have left to do (_flow): every claim does a piece of it.
local has_continuations = false
if call('EXISTS', CONTINUATIONS) == 1 then
  local due_queues = {}
  Flow.run_continuations(CONTINUATIONS_PER_CLAIM, true, now, due_queues)
  has_continuations = call('EXISTS', CONTINUATIONS) == 1
  for due_queue in pairs(due_queues) do
    local own = false
    for _, q in ipairs(queues) do
      own = own or q.name == due_queue
    end
    if not own or slots == 0 then
      wake(due_queue, now)
    end
  end
end

has_aborts = call('EXISTS', ABORTS) == 1
local again = false
if ARGV[11] == '1' then
  for _, q in ipairs(queues) do
    enter(q)
    Cases.take_again()
  end
  again = #ids > 0
end
local left = slots
if not again then
  if aborts and has_aborts then
    call('ZREMRANGEBYSCORE', ABORTS, '-inf', now - ABORT_MAX_AGE_MS)
    for _, q in ipairs(queues) do
      enter(q)
      Cases.take_aborts()
    end
  end
  if #ARGV >= first_id then
    enter(queues[1])
    Cases.take_given({ unpack(ARGV, first_id) }, queues[1].most)
  else
    for _, q in ipairs(queues) do
      left = left - visit_queue(q, math.min(q.quota, left))
    end
    for _, q in ipairs(queues) do
      if left > 0 and q.quota < q.most and q.more then
        left = left - visit_queue(q, left)
      end
    end
  end
end

local found = #ids
local jobs, runs = { 0, -1, '0', now, '' }, {}
lease_taken(jobs, runs, not again)
for owner, list in pairs(moves) do
  for first = 1, #list, BATCH do
    call('ZADD', QUEUE .. owner, 'XX', unpack(list, first, math.min(first + BATCH - 1, #list)))
  end
end

local delay
for _, q in ipairs(queues) do
  enter(q)
  if q.extras and number % CLAIMS_PER_SWEEP == 0 then
    Cases.sweep_specs(q.name)
  end
  if q.others > 0 and q.due_count > (#queues == 1 and found or q.taken) then
    wake(q.name, now)
  end
  if wait or not q.paused then  -- a burst does not wait for a paused queue
    jobs[1] = jobs[1] + call('ZCARD', QUEUE .. q.name)
  end
  if q.shared then
    jobs[3] = '1'
  end
  local due_in = settle_waiting(q, slots > found and not q.shared and q.taken < q.cap)
  delay = due_in and math.min(due_in, delay or due_in) or delay
end
if offers and registered and found == 0 and ARGV[13] ~= '0' then
  call('PSETEX', OFFER .. worker, ARGV[13], ARGV[3] .. '|' .. ARGV[5] .. '|' .. ARGV[6])
end
jobs[2] = has_continuations and 0 or math.min(delay or -1, 2147483647)
for name in pairs(freed) do
  wake(name, now)
end

if #queues > 1 then
  local more, places = {}, {}
  for i, q in ipairs(queues) do
    more[i] = q.more and '1' or '0'
    places[q.name] = i
  end
  local counts = { table.concat(more) }
  for _, owner in ipairs(runs) do
    local n = #counts
    if n > 1 and counts[n - 1] == places[owner] then
      counts[n] = counts[n] + 1
    else
      counts[n + 1], counts[n + 2] = places[owner], 1
    end
  end
  jobs[5] = counts
end
return jobs
