-- Store 1..n jobs and wake a worker.
--
-- KEYS  1: queue of the first job (for routing)
-- ARGV  1: time in ms or ''   2: '1' if this call may have been made before and its reply was lost
--       then for each job: queue, id, when, unique, attempts, payload, number of parents, parents...
--         when      '' due at once | '+ms' due that much later | '=ms' due at that time
--         unique    '' if the id was generated; else a nonce: the caller chose the id, and it is refused if it exists
--         attempts  attempts that count as started already (arq's _job_try less one)
-- RETURNS  one character for each job: '1' accepted, '0' refused because the id exists
-- EVENTS   wakes one waiting worker for each queue that got a due job
--
-- Repeating the call is harmless: payload and result of a job with a chosen id contain the nonce of the call that made it,
-- and a generated id that has a payload or a result was accepted before. Only a job that ended in the meantime and whose
-- result is not kept leaves no trace, and runs again.

-- @include _clock
-- @include _wake

local FAR_FUTURE = 8640000000000000  -- as arq's datetime range; a job with this score waits for its parents
local argv = ARGV            -- a local is found faster than a global
local now = clock(argv[1])
local resent = argv[2] == '1'
local verdicts, additions, due_queues, deferred = {}, {}, {}, {}

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

local function refused(id, nonce)
  if nonce ~= '' then
    if call('EXISTS', JOB .. id, RESULT .. id, LEASE .. id) == 0 then
      call('DEL', ATTEMPTS .. id, PARENTS .. id, ERRORS .. id)
      call('ZREM', ABORTS, id)
      return false
    end
    return not (resent and made_before(id, nonce)), true
  end
  if resent and call('EXISTS', JOB .. id, RESULT .. id) > 0 then
    return false, true
  end
  return false
end

-- True while a parent has not ended: the child is registered with each such parent.
local function waits_for_parents(id, queue, first, count)
  local waits = false
  for i = first, first + count - 1 do
    local parent = argv[i]
    if call('EXISTS', JOB .. parent) == 1 then
      call('SADD', PARENTS .. id, parent)
      call('HSET', CHILDREN .. parent, id, queue)
      waits = true
    end
  end
  return waits
end

local function score_of(when)
  if when == '' then
    return now
  end
  local number = tonumber(string.sub(when, 2))
  return string.sub(when, 1, 1) == '+' and now + number or number
end

local i = 3
while i <= #argv do
  local queue, id, payload, parents = argv[i], argv[i + 1], argv[i + 5], tonumber(argv[i + 6])
  local refuse, known = refused(id, argv[i + 3])
  verdicts[#verdicts + 1] = refuse and '0' or '1'
  if not refuse and not known then
    call('SET', JOB .. id, payload)
    if argv[i + 4] ~= '0' then
      call('SET', ATTEMPTS .. id, argv[i + 4])
    end
    local score = score_of(argv[i + 2])
    if parents > 0 and waits_for_parents(id, queue, i + 7, parents) then
      score = FAR_FUTURE
    elseif score <= now then
      due_queues[queue] = true
    else
      deferred[queue] = math.min(score, deferred[queue] or score)
    end
    local list = additions[queue]
    if not list then
      list = {}
      additions[queue] = list
    end
    list[#list + 1] = score
    list[#list + 1] = id
    if #list == 1000 then
      call('ZADD', queue, unpack(list))
      additions[queue] = nil
    end
  end
  i = i + 7 + parents
end

for queue, list in pairs(additions) do
  call('ZADD', queue, unpack(list))
end
for queue in pairs(due_queues) do
  wake(queue, now)
end
for queue, due in pairs(deferred) do
  announce_deferred(queue, due, now)
end
return table.concat(verdicts)
