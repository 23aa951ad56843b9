-- Limits of the fleet, and locks. Needs _score.
--
-- A job under limits has a spec (SPECS: id -> msgpack), a list of
--   { 'r', limit, interval in ms, burst }   a rate: RATE holds the time by which all starts so far are paid for (GCRA)
--   { 'c', limit, jobs }                    a concurrency: HOLDERS is a set of the ids that run
--   { 'u', lock, 'started' | 'finished' }   a lock to be given back then
--   { 'n', flow, number }                   no limit: the job is that node of a flow (_flow)
-- written by the producer that knows the function, or by the first worker that reads the job.
--
-- A due job under a limit does not stand in the queue's order: it waits in a lane (LANE: one for each limit and queue,
-- in order of its score), and in the queue its score is HELD_SCORE. Each lane has a gate (GATES: limit -> when its first
-- job may be tried). A claim visits the gates that are open, tries the first job of the lane against all its limits, and
-- either leases it, counted, in the same script, or moves the gate to the limit's next free time. So a waiting job costs
-- nothing, no backlog bursts through a limit however long nobody worked, and jobs without limits never see the others.
-- A served gate goes to the back of the open ones: lanes, so the keys of a limit, are served round robin.
--
-- A job that ends gives its place under a concurrency back and opens the lanes of that limit, in all queues (LANES). A
-- worker that dies does not: the gate of a full limit opens when the first lease of its holders ends, and holders without
-- a lease are dropped then.

local HOLDERS_TTL_MS = 30 * 86400000
local RECHECK_MS = 1000
local MOST_HOLDERS_LOOKED_AT = 1000

local function spec_of(queue, id)
  local packed = call('HGET', SPECS .. queue, id)
  return packed and cmsgpack.unpack(packed) or nil, packed
end

local function lane_of(queue, limit)
  return LANE .. queue .. '|' .. limit
end

-- Drop the holders whose lease has ended; returns the earliest lease end of the others. Those that were admitted in this
-- very script have no lease yet.
local function drop_dead_holders(limit, now)
  local earliest
  local holders = call('ZRANGE', HOLDERS .. limit, 0, MOST_HOLDERS_LOOKED_AT - 1, 'WITHSCORES')
  for i = 1, #holders, 2 do
    local id, since = holders[i], tonumber(holders[i + 1])
    local lease = call('GET', LEASE .. id)
    local lease_end = lease and (tonumber(string.match(lease, '|(%d+)|') or now + RECHECK_MS))
    if since >= now then
      lease_end = now + RECHECK_MS
    end
    if not lease_end or lease_end <= now then
      call('ZREM', HOLDERS .. limit, id)
    else
      earliest = math.min(earliest or lease_end, lease_end)
    end
  end
  return earliest
end

-- The limit that keeps a job from starting now, and when to try again; nil if none does.
local function refusal(id, spec, now)
  for _, entry in ipairs(spec) do
    local kind, limit = entry[1], entry[2]
    if kind == 'r' then
      local free = tonumber(call('GET', RATE .. limit) or 0) - (entry[4] - 1) * entry[3]
      if free >= now + 1 then
        return limit, math.floor(free)
      end
    elseif kind == 'c' and call('ZCARD', HOLDERS .. limit) >= entry[3] and not call('ZSCORE', HOLDERS .. limit, id) then
      local earliest = drop_dead_holders(limit, now)
      if call('ZCARD', HOLDERS .. limit) >= entry[3] then
        return limit, earliest or now + RECHECK_MS
      end
    end
  end
  return nil
end

-- Count a job that starts now.
local function admit(id, spec, now)
  for _, entry in ipairs(spec) do
    local kind, limit = entry[1], entry[2]
    if kind == 'r' then
      local paid = math.max(tonumber(call('GET', RATE .. limit) or 0), now) + entry[3]
      call('SET', RATE .. limit, string.format('%.3f', paid), 'PX', math.ceil(paid - now) + 1000)
    elseif kind == 'c' then
      call('ZADD', HOLDERS .. limit, now, id)
      call('PEXPIRE', HOLDERS .. limit, HOLDERS_TTL_MS)
    end
  end
end

-- Put a due job into the lane of a limit, whose gate opens at `at` unless it has one already.
local function park(queue, id, limit, order, at)
  call('ZADD', lane_of(queue, limit), order, id)
  call('HSET', HELD .. queue, id, limit)
  call('ZADD', queue, HELD_SCORE, id)
  call('ZADD', GATES .. queue, 'NX', at, limit)
  call('SADD', LANES .. limit, queue)
end

local function unpark(queue, id, limit)
  local lane = lane_of(queue, limit)
  call('ZREM', lane, id)
  call('HDEL', HELD .. queue, id)
  if call('EXISTS', lane) == 0 then
    call('ZREM', GATES .. queue, limit)
    call('SREM', LANES .. limit, queue)
  end
end

-- Take a job out of its lane if it waits in one; returns its score in the queue's order.
local function fetch_from_lane(queue, id)
  local limit = call('HGET', HELD .. queue, id)
  if not limit then
    return nil
  end
  local order = tonumber(call('ZSCORE', lane_of(queue, limit), id) or 0)
  unpark(queue, id, limit)
  return order
end

-- A time at which a gate is open, and behind all that are open already.
local function back_of_line(queue, now)
  local last = call('ZREVRANGEBYSCORE', GATES .. queue, '(' .. now + 1, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  return math.min(now + 0.999, math.max(now, tonumber(last or now)) + 0.0005)
end

local function unlock(id, lock)
  local holder = call('GET', UNIQUE .. lock)
  if holder and string.sub(holder, 1, #id + 1) == id .. '|' then
    call('DEL', UNIQUE .. lock)
  end
end

-- The job does not run any more: its places are free, and its locks too if it has ended. Marks queues in due_queues.
local function give_back(queue, id, spec, now, ended, due_queues)
  for _, entry in ipairs(spec) do
    local kind, name = entry[1], entry[2]
    if kind == 'c' and call('ZREM', HOLDERS .. name, id) == 1 then
      for _, waiting_queue in ipairs(call('SMEMBERS', LANES .. name)) do
        local opens = tonumber(call('ZSCORE', GATES .. waiting_queue, name) or 0)
        if opens >= now + 1 then
          call('ZADD', GATES .. waiting_queue, 'XX', back_of_line(waiting_queue, now), name)
        end
        due_queues[waiting_queue] = true
      end
    elseif kind == 'u' and ended then
      unlock(id, name)
    end
  end
  if ended then
    call('HDEL', SPECS .. queue, id)
  end
end
