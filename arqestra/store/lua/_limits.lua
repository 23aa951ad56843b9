-- Limits of the fleet, and locks.
--
-- A job under limits has a spec (SPECS: id -> msgpack), a list of
--   { 'r', limit, interval in ms, burst }   a rate: RATE holds the time by which all starts so far are paid for (GCRA),
--                                           and what the latest claims added to it
--   { 'c', limit, jobs }                    a concurrency: HOLDERS is a set of the ids that run
--   { 'u', lock, 'started' | 'finished' }   a lock to be given back then (UNIQUE: job id|first enqueue|queue)
--   { 'v', changes }                        how often workers have changed these limits; nothing to the scripts
--   { 's', schedule, slot }                 no limit: the job is that run of a schedule (_run_end)
--   { 'n', flow, number, ... }              no limit: the job is that node of a flow (_flow); the last entry
-- written by the producer that knows the function, or by the first worker that reads the job.
--
-- docs/protocols.md tells the protocol ("Limits"). In short, by its keys:
--
-- A throttled job waits in a limit group (LIMIT_GROUP: jobs in the order of their scores): the jobs of one queue with
-- the same limits. In the queue its score is THROTTLED_SCORE, so jobs without limits never meet it. If the first job of
-- a group cannot start, none of them can. A group is in the wait list of one of its limits (WAIT_LIST: group -> its
-- place in the order), and each limit has a time before which nobody tries its first group (RETRY_AT).
--
-- A claim visits the limits whose time has come, and tries the first job of the first group. If all limits of the job
-- have room, the claim leases it and counts it, and the group goes to the end of the wait list. If this limit has no
-- room, its RETRY_AT moves to when it is free next. If another limit has none, or others wait for that one, the group
-- moves to that wait list. A limit that was served goes behind the others whose time has come. So groups take turns,
-- and limits do.
--
-- A job that ends leaves HOLDERS, and RETRY_AT of that limit becomes now in all queues (THROTTLED_QUEUES). A worker
-- that dies does not do that: RETRY_AT of a full limit is the end of the first lease of its holders, and then holders
-- without a lease are dropped. A job may be counted under a rate and then not start: it has expired, or came back with
-- other limits. Then its start is taken back as if it had never been counted, unless later claims have made its count
-- unknown.
-- USES  Lease, Specs

local HOLDERS_TTL_MS = 30 * 86400000
local RECHECK_MS = 1000
local MAX_HOLDERS_LOOKED_AT = 1000
local LONGEST_GROUP_NAME = 200
local REMEMBERED_CLAIMS = 8
local DISOWNED_TTL_MS = 30 * 86400000  -- of the lease record of a job that crashed and is throttled now

-- The name of a group: of its limit, or of several with their lengths, so that no two combinations have one name.
local function group_of(limits)
  local group = limits[1]
  if #limits > 1 then
    local parts = {}
    for i, limit in ipairs(limits) do
      parts[i] = #limit .. ':' .. limit
    end
    group = table.concat(parts)
  end
  if #group <= LONGEST_GROUP_NAME then
    return group
  end
  return string.sub(group, 1, LONGEST_GROUP_NAME - 41) .. '~' .. redis.sha1hex(group)
end

local function jobs_of(c, queue, group)
  return c.k.LIMIT_GROUP .. queue .. '|' .. group
end

local function wait_list_of(c, queue, limit)
  return c.k.WAIT_LIST .. queue .. '|' .. limit
end

-- The lease of a job has ended, and another job has its place under the limits: see _lease.
local function disown(c, id)
  local rest = string.match(call('GET', c.k.LEASE .. id) or '', '(|%d+|%-?%d+|%d+)$')
  if rest then
    call('SET', c.k.LEASE .. id, '-' .. rest, 'KEEPTTL')
  end
end

-- Drop the holders whose lease has ended; returns the earliest lease end of the others. Those that were admitted in
-- this very script have no lease yet.
local function drop_dead_holders(c, limit)
  local earliest
  local holders = call('ZRANGE', c.k.HOLDERS .. limit, 0, MAX_HOLDERS_LOOKED_AT - 1, 'WITHSCORES')
  for i = 1, #holders, 2 do
    local id, since = holders[i], tonumber(holders[i + 1])
    local lease = call('GET', c.k.LEASE .. id)
    local lease_end = lease and (Lease.lease_end_of(lease) or c.now + RECHECK_MS)
    if since >= c.now then
      lease_end = c.now + RECHECK_MS
    end
    if not lease_end or lease_end <= c.now then
      call('ZREM', c.k.HOLDERS .. limit, id)
      disown(c, id)
    else
      earliest = math.min(earliest or lease_end, lease_end)
    end
  end
  return earliest
end

-- RATE as a list: the time by which all starts are paid for, that without the claims that follow, and for each of these
-- its token, its time and what it added.
local function rate_of(c, limit)
  local packed = call('GET', c.k.RATE .. limit)
  return packed and cmsgpack.unpack(packed) or { 0, 0 }
end

local function keep_rate(c, limit, rate)
  local paid = rate[2]
  for i = 3, #rate, 3 do
    paid = math.max(paid, rate[i + 1]) + rate[i + 2]
  end
  rate[1] = paid
  call('SET', c.k.RATE .. limit, cmsgpack.pack(rate), 'PX', math.max(0, math.ceil(paid - c.now)) + 1000)
end

local function forget_claim(rate, index)
  for _ = 1, 3 do
    table.remove(rate, index)
  end
end

-- Count a start of `interval` ms that a claim makes.
local function charge(c, limit, interval, token)
  local rate = rate_of(c, limit)
  local n = #rate
  if n > 2 and rate[n - 2] == token and rate[n - 1] == c.now then
    rate[n] = rate[n] + interval
  else
    rate[n + 1], rate[n + 2], rate[n + 3] = token, c.now, interval
  end
  if #rate > 2 + 3 * REMEMBERED_CLAIMS then
    rate[2] = math.max(rate[2], rate[4]) + rate[5]
    forget_claim(rate, 3)
  end
  keep_rate(c, limit, rate)
end

-- A start that a claim counted was none; whether that could be taken back.
local function refund(c, limit, interval, token)
  local rate = rate_of(c, limit)
  for i = #rate - 2, 3, -3 do
    if rate[i] == token and rate[i + 2] >= interval then
      rate[i + 2] = rate[i + 2] - interval
      if rate[i + 2] == 0 then
        forget_claim(rate, i)
      end
      keep_rate(c, limit, rate)
      return true
    end
  end
  return false
end

-- When one limit lets a job start, if it does not do so now.
local function free_at(c, entry, id)
  local kind, limit = entry[1], entry[2]
  if kind == 'r' then
    local free = rate_of(c, limit)[1] - (entry[4] - 1) * entry[3]
    return free >= c.now + 1 and math.floor(free) or nil
  elseif kind == 'c' then
    local holders, most = c.k.HOLDERS .. limit, entry[3]
    if call('ZCARD', holders) >= most and not call('ZSCORE', holders, id) then
      local earliest = drop_dead_holders(c, limit)
      return call('ZCARD', holders) >= most and (earliest or c.now + RECHECK_MS) or nil
    end
  end
end

-- The limit that keeps a job from starting now, and when to try again; nil if none does.
local function refusal(c, id, spec)
  for _, entry in ipairs(spec) do
    local at = free_at(c, entry, id)
    if at then
      return entry[2], at
    end
  end
  return nil
end

-- Count a job that starts now, in the claim of that token.
local function admit(c, id, spec, token)
  for _, entry in ipairs(spec) do
    local kind, limit = entry[1], entry[2]
    if kind == 'r' then
      charge(c, limit, entry[3], token)
    elseif kind == 'c' then
      call('ZADD', c.k.HOLDERS .. limit, c.now, id)
      call('PEXPIRE', c.k.HOLDERS .. limit, HOLDERS_TTL_MS)
    end
  end
end

-- A group joins the end of a limit's wait list. The limit is tried at `at`, unless a time is set already.
local function join_wait_list(c, queue, group, limit, at)
  local wait_list = wait_list_of(c, queue, limit)
  local last = call('ZREVRANGE', wait_list, 0, 0, 'WITHSCORES')[2]
  call('ZADD', wait_list, (tonumber(last) or 0) + 1, group)
  call('ZADD', c.k.RETRY_AT .. queue, 'NX', at, limit)
  call('SADD', c.k.THROTTLED_QUEUES .. limit, queue)
end

local function leave_wait_list(c, queue, group, limit)
  local wait_list = wait_list_of(c, queue, limit)
  call('ZREM', wait_list, group)
  if call('EXISTS', wait_list) == 0 then
    call('ZREM', c.k.RETRY_AT .. queue, limit)
    call('SREM', c.k.THROTTLED_QUEUES .. limit, queue)
  end
end

-- Put a due job into the group of its limits. One that had no jobs yet waits for `limit`, see `join_wait_list`.
local function throttle(c, queue, id, limits, order, limit, at)
  local group = group_of(limits)
  if call('EXISTS', jobs_of(c, queue, group)) == 0 then
    join_wait_list(c, queue, group, limit, at)
  end
  call('ZADD', jobs_of(c, queue, group), order, id)
  call('HSET', c.k.THROTTLED .. queue, id, group)
  call('ZADD', c.k.QUEUE .. queue, THROTTLED_SCORE, id)
end

local function unthrottle(c, queue, id, group, limits)
  call('ZREM', jobs_of(c, queue, group), id)
  call('HDEL', c.k.THROTTLED .. queue, id)
  if call('EXISTS', jobs_of(c, queue, group)) == 0 then
    for _, limit in ipairs(limits) do
      leave_wait_list(c, queue, group, limit)
    end
  end
end

-- Take a job out of its group if it waits in one; returns its score in the queue's order.
local function leave_group(c, queue, id)
  local group = call('HGET', c.k.THROTTLED .. queue, id)
  if not group then
    return nil
  end
  local order = tonumber(call('ZSCORE', jobs_of(c, queue, group), id) or 0)
  unthrottle(c, queue, id, group, Specs.limits_of(Specs.spec_of(c, queue, id) or {}))
  return order
end

-- A time at which a retry at is open, and behind all that are open already.
local function after_open_limits(c, queue)
  local last = call('ZREVRANGEBYSCORE', c.k.RETRY_AT .. queue, '(' .. c.now + 1, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  return math.min(c.now + 0.999, math.max(c.now, tonumber(last or c.now)) + 0.0005)
end

local function unlock(c, id, lock)
  local holder = call('GET', c.k.UNIQUE .. lock)
  if holder and string.sub(holder, 1, #id + 1) == id .. '|' then
    call('DEL', c.k.UNIQUE .. lock)
  end
end

-- A lock that is held until the job starts is free when it does: the time in UNIQUE is negative then. It is held again
-- from when it was, unless somebody took it meanwhile, if the job turns out not to have started.
local function mark_started(c, id, lock, started)
  local value = call('GET', c.k.UNIQUE .. lock) or ''
  local time_and_queue = string.match(value, '^%-?(%d+|.*)$', #id + 2)
  if time_and_queue and string.sub(value, 1, #id + 1) == id .. '|' then
    call('SET', c.k.UNIQUE .. lock, id .. '|' .. (started and '-' or '') .. time_and_queue, 'KEEPTTL')
  end
end

-- A limit has room again: its first groups may be tried, in all queues. Marks these in due_queues.
local function retry_now(c, limit)
  for _, queue in ipairs(call('SMEMBERS', c.k.THROTTLED_QUEUES .. limit)) do
    local opens = tonumber(call('ZSCORE', c.k.RETRY_AT .. queue, limit) or 0)
    if opens >= c.now + 1 then
      call('ZADD', c.k.RETRY_AT .. queue, 'XX', after_open_limits(c, queue), limit)
    end
    c.due_queues[queue] = true
  end
end

-- The job does not run any more: its places are free, and its locks too if it has ended. Marks queues in due_queues.
local function free_limits(c, queue, id, spec, ended)
  for _, entry in ipairs(spec) do
    local kind, name = entry[1], entry[2]
    if kind == 'c' and call('ZREM', c.k.HOLDERS .. name, id) == 1 then
      retry_now(c, name)
    elseif kind == 'u' and ended then
      unlock(c, id, name)
    end
  end
  if ended then
    call('HDEL', c.k.SPECS .. queue, id)
  end
end

-- The job was taken by the claim of that token, and did not start.
local function uncount_start(c, id, spec, token)
  for _, entry in ipairs(spec) do
    if entry[1] == 'r' and refund(c, entry[2], entry[3], token) then
      retry_now(c, entry[2])
    elseif entry[1] == 'u' and entry[3] == 'started' then
      mark_started(c, id, entry[2], false)
    end
  end
end

return {
  DISOWNED_TTL_MS = DISOWNED_TTL_MS,
  disown = disown,
  rate_of = rate_of,
  free_at = free_at,
  refusal = refusal,
  admit = admit,
  join_wait_list = join_wait_list,
  leave_wait_list = leave_wait_list,
  throttle = throttle,
  unthrottle = unthrottle,
  leave_group = leave_group,
  after_open_limits = after_open_limits,
  mark_started = mark_started,
  free_limits = free_limits,
  uncount_start = uncount_start,
  jobs_of = jobs_of,
  wait_list_of = wait_list_of,
}
