-- Part of claim.lua: judging due entries, and taking them.

local function take(id, due, crashes, flag, spec)
  local n = #ids + 1
  ids[n], dues[n], crash_counts[n], flags[n] = id, due, crashes, flag
  owners[n] = queue
  specs[n] = spec
  seen[id] = true
end

local function move(id, score)
  local list = moves[queue]
  if not list then
    list = {}
    moves[queue] = list
  end
  list[#list + 1] = score
  list[#list + 1] = id
end

-- The limit that a due job has to wait for, and when to try it: those that came earlier stand in line for it, or it has
-- no room. A job that has crashed does not stand in line.
local function limit_ahead(id, crashes, spec, limits)
  for _, limit in ipairs(limits) do
    local opens = crashes == 0 and call('ZSCORE', GATES .. queue, limit)
    if opens then
      return limit, opens
    end
  end
  return Limits.refusal(id, spec, now)
end

local parked = 0             -- entries that left the due ones while these are paged through

-- Take a due job, unless its limits keep it waiting.
local function take_within_limits(id, due, crashes, packed)
  local spec = packed and not is_place_only(packed) and cmsgpack.unpack(packed)
  if spec then
    local limits = limits_of(spec)
    local limit, at = limit_ahead(id, crashes, spec, limits)
    if limit then
      if crashes > 0 then
        Limits.disown(id)
        call('PEXPIRE', LEASE .. id, Limits.HELD_RECORD_TTL_MS)
      end
      parked = parked + 1
      return Limits.park(queue, id, limits, due, limit, at)
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
  if extras and score == STOCK_ABORT_SCORE and call('HEXISTS', HELD .. queue, id) == 1 then
    return move(id, HELD_SCORE)
  end
  if not lease then
    return take_within_limits(id, score == STOCK_ABORT_SCORE and now or promoted(score), 0, packed)
  end
  local lease_end, due, crashes = string.match(lease, '|(%d+)|(%-?%d+)|(%d+)$')
  if not lease_end then
    return  -- a stock worker runs it
  end
  if tonumber(lease_end) > now then
    return move(id, lease_end)
  end
  return judge_crashed(id, tonumber(due), crashes + 1, packed)
end

local function leases_of(list, first, step)
  local names = {}
  for i = first, #list, step do
    names[#names + 1] = LEASE .. list[i]
  end
  return call('MGET', unpack(names))
end

local NO_SPECS = {}
local function specs_of(list, first, step)
  if not extras or all_wait_in_lanes(queue) then
    return NO_SPECS
  end
  local names = {}
  for i = first, #list, step do
    names[#names + 1] = list[i]
  end
  return call('HMGET', SPECS .. queue, unpack(names))
end

-- A job of this queue that is to be aborted. A worker that holds it is told: a stock client tells nobody.
local function take_abort(id, score)
  local lease = call('GET', LEASE .. id)
  if not lease then
    local order = extras and Limits.fetch_from_lane(queue, id)
    return take(id, order or (score == STOCK_ABORT_SCORE and now) or score, 0, 'abort')
  end
  local lease_end, due, crashes = string.match(lease, '|(%d+)|(%-?%d+)|(%d+)$')
  if lease_end and tonumber(lease_end) <= now then
    if extras then
      Limits.fetch_from_lane(queue, id)
    end
    take(id, tonumber(due), tonumber(crashes), 'abort')
  elseif lease_end then
    call('PUBLISH', WORKER .. string.match(lease, '^([^.|]+)'), 'abort ' .. id)
  end
end

local function take_aborts()
  local goal = #ids + ABORTS_A_CLAIM
  for first = 0, SCAN_LIMIT - 1, PAGE do
    local requested = call('ZREVRANGE', ABORTS, first, first + PAGE - 1)
    if #requested == 0 then
      return
    end
    for i, score in ipairs(call('ZMSCORE', queue, unpack(requested))) do
      if score and #ids < goal then
        take_abort(requested[i], tonumber(score))
      end
    end
  end
end

local function take_due(want)
  local offset, size, seen_entries, parked_before = 0, want, 0, parked
  local goal = #ids + want
  while #ids < goal and seen_entries < SCAN_LIMIT do
    local page = call('ZRANGEBYSCORE', queue, '-inf', now, 'WITHSCORES', 'LIMIT', offset, size)
    if #page == 0 then
      return
    end
    local leases, packed = leases_of(page, 1, 2), specs_of(page, 1, 2)
    for i = 1, #page, 2 do
      if #ids >= goal then
        return
      end
      judge(page[i], tonumber(page[i + 1]), leases[(i + 1) / 2], packed[(i + 1) / 2])
    end
    seen_entries, size = seen_entries + #page / 2, PAGE
    offset = seen_entries - (parked - parked_before)
  end
end
