-- Throttled jobs, which wait in limit groups (docs/protocols.md, "Limits"). `t` and `q` are explained in _claim.
-- USES  Lease, Specs, Limits, ClaimTake, ClaimCases

local LIMIT_VISITS = 300      -- limits that are tried in one claim
-- For a fair share: limits that are counted, and groups in each wait list.
local LIMITS_COUNTED, GROUPS_COUNTED = 50, 10

-- The limit whose wait list a group has to move to, and when to try it there: a limit without room, or a limit after
-- `limit` in the spec that other groups wait for. A group only moves forward in the order of the spec, so that it never
-- circles.
local function other_wait_list(c, t, q, id, spec, limit)
  local blocked, at = Limits.refusal(c, id, spec)
  if blocked then
    return blocked, at
  end
  local behind = false
  for _, other in ipairs(Specs.limits_of(spec)) do
    local opens = behind and call('ZSCORE', c.k.RETRY_AT .. q.name, other)
    if opens then
      return other, opens
    end
    behind = behind or other == limit
  end
end

local function start_throttled(c, t, q, id, order, spec, packed)
  local _, _, crashes = Lease.fields_of(call('GET', c.k.LEASE .. id) or '')
  if crashes then
    return ClaimCases.judge_crashed(c, t, q, id, order, crashes + 1, packed)
  end
  Limits.admit(c, id, spec, t.token)
  ClaimTake.take(t, q, id, order, 0, '', packed)
end

-- The first job of the first group in the wait list of a limit: take it, put the limit off, or send the group to
-- another wait list. A limit that was served goes after the others that may be tried, a group to the end of its wait
-- list.
local function visit_limit(c, t, q, limit)
  local group = call('ZRANGE', Limits.wait_list_of(c, q.name, limit), 0, 0)[1] or ''
  local head = call('ZRANGE', Limits.jobs_of(c, q.name, group), 0, 0, 'WITHSCORES')
  local id, order = head[1], tonumber(head[2])
  if not id then
    return Limits.leave_wait_list(c, q.name, group, limit)
  end
  local spec, packed = Specs.spec_of(c, q.name, id)
  spec = spec or {}
  for _, entry in ipairs(spec) do
    local at = entry[2] == limit and Limits.free_at(c, entry, id)
    if at then
      return call('ZADD', c.k.RETRY_AT .. q.name, 'XX', math.max(at, c.now + 1), limit)
    end
  end
  local other, opens = other_wait_list(c, t, q, id, spec, limit)
  if other then
    Limits.leave_wait_list(c, q.name, group, limit)
    return Limits.join_wait_list(c, q.name, group, other, opens)
  end
  Limits.join_wait_list(c, q.name, group, limit, c.now)
  call('ZADD', c.k.RETRY_AT .. q.name, 'XX', Limits.after_open_limits(c, q.name), limit)
  Limits.unthrottle(c, q.name, id, group, Specs.limits_of(spec))
  start_throttled(c, t, q, id, order, spec, packed)
end

-- How many starts a limit has room for now. At least 1: a limit whose retry_at has passed is worth a visit.
local function room_under(c, entry)
  if entry[1] == 'c' then
    return math.max(1, entry[3] - call('ZCARD', c.k.HOLDERS .. entry[2]))
  end
  local paid = math.max(Limits.rate_of(c, entry[2])[1], c.now)
  return math.max(1, math.floor((c.now - paid) / entry[3]) + entry[4])
end

-- How many jobs in the wait list of a limit might start now.
local function ready_under(c, q, limit)
  local wait_list = Limits.wait_list_of(c, q.name, limit)
  local groups = call('ZRANGE', wait_list, 0, GROUPS_COUNTED - 1)
  local ready = math.max(0, call('ZCARD', wait_list) - GROUPS_COUNTED)
  for _, group in ipairs(groups) do
    ready = ready + call('ZCARD', Limits.jobs_of(c, q.name, group))
  end
  local head = ready > 1 and call('ZRANGE', Limits.jobs_of(c, q.name, groups[1]), 0, 0)[1]
  for _, entry in ipairs(head and Specs.spec_of(c, q.name, head) or {}) do
    if entry[2] == limit then
      return math.min(ready, room_under(c, entry))
    end
  end
  return 1
end

-- How many jobs in groups might start now; that there are `enough` is all that matters.
local function count_ready(c, q, enough)
  local ready = call('ZCOUNT', c.k.RETRY_AT .. q.name, '-inf', '(' .. c.now + 1)
  local open = call('ZRANGEBYSCORE', c.k.RETRY_AT .. q.name, '-inf', '(' .. c.now + 1, 'LIMIT', 0, LIMITS_COUNTED)
  for _, limit in ipairs(open) do
    if ready >= enough then
      break
    end
    ready = ready - 1 + ready_under(c, q, limit)
  end
  return ready
end

local function take_throttled(c, t, q, want)
  local goal, visit = #t.ids + want, 0
  while #t.ids < goal and visit < LIMIT_VISITS do
    local limit = call('ZRANGEBYSCORE', c.k.RETRY_AT .. q.name, '-inf', '(' .. c.now + 1, 'LIMIT', 0, 1)[1]
    if not limit then
      return
    end
    visit = visit + 1
    visit_limit(c, t, q, limit)
  end
end

return { count_ready = count_ready, take_throttled = take_throttled }
