-- Part of claim.lua: throttled jobs, which wait in limit groups: the module `Throttled`. Needs _claim_take.

-- @include _lease

-- The limit whose wait list a group has to move to, and when to try it there: a limit without room, or a limit after `limit`
-- in the spec that other groups wait for. A group only moves forward in the order of the spec, so that it never circles.
local function other_wait_list(id, spec, limit)
  local blocked, at = Limits.refusal(id, spec, now)
  if blocked then
    return blocked, at
  end
  local behind = false
  for _, other in ipairs(limits_of(spec)) do
    local opens = behind and call('ZSCORE', RETRY_AT .. queue, other)
    if opens then
      return other, opens
    end
    behind = behind or other == limit
  end
end

local function start_throttled(id, order, spec, packed)
  local _, _, crashes = fields_of(call('GET', LEASE .. id) or '')
  if crashes then
    return Cases.judge_crashed(id, order, crashes + 1, packed)
  end
  Limits.admit(id, spec, now, token)
  take(id, order, 0, '', packed)
end

-- The first job of the first group in the wait list of a limit: take it, put the limit off, or send the group to another
-- wait list. A limit that was served goes after the others that may be tried, a group to the end of its wait list.
local function visit_limit(limit)
  local group = call('ZRANGE', Limits.wait_list_of(queue, limit), 0, 0)[1] or ''
  local head = call('ZRANGE', Limits.jobs_of(queue, group), 0, 0, 'WITHSCORES')
  local id, order = head[1], tonumber(head[2])
  if not id then
    return Limits.leave_wait_list(queue, group, limit)
  end
  local spec, packed = spec_of(queue, id)
  spec = spec or {}
  for _, entry in ipairs(spec) do
    local at = entry[2] == limit and Limits.free_at(entry, id, now)
    if at then
      return call('ZADD', RETRY_AT .. queue, 'XX', math.max(at, now + 1), limit)
    end
  end
  local other, opens = other_wait_list(id, spec, limit)
  if other then
    Limits.leave_wait_list(queue, group, limit)
    return Limits.join_wait_list(queue, group, other, opens)
  end
  Limits.join_wait_list(queue, group, limit, now)
  call('ZADD', RETRY_AT .. queue, 'XX', Limits.after_open_limits(queue, now), limit)
  Limits.unthrottle(queue, id, group, limits_of(spec))
  start_throttled(id, order, spec, packed)
end

-- How many starts a limit has room for now. At least 1: a limit whose retry_at has passed is worth a visit.
local function room_under(entry)
  if entry[1] == 'c' then
    return math.max(1, entry[3] - call('ZCARD', HOLDERS .. entry[2]))
  end
  local paid = math.max(Limits.rate_of(entry[2])[1], now)
  return math.max(1, math.floor((now - paid) / entry[3]) + entry[4])
end

-- How many jobs in the wait list of a limit might start now.
local function ready_under(limit)
  local wait_list = Limits.wait_list_of(queue, limit)
  local groups = call('ZRANGE', wait_list, 0, GROUPS_COUNTED - 1)
  local ready = math.max(0, call('ZCARD', wait_list) - GROUPS_COUNTED)
  for _, group in ipairs(groups) do
    ready = ready + call('ZCARD', Limits.jobs_of(queue, group))
  end
  local head = ready > 1 and call('ZRANGE', Limits.jobs_of(queue, groups[1]), 0, 0)[1]
  for _, entry in ipairs(head and spec_of(queue, head) or {}) do
    if entry[2] == limit then
      return math.min(ready, room_under(entry))
    end
  end
  return 1
end

-- How many jobs in groups might start now; that there are `enough` is all that matters.
local function count_ready(enough)
  local ready = call('ZCOUNT', RETRY_AT .. queue, '-inf', '(' .. now + 1)
  for _, limit in ipairs(call('ZRANGEBYSCORE', RETRY_AT .. queue, '-inf', '(' .. now + 1, 'LIMIT', 0, LIMITS_COUNTED)) do
    if ready >= enough then
      break
    end
    ready = ready - 1 + ready_under(limit)
  end
  return ready
end

local function take_throttled(want)
  local goal, visit = #ids + want, 0
  while #ids < goal and visit < LIMIT_VISITS do
    local limit = call('ZRANGEBYSCORE', RETRY_AT .. queue, '-inf', '(' .. now + 1, 'LIMIT', 0, 1)[1]
    if not limit then
      return
    end
    visit = visit + 1
    visit_limit(limit)
  end
end

return { count_ready = count_ready, take_throttled = take_throttled }
