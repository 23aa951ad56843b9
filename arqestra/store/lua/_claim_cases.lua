-- Jobs with something special, which few have: crashed ones, limited ones, those to be aborted or given by id. `t` and
-- `q` are explained in _claim.
-- USES  Score, Lease, Specs, Limits, Flow, ClaimTake

local POSTPONE_SUSPECT_MS = 1000
local ABORTS_PER_CLAIM = 100
local SCAN_LIMIT, PAGE = 5000, 250  -- entries inspected
local SPECS_SWEPT = 20

-- An entry changes its score when the claim ends: until then the order stays.
local function move(q, id, score)
  local list = q.moves
  list[#list + 1] = score
  list[#list + 1] = id
end

-- The limit that a due job has to wait for, and when to try this limit: other jobs wait for it already, or it has no
-- room. A job that has crashed does not queue up after others.
local function limit_ahead(c, t, q, id, crashes, spec, limits)
  for _, limit in ipairs(limits) do
    local opens = crashes == 0 and call('ZSCORE', c.k.RETRY_AT .. q.name, limit)
    if opens then
      return limit, opens
    end
  end
  return Limits.refusal(c, id, spec)
end

-- Take a due job, unless its limits keep it waiting.
local function take_within_limits(c, t, q, id, due, crashes, packed)
  local spec = packed and not Specs.is_position_only(packed) and cmsgpack.unpack(packed)
  if spec then
    local limits = Specs.limits_of(spec)
    local limit, at = limit_ahead(c, t, q, id, crashes, spec, limits)
    if limit then
      if crashes > 0 then
        Limits.disown(c, id)
        call('PEXPIRE', c.k.LEASE .. id, Limits.DISOWNED_TTL_MS)
      end
      t.throttled = t.throttled + 1
      return Limits.throttle(c, q.name, id, limits, due, limit, at)
    end
    Limits.admit(c, id, spec, t.token)
  end
  return ClaimTake.take(t, q, id, due, crashes, '', packed)
end

-- A job whose lease ran out.
local function judge_crashed(c, t, q, id, due, crashes, packed)
  if packed and Flow.is_cancelled(c, packed) then
    return ClaimTake.take(t, q, id, due, crashes, 'abort')
  end
  if crashes >= t.max_crashes then
    return ClaimTake.take(t, q, id, due, crashes, 'dead')
  end
  if crashes >= t.max_crashes - 1 then
    if t.holds_suspect then
      return move(q, id, c.now + POSTPONE_SUSPECT_MS)
    end
    t.holds_suspect = true
  end
  return take_within_limits(c, t, q, id, due, crashes, packed)
end

-- One due entry, its lease record and its spec: take it, move it, or leave it alone.
local function judge(c, t, q, id, score, lease, packed)
  if t.seen[id] then
    return
  end
  if q.extras and score == Score.STOCK_ABORT_SCORE and call('HEXISTS', c.k.THROTTLED .. q.name, id) == 1 then
    return move(q, id, THROTTLED_SCORE)
  end
  if not lease then
    local due = score == Score.STOCK_ABORT_SCORE and c.now or Score.promoted(score)
    return take_within_limits(c, t, q, id, due, 0, packed)
  end
  local lease_end, due, crashes = Lease.fields_of(lease)
  if not lease_end then
    return  -- a stock worker runs it
  end
  if tonumber(lease_end) > c.now then
    return move(q, id, lease_end)
  end
  return judge_crashed(c, t, q, id, tonumber(due), crashes + 1, packed)
end

-- A job of this queue that is to be aborted. If a worker holds the job, tell it: a stock client tells nobody.
local function take_abort(c, t, q, id, score)
  local lease = call('GET', c.k.LEASE .. id)
  if not lease then
    local order = q.extras and Limits.leave_group(c, q.name, id)
    return ClaimTake.take(t, q, id, order or (score == Score.STOCK_ABORT_SCORE and c.now) or score, 0, 'abort')
  end
  local lease_end, due, crashes = Lease.fields_of(lease)
  if lease_end and tonumber(lease_end) <= c.now then
    if q.extras then
      Limits.leave_group(c, q.name, id)
    end
    ClaimTake.take(t, q, id, tonumber(due), tonumber(crashes), 'abort')
  elseif lease_end then
    call('PUBLISH', c.k.WORKER .. Lease.worker_of(lease), 'abort ' .. id)
  end
end

local function take_aborts(c, t, q)
  local goal = #t.ids + ABORTS_PER_CLAIM
  for first = 0, SCAN_LIMIT - 1, PAGE do
    local requested = call('ZREVRANGE', c.k.ABORTS, first, first + PAGE - 1)
    if #requested == 0 then
      return
    end
    for i, score in ipairs(call('ZMSCORE', c.k.QUEUE .. q.name, unpack(requested))) do
      if score and #t.ids < goal then
        take_abort(c, t, q, requested[i], tonumber(score))
      end
    end
  end
end

-- Why a job of this claim was taken, as far as that can still be seen.
local function flag_of(c, t, id, crashes)
  if crashes >= t.max_crashes then
    return 'dead'
  end
  return t.aborts and call('ZSCORE', c.k.ABORTS, id) and 'abort' or ''
end

-- The jobs of this very claim whose reply was lost; their leases are among the newest.
local function take_again(c, t, q)
  local leased = call('ZREVRANGEBYSCORE', c.k.QUEUE .. q.name, c.now + t.lease_ms, '(' .. c.now, 'LIMIT', 0, SCAN_LIMIT)
  for i = 1, math.floor(#leased / 2) do
    leased[i], leased[#leased + 1 - i] = leased[#leased + 1 - i], leased[i]
  end
  for first = 1, #leased, BATCH do
    local names = {}
    for i = first, math.min(first + BATCH - 1, #leased) do
      names[#names + 1] = c.k.LEASE .. leased[i]
    end
    for i, lease in ipairs(call('MGET', unpack(names))) do
      if Lease.has_token(lease, t.token) then
        local _, due, crashes = Lease.fields_of(lease)
        local id = leased[first + i - 1]
        local flag = flag_of(c, t, id, tonumber(crashes))
        local spec = flag == '' and q.extras and call('HGET', c.k.SPECS .. q.name, id)
        ClaimTake.take(t, q, id, tonumber(due), tonumber(crashes), flag, spec)
      end
    end
  end
end

-- Claim just these jobs, if they are due.
local function take_given(c, t, q, given, most)
  local names = {}
  for i, id in ipairs(given) do
    names[i] = c.k.LEASE .. id
  end
  local leases, packed = call('MGET', unpack(names)), ClaimTake.specs_of(c, q, given, 1, 1)
  for i, id in ipairs(given) do
    local score = tonumber(call('ZSCORE', c.k.QUEUE .. q.name, id) or PARKED_SCORE)
    if score <= c.now and #t.ids < most then
      judge(c, t, q, id, score, leases[i], packed[i])
    end
  end
end

-- A lock that is held until the job starts is free now.
local function unlock_started(c, id, packed)
  for _, entry in ipairs(cmsgpack.unpack(packed)) do
    if entry[1] == 'u' and entry[3] == 'started' then
      Limits.mark_started(c, id, entry[2], true)
    end
  end
end

-- A job has ended without our finish: free its room under limits and its locks. Marks queues in c.due_queues.
local function free_limits_of_ended(c, t, owner, id, admitted)
  local spec = Specs.spec_of(c, owner, id)
  if spec then
    Limits.free_limits(c, owner, id, spec, true)
    if admitted then
      Limits.uncount_start(c, id, spec, t.token)
    end
  end
end

-- A job that has ended, and of which only the queue entry stayed.
local function remove_ghost(c, t, owner, id, case)
  call('ZREM', c.k.QUEUE .. owner, id)
  call('DEL', c.k.ATTEMPTS .. id, c.k.LEASE .. id)
  call('ZREM', c.k.PROMOTE .. owner, id)
  free_limits_of_ended(c, t, owner, id, case and case[3])
end

-- Stock workers end jobs that have a lock and know nothing of specs: a few of these are inspected now and then.
local function sweep_specs(c, t, owner)
  for _, id in ipairs(call('HRANDFIELD', c.k.SPECS .. owner, SPECS_SWEPT)) do
    if not call('ZSCORE', c.k.QUEUE .. owner, id) then
      Limits.leave_group(c, owner, id)  -- so that whoever waits in a group has a spec: `all_throttled` counts on it
      if call('EXISTS', c.k.JOB .. id) == 0 then
        free_limits_of_ended(c, t, owner, id, false)
      end
      call('HDEL', c.k.SPECS .. owner, id)  -- a job with this id in another queue keeps its spec
    end
  end
end

-- A job that has crashed, has a spec or may have to be aborted gets its lease: whether it starts, its crashes, and the
-- part of the reply that says how it is to be run.
local function start(c, t, id, case, count_attempt)
  local crashes, flag, spec = unpack(case or { 0, '' }, 1, 3)
  if flag == '' and t.has_aborts and (tonumber(call('ZSCORE', c.k.ABORTS, id) or 0) % 1) > 0 then
    flag = 'abort'  -- a flow was cancelled: whatever this worker allows
  end
  local starts = flag == '' and count_attempt
  if starts and spec and not Specs.is_position_only(spec) then
    unlock_started(c, id, spec)
  end
  if crashes == 0 and flag == '' and not spec then
    return starts, 0, ''
  end
  return starts, crashes, (crashes == 0 and '0' or crashes) .. ' ' .. flag .. ' ' .. (spec or '')
end

return {
  judge = judge,
  judge_crashed = judge_crashed,
  take_aborts = take_aborts,
  take_again = take_again,
  take_given = take_given,
  remove_ghost = remove_ghost,
  sweep_specs = sweep_specs,
  start = start,
}
