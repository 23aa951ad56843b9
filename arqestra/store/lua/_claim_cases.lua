-- Part of claim.lua, the module `Cases`: jobs with something special, which few have. Needs _claim_take.

-- @include _lease

local function move(id, score)
  local list = moves[queue]
  if not list then
    list = {}
    moves[queue] = list
  end
  list[#list + 1] = score
  list[#list + 1] = id
end

-- The limit that a due job has to wait for, and when to try this limit: other jobs wait for it already, or it has no room.
-- A job that has crashed does not queue up after others.
local function limit_ahead(id, crashes, spec, limits)
  for _, limit in ipairs(limits) do
    local opens = crashes == 0 and call('ZSCORE', RETRY_AT .. queue, limit)
    if opens then
      return limit, opens
    end
  end
  return Limits.refusal(id, spec, now)
end

-- Take a due job, unless its limits keep it waiting.
local function take_within_limits(id, due, crashes, packed)
  local spec = packed and not is_place_only(packed) and cmsgpack.unpack(packed)
  if spec then
    local limits = limits_of(spec)
    local limit, at = limit_ahead(id, crashes, spec, limits)
    if limit then
      if crashes > 0 then
        Limits.disown(id)
        call('PEXPIRE', LEASE .. id, Limits.DISOWNED_TTL_MS)
      end
      throttled = throttled + 1
      return Limits.throttle(queue, id, limits, due, limit, at)
    end
    Limits.admit(id, spec, now, token)
  end
  return take(id, due, crashes, '', packed)
end

-- A job whose lease ran out.
local function judge_crashed(id, due, crashes, packed)
  if packed and Flow.is_cancelled(packed) then
    return take(id, due, crashes, 'abort')
  end
  if crashes >= max_crashes then
    return take(id, due, crashes, 'dead')
  end
  if crashes >= max_crashes - 1 then
    if holds_suspect then
      return move(id, now + POSTPONE_SUSPECT_MS)
    end
    holds_suspect = true
  end
  return take_within_limits(id, due, crashes, packed)
end

-- One due entry, its lease record and its spec: take it, move it, or leave it alone.
local function judge(id, score, lease, packed)
  if seen[id] then
    return
  end
  if extras and score == STOCK_ABORT_SCORE and call('HEXISTS', THROTTLED .. queue, id) == 1 then
    return move(id, THROTTLED_SCORE)
  end
  if not lease then
    return take_within_limits(id, score == STOCK_ABORT_SCORE and now or promoted(score), 0, packed)
  end
  local lease_end, due, crashes = fields_of(lease)
  if not lease_end then
    return  -- a stock worker runs it
  end
  if tonumber(lease_end) > now then
    return move(id, lease_end)
  end
  return judge_crashed(id, tonumber(due), crashes + 1, packed)
end

-- A job of this queue that is to be aborted. If a worker holds the job, tell it: a stock client tells nobody.
local function take_abort(id, score)
  local lease = call('GET', LEASE .. id)
  if not lease then
    local order = extras and Limits.leave_group(queue, id)
    return take(id, order or (score == STOCK_ABORT_SCORE and now) or score, 0, 'abort')
  end
  local lease_end, due, crashes = fields_of(lease)
  if lease_end and tonumber(lease_end) <= now then
    if extras then
      Limits.leave_group(queue, id)
    end
    take(id, tonumber(due), tonumber(crashes), 'abort')
  elseif lease_end then
    call('PUBLISH', WORKER .. worker_of(lease), 'abort ' .. id)
  end
end

local function take_aborts()
  local goal = #ids + ABORTS_PER_CLAIM
  for first = 0, SCAN_LIMIT - 1, PAGE do
    local requested = call('ZREVRANGE', ABORTS, first, first + PAGE - 1)
    if #requested == 0 then
      return
    end
    for i, score in ipairs(call('ZMSCORE', QUEUE .. queue, unpack(requested))) do
      if score and #ids < goal then
        take_abort(requested[i], tonumber(score))
      end
    end
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
  local leased = call('ZREVRANGEBYSCORE', QUEUE .. queue, now + lease_ms, '(' .. now, 'LIMIT', 0, SCAN_LIMIT)
  for i = 1, math.floor(#leased / 2) do
    leased[i], leased[#leased + 1 - i] = leased[#leased + 1 - i], leased[i]
  end
  for first = 1, #leased, BATCH do
    local names = {}
    for i = first, math.min(first + BATCH - 1, #leased) do
      names[#names + 1] = LEASE .. leased[i]
    end
    for i, lease in ipairs(call('MGET', unpack(names))) do
      if has_token(lease, token) then
        local _, due, crashes = fields_of(lease)
        local id = leased[first + i - 1]
        local flag = flag_of(id, tonumber(crashes))
        take(id, tonumber(due), tonumber(crashes), flag, flag == '' and extras and call('HGET', SPECS .. queue, id))
      end
    end
  end
end

-- Claim just these jobs, if they are due.
local function take_given(given, most)
  local names = {}
  for i, id in ipairs(given) do
    names[i] = LEASE .. id
  end
  local leases, packed = call('MGET', unpack(names)), specs_of(given, 1, 1)
  for i, id in ipairs(given) do
    local score = tonumber(call('ZSCORE', QUEUE .. queue, id) or PARKED_SCORE)
    if score <= now and #ids < most then
      judge(id, score, leases[i], packed[i])
    end
  end
end

-- A lock that is held until the job starts is free now.
local function unlock_started(id, packed)
  for _, entry in ipairs(cmsgpack.unpack(packed)) do
    if entry[1] == 'u' and entry[3] == 'started' then
      Limits.mark_started(id, entry[2], true)
    end
  end
end

-- A job has ended without our finish: free its room under limits and its locks. Adds queues to `freed`.
local function settle_ended(owner, id, admitted)
  local spec = spec_of(owner, id)
  if spec then
    Limits.give_back(owner, id, spec, now, true, freed)
    if admitted then
      Limits.take_back_start(id, spec, now, token, freed)
    end
  end
end

-- A job that has ended, and of which only the queue entry stayed.
local function remove_ghost(owner, id, case)
  call('ZREM', QUEUE .. owner, id)
  call('DEL', ATTEMPTS .. id, LEASE .. id)
  call('ZREM', PROMOTE .. owner, id)
  settle_ended(owner, id, case and case[3])
end

-- Stock workers end jobs that have a lock and know nothing of specs: a few of these are looked at now and then.
local function sweep_specs(owner)
  for _, id in ipairs(call('HRANDFIELD', SPECS .. owner, SPECS_SWEPT)) do
    if not call('ZSCORE', QUEUE .. owner, id) then
      Limits.leave_group(owner, id)  -- so that whoever waits in a group has a spec: `all_throttled` counts on it
      if call('EXISTS', JOB .. id) == 0 then
        settle_ended(owner, id, false)
      end
      call('HDEL', SPECS .. owner, id)  -- a job with this id in another queue keeps its spec
    end
  end
end

-- A job that has crashed, has a spec or may have to be aborted gets its lease: whether it starts, its crashes, and the part
-- of the reply that says how it is to be run.
local function start(id, case, count_attempt)
  local crashes, flag, spec = unpack(case or { 0, '' }, 1, 3)
  if flag == '' and has_aborts and (tonumber(call('ZSCORE', ABORTS, id) or 0) % 1) > 0 then
    flag = 'abort'  -- a flow was cancelled: whatever this worker allows
  end
  local starts = flag == '' and count_attempt
  if starts and spec and not is_place_only(spec) then
    unlock_started(id, spec)
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
