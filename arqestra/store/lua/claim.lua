-- Lease due jobs of one or several queues to one worker.
--
-- KEYS  1: the first queue (for routing)
-- ARGV   1: time in ms or ''
--        2: worker id
--        3: number of this claim; the token of its leases is worker id .. '.' .. number
--        4: free slots
--        5: lease in ms
--        6: margin: ms that the record outlives the lease
--        7: '1' register as waiting when slots stay free
--        8: '1' take jobs that are to be aborted, beyond the slots
--        9: '1' the worker holds a suspect already
--       10: max_crashes: crashes after which a job is dead
--       11: '1' this claim may have been made before, and its reply was lost
--       12: number of the last offer on which the worker took in a job, or 0 (_deliver)
--       13: TTL in ms of the offer that is made if no job is found; 0: make no offer
--       14: number of queues
--       then for each queue: its name, its share of the slots, the most that it may take
--       then ids, to claim just these if they are due
-- RETURNS  { jobs in the queues, ms until the next becomes due or -1, '1' if the claim was cut to a fair share, now, runs,
--            then for each job: id, payload or false, attempt, due, case }
--          runs: '' for one queue. For several: { one digit for each queue, '1' if more jobs may be due, then pairs: number
--                of the queue, how many of the next jobs are of it }
--          case: '' run the job, as nearly always | 'crashes flag spec', for a job with something special. The flag is ''
--                run it | 'abort' | 'dead' (only record its end); the spec is there if the job was admitted under limits
-- EVENTS   wakes the next waiting worker while due jobs remain; tells workers which of their jobs are to be aborted
--
-- The queues come in the order of their urgency. Each gets its share first. The slots that are left go to them in this order.
--
-- A fair share: if n other workers wait for a queue, the claim takes at most 1/(n+1) of its due jobs, rounded up.
--
-- The lease record, never the score, says whether a job is free: a stock abort() gives a leased job a past score (it is
-- repaired here), and stock arq workers leave their running jobs at the head of the queue (the claim pages past them).
-- A lease that ran out is a crash: the claim that finds it counts it in the new lease record. A job with max_crashes - 1
-- crashes or more is a suspect. A worker holds one suspect at a time, so that the job that kills its worker takes no
-- innocent neighbour to the dead set with it.
--
-- The parts below are pasted in, and share the locals of this file. Each line says what the part gives.

-- clock
-- @include _clock
-- promote, due_of, promoted, STOCK_ABORT_SCORE
-- @include _score
-- next_due, tell_timer_owner, wake
-- @include _wake
-- spec_of, all_throttled, limits_of, is_place_only
-- @include _specs
-- withdraw_offer
-- @include _offer
-- set_all
-- @include _set_all
-- @module Limits _limits

local SCAN_LIMIT = 5000      -- entries looked at in one claim: bounds the time of the script
local PAGE = 250             -- entries a page after the first
local LIMIT_VISITS = 300      -- limits that are tried in one claim
local LIMITS_COUNTED, GROUPS_COUNTED = 50, 10  -- for a fair share: limits that are counted, and groups in each wait list
local ABORTS_PER_CLAIM = 100
local CONTINUATIONS_PER_CLAIM = 300    -- nodes of flows that one claim settles
local SPECS_SWEPT, CLAIMS_PER_SWEEP = 20, 16
local ABORT_MAX_AGE_MS = 86400000
local POSTPONE_SUSPECT_MS = 1000
local WAITING_TTL_MS = 180000  -- workers register anew at least once a minute
local AFTER_TIMER_OWNER_MS = 1000  -- the other workers poll so long after the timer owner, in case it died

local now = clock(ARGV[1])
local worker, number, slots = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lease_ms, margin_ms = tonumber(ARGV[5]), tonumber(ARGV[6])
local token = worker .. '.' .. ARGV[3]
local has_aborts             -- whether any job is to be aborted
local wait, aborts, holds_suspect, max_crashes = ARGV[7] == '1', ARGV[8] == '1', ARGV[9] == '1', tonumber(ARGV[10])
local resent, last_offer, offer_ms, queue_count = ARGV[11] == '1', ARGV[12], ARGV[13], tonumber(ARGV[14])

local queues = {}            -- in order: name, quota (its share), most, and the fields that `enter` adds
local queue, extras          -- name of the current queue, and whether it has groups, specs or promotions, or a queue is paused
local ids, dues, owners = {}, {}, {}  -- of each taken job: its id, its score, its queue
local due_texts, lease_names = {}, {}  -- of most: the score and the lease's name as texts, to save making them again
local special = {}           -- of few: { crashes, flag, spec or false } where these are not 0, '' and false
local places = {}            -- of jobs whose spec has only their place in a flow or schedule: this spec
local throttled = 0          -- due entries removed during paging (they shift the offset)
local passed = {}            -- queue -> due entries that were read and stay where they are
local freed = {}             -- queues in which a limit or lock got free: their jobs may start
local moves, seen = {}, {}   -- moves: queue -> score, id, ... of entries that change their score; seen: ids

for i = 1, queue_count do
  local at = 12 + 3 * i
  queues[i] = { name = ARGV[at], quota = tonumber(ARGV[at + 1]), most = tonumber(ARGV[at + 2]), taken = 0 }
  queues[i].cap = queues[i].most
end
local first_id, several = 15 + 3 * #queues, #queues > 1

-- @module Flow _flow
-- take, specs_of, take_due: due jobs of the current queue into ids, dues, owners
-- @include _claim_take
-- the rare jobs: crashed, limited, to be aborted, given by id
-- @module Cases _claim_cases
-- jobs in limit groups
-- @module Throttled _claim_throttled
-- lease_taken: writes the leases of ids, adds the jobs to the reply
-- @include _claim_lease

-- Throttled jobs get half of the slots, the queue the other half, so that neither starves the other. A single slot goes to
-- each in turn.
local function take_jobs(want)
  if not extras then
    return take_due(want)
  end
  if not passed[queue] then  -- once in a claim: promoting changes the order
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

local registered = false     -- whether the worker waits for one of the queues now

-- Register the worker as waiting for a queue, or take it out. Returns the ms after which it polls: until the next job
-- becomes due for the timer owner, a second more for the others.
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

-- Make a queue the current one. The first time, also find out what is special about it, and how many jobs are a fair share.
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

-- Take up to `want` jobs of a queue; returns how many it took.
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

-- A claim of given ids does not touch the offer. A claim that arrives late, after newer claims, makes no offer.
local offers = wait and #ARGV < first_id and withdraw_offer(worker, number, last_offer)

-- Unfinished work of flows, the continuations (_flow): every claim does a piece of it.
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
if resent then
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
if offers and registered and found == 0 and offer_ms ~= '0' then
  call('PSETEX', OFFER .. worker, offer_ms, ARGV[3] .. '|' .. ARGV[5] .. '|' .. ARGV[6])
end
jobs[2] = has_continuations and 0 or math.min(delay or -1, 2147483647)
for name in pairs(freed) do
  wake(name, now)
end

if #queues > 1 then
  local more, positions = {}, {}
  for i, q in ipairs(queues) do
    more[i] = q.more and '1' or '0'
    positions[q.name] = i
  end
  local counts = { table.concat(more) }
  for _, owner in ipairs(runs) do
    local n = #counts
    if n > 1 and counts[n - 1] == positions[owner] then
      counts[n] = counts[n] + 1
    else
      counts[n + 1], counts[n + 2] = positions[owner], 1
    end
  end
  jobs[5] = counts
end
return jobs
