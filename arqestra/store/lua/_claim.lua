-- Leasing due jobs of one or several queues to one worker, a part of a turn (docs/protocols.md, "Leases and fencing").
--
-- ARGV  from `at` on:
--        0: worker id
--        1: number of this claim; the token of its leases is worker id .. '.' .. number
--        2: free slots
--        3: lease in ms
--        4: margin: ms that the record outlives the lease
--        5: '1' register as waiting when slots stay free
--        6: '1' take jobs that are to be aborted, beyond the slots
--        7: '1' the worker holds a suspect already
--        8: max_crashes: crashes after which a job is dead
--        9: '1' this claim may have been made before, and its reply was lost
--       10: number of the last offer on which the worker took in a job, or 0 (_delivery)
--       11: TTL in ms of the offer that is made if no job is found; 0: make no offer
--       12: '1' Redis may have an offer of this worker
--       13: jobs that the worker gets done in a moment: its fair share is not less, unless that is more than half
--       14: number of queues
--       then for each queue: its name, its share of the slots, the most that it may take
--       then ids, to claim just these if they are due
-- RETURNS  { jobs in the queues or -1 if nobody counted, ms until the next becomes due or -1,
--            '1' if the claim was cut to a fair share, now, runs,
--            then for each job: id, payload or false, attempt, due, case }
--          runs: '' for one queue. For several: { one digit for each queue, '1' if more jobs may be due, then pairs:
--                number of the queue, how many of the next jobs are of it }
--          case: '' run the job, as nearly always | 'crashes flag spec', for a job with something special. The flag is
--                '' run it | 'abort' | 'dead' (only record its end); the spec is there if the job was admitted under
--                limits
-- EVENTS   wakes the next waiting worker while due jobs remain; tells workers which of their jobs are to be aborted
-- REPEAT   a claim of the same number gives the jobs that it has leased (ClaimCases.take_again)
--
-- The queues come in the order of their urgency. Each gets its share first. The slots that are left go to them in this
-- order.
--
-- A fair share: if n other workers wait for a queue, the claim takes at most 1/(n+1) of its due jobs, rounded up. Small
-- jobs are not worth so many wake-ups: a worker that gets several done in a moment takes these, but no more than half.
-- A worker waits for a share if it waits since before the first due job became due; one that registered later has had
-- its share of these jobs. After SHARED_MS it counts in any case.
--
-- The lease record, never the score, says whether a job is free: a stock abort() gives a leased job a past score (it is
-- repaired here), and stock arq workers leave their running jobs at the head of the queue (the claim pages past them).
-- A lease that ran out is a crash: the claim that finds it counts it in the new lease record. A job with
-- max_crashes - 1 crashes or more is a suspect. A worker holds one suspect at a time, so that the job that kills its
-- worker takes no innocent neighbour to the dead set with it.
--
-- What it works on, beside `c` (_call), is `t`: its arguments, and of each job that it takes ids, dues (scores), owners
-- (names of queues), due_texts and lease_names (as texts, to save making them again), special (of few jobs: crashes,
-- flag, spec), positions (of jobs whose spec has only their position in a flow or schedule: this spec). A queue `q` has
-- name, quota (its share), most, taken, and what `inspect` finds.
-- USES  Special, Score, Wake, Offer, Flow, ClaimDue, ClaimCases, ClaimThrottled, ClaimLease, ClaimPlain

local ABORT_MAX_AGE_MS = 86400000
local CONTINUATIONS_PER_CLAIM = 300  -- nodes of flows that one claim works on
local CLAIMS_PER_SWEEP = 16
local CLAIMS_PER_COUNT = 16  -- a claim that fills all slots counts the jobs in the queue so often
local WAITING_TTL_MS = 180000  -- workers register anew at least once a minute
local AFTER_TIMER_OWNER_MS = 1000  -- the other workers poll so long after the timer owner, in case it died
local SHARED_MS = 200

local function read_arguments(argv, at)
  local t = {
    worker = argv[at], number = tonumber(argv[at + 1]), slots = tonumber(argv[at + 2]),
    token = argv[at] .. '.' .. argv[at + 1],
    lease_ms = tonumber(argv[at + 3]), margin_ms = tonumber(argv[at + 4]),
    wait = argv[at + 5] == '1', aborts = argv[at + 6] == '1', holds_suspect = argv[at + 7] == '1',
    max_crashes = tonumber(argv[at + 8]), resent = argv[at + 9] == '1',
    last_used_offer = argv[at + 10], offer_ms = argv[at + 11], may_have_offer = argv[at + 12] == '1',
    quick = tonumber(argv[at + 13]),
    queues = {}, throttled = 0, registered = false, has_aborts = false, several = false, first_id = 0, given = false,
  }
  local count = tonumber(argv[at + 14])
  for i = 1, count do
    local first = at + 12 + 3 * i
    local most = tonumber(argv[first + 2])
    t.queues[i] = {
      name = argv[first], quota = tonumber(argv[first + 1]), most = most, cap = most, taken = 0, is_known = false,
      extras = false, paused = false, registered = false, waiting_count = 0, others = 0, due_count = 0, more = false,
      shared = false,
    }
  end
  t.several = count > 1
  t.first_id = at + 15 + 3 * count
  t.given = #argv >= t.first_id
  return t
end

-- What the general path gathers of the jobs that it takes.
local function prepare(t)
  t.ids, t.dues, t.owners, t.due_texts, t.lease_names = {}, {}, {}, {}, {}
  t.special, t.positions, t.seen = {}, {}, {}
  for _, q in ipairs(t.queues) do
    q.moves = {}
  end
end

-- Whether the worker is registered, how many others are, and how many of these wait for a share of the due jobs.
-- Returns whether there may be any.
local function count_waiting(c, t, q)
  local k = c.k
  local waiting = k.WAITING .. q.name
  local count = c.nobody_waits and c.first == q.name and 0 or call('ZCARD', waiting)
  if count == 0 then
    return false
  end
  local since = call('ZSCORE', waiting, t.worker)
  q.registered = since and true or false
  q.waiting_count = since and count - 1 or count
  if q.waiting_count == 0 or q.paused then
    return false
  end
  local first = tonumber(call('ZRANGE', k.QUEUE .. q.name, 0, 0, 'WITHSCORES')[2])
  local is_due = first and first <= c.now
  if not (is_due or q.extras) then
    q.others, q.most = q.waiting_count, 0  -- so the queue is known to have no more
    return false
  end
  local latest = is_due and math.max(Score.due_of(first), c.now - SHARED_MS) or c.now
  local waits = since and tonumber(since) <= latest
  q.others = call('ZCOUNT', waiting, '-inf', latest) - (waits and 1 or 0)
  return true
end

-- Find out what is special about a queue, and how many jobs are a fair share.
local function inspect(c, t, q)
  if q.is_known then
    return
  end
  q.is_known = true
  local special = Special.of_queue(c, q.name)
  q.extras, q.paused = special.limits, special.paused
  if not t.wait or not count_waiting(c, t, q) then
    return
  end
  q.due_count = call('ZCOUNT', c.k.QUEUE .. q.name, '-inf', c.now)
  if q.extras then
    q.due_count = q.due_count + ClaimThrottled.count_ready(c, q, q.most * (q.others + 1) - q.due_count)
  end
  local fair = math.ceil(q.due_count / (q.others + 1))
  if t.quick > fair then
    fair = math.min(t.quick, math.ceil(q.due_count / 2))
  end
  if q.others > 0 and fair < q.most then
    q.most, q.shared = fair, q.due_count > fair
  end
end

-- Throttled jobs get half of the slots, the queue the other half, so that neither starves the other. A single slot goes
-- to each in turn.
local function take_jobs(c, t, q, want)
  if not q.extras then
    return ClaimDue.take_due(c, t, q, want)
  end
  if not q.passed then  -- once in a claim: promoting changes the order
    Score.promote(c, q.name)
  end
  local goal = #t.ids + want
  if want == 1 and t.number % 2 == 0 then
    ClaimDue.take_due(c, t, q, 1)
  else
    ClaimThrottled.take_throttled(c, t, q, math.ceil(want / 2))
    ClaimDue.take_due(c, t, q, goal - #t.ids)
  end
  if #t.ids < goal then
    ClaimThrottled.take_throttled(c, t, q, goal - #t.ids)
  end
end

-- Take up to `want` jobs of a queue; returns how many it took.
local function visit_queue(c, t, q, want)
  inspect(c, t, q)
  want = math.min(want, q.most - q.taken)
  if want <= 0 or q.paused then
    q.more = not q.paused and (q.others == 0 or q.due_count > q.taken)
    return 0
  end
  local before = #t.ids
  take_jobs(c, t, q, want)
  local found = #t.ids - before
  q.taken = q.taken + found
  q.more = found >= want
  return found
end

-- Each queue gets its share, in the order of their urgency; then the slots that are left go to them in this order.
local function visit_queues(c, t)
  local left = t.slots
  for _, q in ipairs(t.queues) do
    left = left - visit_queue(c, t, q, math.min(q.quota, left))
  end
  for _, q in ipairs(t.queues) do
    if left > 0 and q.quota < q.most and q.more then
      left = left - visit_queue(c, t, q, left)
    end
  end
end

-- Register the worker as waiting for a queue, or take it out. Returns the ms after which it polls: until the next job
-- becomes due for the timer owner, a second more for the others.
local function register(c, t, q, free)
  local k = c.k
  if not t.wait then
    return free and not q.paused and Wake.next_due(c, q.name) or nil
  end
  local waiting, waits = k.WAITING .. q.name, free and not q.paused
  if q.registered and (not waits or q.shared) and call('ZREM', waiting, t.worker) == 1 then
    Wake.tell_timer_owner(c, q.name)
  end
  if not waits then
    if free then
      call('ZADD', k.RESTING .. q.name, c.now, t.worker)
      call('PEXPIRE', k.RESTING .. q.name, WAITING_TTL_MS)
    end
    return nil
  end
  call('ZADD', waiting, 'NX', q.shared and c.now + 1 or c.now, t.worker)
  call('PEXPIRE', waiting, WAITING_TTL_MS)
  t.registered = true
  for _ = 1, 10 do
    local timer_owner = call('ZRANGE', waiting, 0, 0)[1]
    if timer_owner == t.worker then
      break
    end
    if call('PUBSUB', 'NUMSUB', k.WORKER .. timer_owner)[2] > 0 then
      local due_in = Wake.next_due(c, q.name)
      return due_in and due_in + AFTER_TIMER_OWNER_MS
    end
    call('ZREM', waiting, timer_owner)
  end
  return Wake.next_due(c, q.name)
end

-- Do a piece of the unfinished work of flows. Returns whether there is more.
local function continue_flows(c, t)
  Flow.run_continuations(c, CONTINUATIONS_PER_CLAIM, true)
  Special.forget(c)
  local has_more = call('EXISTS', c.k.CONTINUATIONS) == 1
  local due_queues = c.due_queues
  c.due_queues = {}
  for due_queue in pairs(due_queues) do
    local own = false
    for _, q in ipairs(t.queues) do
      own = own or q.name == due_queue
    end
    if not own or t.slots == 0 then
      Wake.wake(c, due_queue)
    end
  end
  return has_more
end

-- Take the jobs of this very claim if it was made before, else others. Returns whether these are new.
local function take(c, t, argv)
  if t.resent then
    for _, q in ipairs(t.queues) do
      inspect(c, t, q)
      ClaimCases.take_again(c, t, q)
    end
    if #t.ids > 0 then
      return false
    end
  end
  if t.aborts and t.has_aborts then
    call('ZREMRANGEBYSCORE', c.k.ABORTS, '-inf', c.now - ABORT_MAX_AGE_MS)
    for _, q in ipairs(t.queues) do
      inspect(c, t, q)
      ClaimCases.take_aborts(c, t, q)
    end
  end
  if t.given then
    inspect(c, t, t.queues[1])
    ClaimCases.take_given(c, t, t.queues[1], { unpack(argv, t.first_id) }, t.queues[1].most)
  else
    visit_queues(c, t)
  end
  return true
end

-- How many of the jobs, one after the other, are of which queue.
local function runs_of(t, owners)
  local more, positions = {}, {}
  for i, q in ipairs(t.queues) do
    more[i] = q.more and '1' or '0'
    positions[q.name] = i
  end
  local counts = { table.concat(more) }
  for _, owner in ipairs(owners) do
    local n = #counts
    if n > 1 and counts[n - 1] == positions[owner] then
      counts[n] = counts[n] + 1
    else
      counts[n + 1], counts[n + 2] = positions[owner], 1
    end
  end
  return counts
end

-- The end of a claim that found so many jobs: wake others, wait for jobs, count what is left.
local function conclude(c, t, reply, found)
  local delay
  local has_free = t.slots > (#reply - 5) / 5
  local counts = has_free or t.slots == 0 or t.number % CLAIMS_PER_COUNT == 0
  for _, q in ipairs(t.queues) do
    inspect(c, t, q)
    if q.extras and t.number % CLAIMS_PER_SWEEP == 0 then
      ClaimCases.sweep_specs(c, t, q.name)
    end
    if q.waiting_count > 0 and q.due_count > (t.several and q.taken or found) then
      Wake.wake(c, q.name)
    end
    if not counts then
      reply[1] = -1
    elseif t.wait or not q.paused then  -- a burst does not wait for a paused queue
      reply[1] = reply[1] + call('ZCARD', c.k.QUEUE .. q.name)
    end
    if q.shared then
      reply[3] = '1'
    end
    local due_in = register(c, t, q, t.slots > found and q.taken < q.cap)
    delay = due_in and math.min(due_in, delay or due_in) or delay
  end
  return delay
end

local function claim(c, argv, at)
  local t = read_arguments(argv, at)
  local special = Special.of_call(c, t.queues[1].name)
  -- A claim of given ids does not touch the offer. A claim that arrives late, after newer claims, makes no offer.
  local offers = t.wait and not t.given
    and (not t.may_have_offer or Offer.withdraw_offer(c, t.worker, t.number, t.last_used_offer))
  local has_continuations = special.continuations and continue_flows(c, t)
  t.has_aborts = Special.of_call(c, t.queues[1].name).aborts

  local reply, owners, found = { 0, -1, '0', c.now, '' }, {}, nil
  local q = t.queues[1]
  inspect(c, t, q)
  if not (q.extras or q.paused or t.several or t.given or t.resent or t.has_aborts) then
    found = ClaimPlain.lease_due(c, t, q, math.min(t.slots, q.quota, q.most), reply)
    q.taken = found or 0
  end
  if not found then
    prepare(t)
    local is_new = take(c, t, argv)
    found = #t.ids
    ClaimLease.lease_taken(c, t, reply, owners, is_new)
    for _, moved in ipairs(t.queues) do
      for first = 1, #moved.moves, BATCH do
        local last = math.min(first + BATCH - 1, #moved.moves)
        call('ZADD', c.k.QUEUE .. moved.name, 'XX', unpack(moved.moves, first, last))
      end
    end
  end

  local delay = conclude(c, t, reply, found)
  if offers and t.registered and found == 0 and t.offer_ms ~= '0' then
    local value = t.number .. '|' .. t.lease_ms .. '|' .. t.margin_ms
    call('PSETEX', c.k.OFFER .. t.worker, t.offer_ms, value)
  end
  reply[2] = has_continuations and 0 or math.min(delay or -1, 2147483647)
  Wake.wake_all(c)
  if t.several then
    reply[5] = runs_of(t, owners)
  end
  return reply
end

return { claim = claim }
