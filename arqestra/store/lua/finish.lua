-- Write what became of 1..n leased jobs. A job whose lease record does not carry the token is left alone: its lease was
-- lost, and whoever holds it decides.
--
-- KEYS  1: queue of the first job (for routing)
-- ARGV  1: time in ms or ''
--       then for each job: id, queue, token, kind, number, result ttl, result, error
--         kind    'end'      it has ended: write the result, delete the rest      number: ms to keep the id taken, or 0
--                 'dead'     the same, and keep it in the dead set                number: unused
--                 'retry'    run it again number ms from now; number 0: at its old place in the queue
--                 'release'  the same, and the attempt does not count
--         result      of 'retry' and 'release': the number of attempts started, if it differs from the one counted
--         result ttl  ms | '0' for ever | '-1' no result is kept
--         error       of the attempt, for the job's history | '+' it may have a history | '' it has none
-- RETURNS  one character for each job: '1' written, '0' the lease was lost
-- EVENTS   publishes the end of each job; wakes a worker for what is due again; releases children whose last parent ended
--
-- Repeating the call is harmless: what was written has no lease record any more.

-- @include _clock
-- @include _wake
-- @include _children

local DEAD_SET_LIMIT = 10000
local HISTORY_LIMIT = 20
local FAR_FUTURE = 8640000000000000  -- the score of a job that waits for its parents

local argv = ARGV            -- a local is found faster than a global
local now = clock(argv[1])
local count = (#argv - 1) / 8
local verdicts, ended, due_queues, deferred = {}, {}, {}, {}
local removals = {}          -- queue -> ids
local doomed = {}            -- keys to delete
local has_aborts = call('EXISTS', ABORTS) == 1

local lease_names = {}
for i = 0, count - 1 do
  lease_names[#lease_names + 1] = LEASE .. argv[2 + i * 8]
end
local leases = call('MGET', unpack(lease_names))

local function bury(id, queue)
  local payload = call('GET', JOB .. id)
  call('ZADD', DEAD .. queue, now, id)
  if payload then
    call('HSET', DEAD_PAYLOADS .. queue, id, payload)
  end
  local surplus = call('ZCARD', DEAD .. queue) - DEAD_SET_LIMIT
  if surplus > 0 then
    for _, oldest in ipairs(call('ZRANGE', DEAD .. queue, 0, surplus - 1)) do
      call('ZREM', DEAD .. queue, oldest)
      call('HDEL', DEAD_PAYLOADS .. queue, oldest)
    end
  end
end

local function note_error(id, error)
  if error ~= '' and error ~= '+' then
    call('RPUSH', ERRORS .. id, error)
    call('LTRIM', ERRORS .. id, -HISTORY_LIMIT, -1)
  end
end

-- The history of an ended job is kept as long as its result.
local function keep_history(id, ttl)
  if ttl == '0' then
    call('PERSIST', ERRORS .. id)
  elseif ttl == '-1' then
    call('DEL', ERRORS .. id)
  else
    call('PEXPIRE', ERRORS .. id, ttl)
  end
end

local function finish_job(id, queue, kind, keep_ms, ttl, result)
  if kind == 'dead' then
    bury(id, queue)
  end
  if ttl == '0' then
    call('SET', RESULT .. id, result)
  elseif ttl ~= '-1' then
    call('SET', RESULT .. id, result, 'PX', ttl)
  end
  local n = #doomed
  doomed[n + 1], doomed[n + 2] = JOB .. id, ATTEMPTS .. id
  if kind == 'end' and keep_ms ~= '0' then
    call('SET', LEASE .. id, '1', 'PX', keep_ms)
  else
    doomed[n + 3] = LEASE .. id
  end
  if has_aborts then
    call('ZREM', ABORTS, id)
  end
  local list = removals[queue]
  if not list then
    list = {}
    removals[queue] = list
  end
  list[#list + 1] = id
  ended[#ended + 1] = id
end

local function put_back(id, queue, kind, delay_ms, lease, attempts)
  local score
  if call('EXISTS', PARENTS .. id) == 1 then
    score = FAR_FUTURE  -- it was leased only to record its abort
  elseif delay_ms == '0' then
    score = tonumber(string.match(lease, '|(%d+)|%d+$'))
    if score >= FAR_FUTURE then
      score = now  -- its parents have ended since it was leased
    end
    due_queues[queue] = true
  else
    score = now + delay_ms
    deferred[queue] = math.min(score, deferred[queue] or score)
  end
  call('ZADD', queue, score, id)
  call('DEL', LEASE .. id)
  call('PERSIST', JOB .. id)
  if attempts ~= '' then
    call('SET', ATTEMPTS .. id, attempts)
  end
  if kind == 'release' and call('DECR', ATTEMPTS .. id) <= 0 then
    call('DEL', ATTEMPTS .. id)
  end
end

for i = 0, count - 1 do
  local at = 2 + i * 8
  local id, queue, token, kind = argv[at], argv[at + 1], argv[at + 2], argv[at + 3]
  local lease = leases[i + 1]
  if lease and string.sub(lease, 1, #token + 1) == token .. '|' then
    verdicts[i + 1] = '1'
    local error = argv[at + 7]
    if error ~= '' then
      note_error(id, error)
    end
    if kind == 'end' or kind == 'dead' then
      finish_job(id, queue, kind, argv[at + 4], argv[at + 5], argv[at + 6])
      if error ~= '' then
        keep_history(id, argv[at + 5])
      end
    else
      put_back(id, queue, kind, argv[at + 4], lease, argv[at + 6])
    end
  else
    verdicts[i + 1] = '0'
  end
end

for queue, list in pairs(removals) do
  call('ZREM', queue, unpack(list))
end
for first = 1, #doomed, 900 do
  call('DEL', unpack(doomed, first, math.min(first + 899, #doomed)))
end
if #ended > 0 then
  local relatives = {}
  for i, id in ipairs(ended) do
    relatives[2 * i - 1], relatives[2 * i] = CHILDREN .. id, PARENTS .. id
  end
  if call('EXISTS', unpack(relatives)) > 0 then
    for _, id in ipairs(ended) do
      leave_parents(id)
      release_children(id, now, due_queues)
    end
  end
  local channels = {}
  for i, id in ipairs(ended) do
    channels[i] = DONE .. id
  end
  local listeners = call('PUBSUB', 'NUMSUB', unpack(channels))
  for i = 1, #listeners, 2 do
    if listeners[i + 1] > 0 then
      call('PUBLISH', listeners[i], '')
    end
  end
end
for queue in pairs(due_queues) do
  wake(queue, now)
end
for queue, due in pairs(deferred) do
  announce_deferred(queue, due, now)
end
return table.concat(verdicts)
