-- Storing jobs, the module `Storing`: `store` takes one, `write_stored` writes what was put off. Then the script wakes
-- workers for `due_queues`, and `announce_stored` tells timer owners of what becomes due later. Needs three locals: `now`, `resent` (this call may have been made before) and
-- `due_queues`.

-- @include _wake
-- @include _score
-- @include _lease
-- @include _specs
-- @module Limits _limits

local LOCK_TTL_MS = 30 * 86400000  -- a lock is given back by the job that holds it; this bounds one that a stock worker ended
local NO_LIMITS = {}
local additions, deferred = {}, {}

-- Whether this very call, sent before, made the job.
local function made_before(id, nonce)
  for _, name in ipairs({ JOB .. id, RESULT .. id }) do
    local stored = call('GET', name)
    if stored and string.find(stored, nonce, 1, true) then
      return true
    end
  end
  return false
end

local function refused(id, queue, nonce)
  if nonce ~= '' then
    if call('EXISTS', JOB .. id, RESULT .. id, LEASE .. id, RESERVED .. id) == 0 then
      call('DEL', ATTEMPTS .. id, ERRORS .. id, PROGRESS .. id, JOB_LOG .. id)
      call('ZREM', ABORTS, id)
      if call('ZREM', DEAD .. queue, id) == 1 then
        call('HDEL', DEAD_RESULTS .. queue, id)
      end
      return false
    end
    return not (resent and made_before(id, nonce)), true
  end
  if resent and call('EXISTS', JOB .. id, RESULT .. id) > 0 then
    return false, true
  end
  return false
end

local function due_at(when)
  if when == '' then
    return now
  end
  local number = tonumber(string.sub(when, 2))
  return string.sub(when, 1, 1) == '+' and now + number or number
end

local function add(queue, id, score)
  local list = additions[queue]
  if not list then
    list = {}
    additions[queue] = list
  end
  list[#list + 1] = score
  list[#list + 1] = id
  if #list == BATCH then
    call('ZADD', QUEUE .. queue, unpack(list))
    additions[queue] = nil
  end
end

local function announce(queue, due)
  if due <= now then
    due_queues[queue] = true
  else
    deferred[queue] = math.min(due, deferred[queue] or due)
  end
end

-- A job that is due: in its group, or in the queue's order.
local function place(queue, id, due, priority, limits)
  if due <= now and #limits > 0 then
    Limits.throttle(queue, id, limits, in_order(due, priority), limits[1], now)
  else
    add(queue, id, score_at(queue, id, due, priority, now))
  end
  announce(queue, due)
end

-- Write the additions to a queue that are not written yet.
local function flush(queue)
  if additions[queue] then
    call('ZADD', QUEUE .. queue, unpack(additions[queue]))
    additions[queue] = nil
  end
end

-- The job that has the lock gets the payload and the due time of one that wanted it, and is as new.
local function replace(holder, queue, first_ms, lock, payload, when, priority)
  flush(queue)  -- it may be one of this very call
  if has_holder(call('GET', LEASE .. holder)) or not call('ZSCORE', QUEUE .. queue, holder) then
    return false
  end
  call('SET', JOB .. holder, payload)
  call('DEL', ATTEMPTS .. holder, ERRORS .. holder, LEASE .. holder)
  local due = due_at(when)
  if lock[5] > 0 then
    due = math.min(due, first_ms + lock[5])
  end
  local throttled = call('HEXISTS', THROTTLED .. queue, holder) == 1
  if throttled and due <= now then
    return true  -- it goes on waiting for its turn
  end
  if throttled then
    Limits.leave_group(queue, holder)
  end
  call('ZREM', PROMOTE .. queue, holder)
  call('ZADD', QUEUE .. queue, score_at(queue, holder, due, priority, now), holder)
  announce(queue, due)
  return true
end

-- Take the lock of a job; else the verdict, and the job that stands for it.
local function locked_out(id, queue, lock, due, payload, when, priority)
  local key, ttl = UNIQUE .. lock[1], lock[4]
  local value = call('GET', key)
  if value then
    local holder, first_ms, holder_queue = string.match(value, '^(.*)|(%-?%d+)|(.*)$')
    local waits = call('EXISTS', JOB .. holder) == 1
    local locked = tonumber(first_ms) >= 0  -- else the holder has started
    local doomed = locked and waits and call('ZSCORE', ABORTS, holder)
    if doomed and (ttl > 0 or is_leased(call('GET', LEASE .. holder), now)) then
      return '0'  -- nothing that goes on can stand for it
    elseif holder ~= id and locked and not doomed and (waits or ttl > 0) then
      if lock[3] == 'reject' then
        return '0'
      elseif lock[3] == 'return' then
        return '2', holder, holder_queue
      end
      if waits and replace(holder, holder_queue, tonumber(first_ms), lock, payload, when, priority) then
        return '2', holder, holder_queue
      end
      return '0'
    end
  end
  local value_ms = ttl > 0 and ttl or math.max(0, due - now) + LOCK_TTL_MS
  call('SET', key, id .. '|' .. string.format('%.0f', now) .. '|' .. queue, 'PX', string.format('%.0f', value_ms))
end

-- Store a job whose extras are decoded; see enqueue.lua for the arguments. Returns the verdict, and the job that stands
-- for it.
local function store(queue, id, when, nonce, attempts, payload, priority, spec, limits, lock)
  local refuse, known = refused(id, queue, nonce)
  local verdict, duplicate, duplicate_queue = refuse and '0' or '1', nil, nil
  if lock and not refuse and not known then
    verdict, duplicate, duplicate_queue = locked_out(id, queue, lock, due_at(when), payload, when, priority)
    verdict = verdict or '1'
  end
  if verdict == '1' and not known then
    call('SET', JOB .. id, payload)
    if attempts ~= '0' then
      call('SET', ATTEMPTS .. id, attempts)
    end
    if spec ~= '' then
      call('HSET', SPECS .. queue, id, spec)
    end
    if when == '' and #limits == 0 and priority == 0 then
      add(queue, id, now)
      due_queues[queue] = true
    else
      place(queue, id, due_at(when), priority, limits)
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

local function write_stored()
  for queue in pairs(additions) do
    flush(queue)
  end
end

local function announce_stored()
  for queue, due in pairs(deferred) do
    announce_deferred(queue, due, now)
  end
end

return { store = store, extras_of = extras_of, write_stored = write_stored, announce_stored = announce_stored }
