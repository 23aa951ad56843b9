-- Storing jobs: `store` takes one, `write_stored` writes what was put off. Then the call wakes workers (c.due_queues),
-- and `announce_stored` tells timer owners of what becomes due later. Reads c.resent: the call may have been made
-- before.
-- USES  Score, Lease, Wake, Limits

-- A lock is given back by the job that holds it; this bounds that of a job that a stock worker ended.
local LOCK_TTL_MS = 30 * 86400000
local NO_LIMITS = {}

-- What the call puts off: additions to queues, and when queues have something due next.
local function stored_by(c)
  local storing = c.storing
  if not storing then
    storing = { additions = {}, deferred = {} }
    c.storing = storing
  end
  return storing
end

-- Whether this very call, sent before, made the job.
local function made_before(c, id, nonce)
  for _, name in ipairs({ c.k.JOB .. id, c.k.RESULT .. id }) do
    local stored = call('GET', name)
    if stored and string.find(stored, nonce, 1, true) then
      return true
    end
  end
  return false
end

local function refused(c, id, queue, nonce)
  if nonce ~= '' then
    if call('EXISTS', c.k.JOB .. id, c.k.RESULT .. id, c.k.LEASE .. id, c.k.RESERVED .. id) == 0 then
      call('DEL', c.k.ATTEMPTS .. id, c.k.ERRORS .. id, c.k.PROGRESS .. id, c.k.JOB_LOG .. id)
      call('ZREM', c.k.ABORTS, id)
      if call('ZREM', c.k.DEAD .. queue, id) == 1 then
        call('HDEL', c.k.DEAD_RESULTS .. queue, id)
      end
      return false
    end
    return not (c.resent and made_before(c, id, nonce)), true
  end
  if c.resent and call('EXISTS', c.k.JOB .. id, c.k.RESULT .. id) > 0 then
    return false, true
  end
  return false
end

local function due_at(c, when)
  if when == '' then
    return c.now
  end
  local number = tonumber(string.sub(when, 2))
  return string.sub(when, 1, 1) == '+' and c.now + number or number
end

local function add(c, queue, id, score)
  local list = stored_by(c).additions[queue]
  if not list then
    list = {}
    stored_by(c).additions[queue] = list
  end
  list[#list + 1] = score
  list[#list + 1] = id
  if #list == BATCH then
    call('ZADD', c.k.QUEUE .. queue, unpack(list))
    stored_by(c).additions[queue] = nil
  end
end

local function announce(c, queue, due)
  if due <= c.now then
    c.due_queues[queue] = true
  else
    stored_by(c).deferred[queue] = math.min(due, stored_by(c).deferred[queue] or due)
  end
end

-- A job that is due: in its group, or in the queue's order.
local function put_in_queue(c, queue, id, due, priority, limits)
  if due <= c.now and #limits > 0 then
    Limits.throttle(c, queue, id, limits, Score.in_order(due, priority), limits[1], c.now)
  else
    add(c, queue, id, Score.score_at(c, queue, id, due, priority))
  end
  announce(c, queue, due)
end

-- Write the additions to a queue that are not written yet.
local function flush(c, queue)
  if stored_by(c).additions[queue] then
    call('ZADD', c.k.QUEUE .. queue, unpack(stored_by(c).additions[queue]))
    stored_by(c).additions[queue] = nil
  end
end

-- The job that has the lock gets the payload and the due time of one that wanted it, and is as new.
local function replace(c, holder, queue, first_ms, lock, payload, when, priority)
  flush(c, queue)  -- it may be one of this very call
  if Lease.has_holder(call('GET', c.k.LEASE .. holder)) or not call('ZSCORE', c.k.QUEUE .. queue, holder) then
    return false
  end
  call('SET', c.k.JOB .. holder, payload)
  call('DEL', c.k.ATTEMPTS .. holder, c.k.ERRORS .. holder, c.k.LEASE .. holder)
  local due = due_at(c, when)
  if lock[5] > 0 then
    due = math.min(due, first_ms + lock[5])
  end
  local throttled = call('HEXISTS', c.k.THROTTLED .. queue, holder) == 1
  if throttled and due <= c.now then
    return true  -- it goes on waiting for its turn
  end
  if throttled then
    Limits.leave_group(c, queue, holder)
  end
  call('ZREM', c.k.PROMOTE .. queue, holder)
  call('ZADD', c.k.QUEUE .. queue, Score.score_at(c, queue, holder, due, priority), holder)
  announce(c, queue, due)
  return true
end

-- Take the lock of a job; else the verdict, and the job that stands for it.
local function locked_out(c, id, queue, lock, due, payload, when, priority)
  local key, ttl = c.k.UNIQUE .. lock[1], lock[4]
  local value = call('GET', key)
  if value then
    local holder, first_ms, holder_queue = string.match(value, '^(.*)|(%-?%d+)|(.*)$')
    local waits = call('EXISTS', c.k.JOB .. holder) == 1
    local locked = tonumber(first_ms) >= 0  -- else the holder has started
    local doomed = locked and waits and call('ZSCORE', c.k.ABORTS, holder)
    if doomed and (ttl > 0 or Lease.is_leased(call('GET', c.k.LEASE .. holder), c.now)) then
      return '0'  -- nothing that goes on can stand for it
    elseif holder ~= id and locked and not doomed and (waits or ttl > 0) then
      if lock[3] == 'reject' then
        return '0'
      elseif lock[3] == 'return' then
        return '2', holder, holder_queue
      end
      if waits and replace(c, holder, holder_queue, tonumber(first_ms), lock, payload, when, priority) then
        return '2', holder, holder_queue
      end
      return '0'
    end
  end
  local value_ms = ttl > 0 and ttl or math.max(0, due - c.now) + LOCK_TTL_MS
  call('SET', key, id .. '|' .. string.format('%.0f', c.now) .. '|' .. queue, 'PX', string.format('%.0f', value_ms))
end

-- Store a job whose extras are decoded; see enqueue.lua for the arguments. Returns the verdict, and the job that stands
-- for it.
local function store(c, queue, id, when, nonce, attempts, payload, priority, spec, limits, lock)
  local refuse, known = refused(c, id, queue, nonce)
  local verdict, duplicate, duplicate_queue = refuse and '0' or '1', nil, nil
  if lock and not refuse and not known then
    verdict, duplicate, duplicate_queue = locked_out(c, id, queue, lock, due_at(c, when), payload, when, priority)
    verdict = verdict or '1'
  end
  if verdict == '1' and not known then
    call('SET', c.k.JOB .. id, payload)
    if attempts ~= '0' then
      call('SET', c.k.ATTEMPTS .. id, attempts)
    end
    if spec ~= '' then
      call('HSET', c.k.SPECS .. queue, id, spec)
    end
    if when == '' and #limits == 0 and priority == 0 then
      add(c, queue, id, c.now)
      c.due_queues[queue] = true
    else
      put_in_queue(c, queue, id, due_at(c, when), priority, limits)
    end
  end
  return verdict, duplicate, duplicate_queue
end

-- What an enqueue says of a job beside its payload: priority, spec, limits, lock.
local function extras_of(extra)
  if extra == '' then
    return 0, '', NO_LIMITS, false
  end
  local header_end = 4 + tonumber(string.sub(extra, 1, 4))
  local priority, limits, lock = unpack(cmsgpack.unpack(string.sub(extra, 5, header_end)))
  return priority, string.sub(extra, header_end + 1), limits, lock
end

local function write_stored(c)
  for queue in pairs(stored_by(c).additions) do
    flush(c, queue)
  end
end

local function announce_stored(c)
  for queue, due in pairs(stored_by(c).deferred) do
    Wake.announce_deferred(c, queue, due)
  end
end

return { store = store, extras_of = extras_of, write_stored = write_stored, announce_stored = announce_stored }
