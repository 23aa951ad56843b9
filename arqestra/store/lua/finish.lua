-- Write what became of 1..n leased jobs. A job whose lease record does not carry the token is left alone: its lease was
-- lost, and whoever holds it decides.
--
-- KEYS  1: queue of the first job (for routing)
-- ARGV  1: time in ms or ''   2: ms to keep a job in the dead set
--       then for each job: id, queue, token, kind, number, result ttl, result, error
--         kind    'end'      it has ended: write the result, delete the rest      number: ms to keep the id taken, or 0
--                 'dead'     the same, and keep its result in the dead set       number: the same
--                 'retry'    run it again number ms from now; number 0: at its old place in the queue
--                 'release'  the same, and the attempt does not count
--                 'limit'    the same, at its old place, now with the spec that is in the place of the result
--                 'early'    it goes on running; if its worker dies now it is not run again
--                 with a '!' behind it: the job did not start in this attempt, as 'limit' always says
--         result      of 'retry' and 'release': the number of attempts started, if it differs from the one counted
--         result ttl  ms | '0' for ever | '-1' no result is kept
--         error       of the attempt, for the job's history | '+' it may have a history | '' it has none
-- RETURNS  one character for each job: '1' written, '0' the lease was lost
-- EVENTS   publishes the end of each job; wakes a worker for what is due again; releases children whose last parent ended
--
-- Repeating the call is harmless: what was written has no lease record any more.

-- @include _clock
-- @include _score
-- @include _wake
-- @include _limits
-- @include _children

local DEAD_SET_LIMIT = 10000
local HISTORY_LIMIT = 20
local EARLY = 1000           -- crashes of a job that may run at most once: more than any limit

local argv = ARGV            -- a local is found faster than a global
local now = clock(argv[1])
local keep_dead_ms = tonumber(argv[2])
local count = (#argv - 2) / 8
local verdicts, ended, due_queues, deferred = {}, {}, {}, {}
local removals = {}          -- queue -> ids
local doomed = {}            -- keys to delete
local extras = {}            -- queue -> whether it has extras
local has_aborts = call('EXISTS', ABORTS) == 1

local lease_names = {}
for i = 0, count - 1 do
  lease_names[#lease_names + 1] = LEASE .. argv[3 + i * 8]
end
local leases = call('MGET', unpack(lease_names))

-- Whether a queue has what only some jobs need: specs, or deferred jobs with a priority.
local function has_extras(queue)
  local known = extras[queue]
  if known == nil then
    known = call('EXISTS', SPECS .. queue, PROMOTE .. queue) > 0
    extras[queue] = known
  end
  return known
end

local function bury(id, queue, result)
  call('ZADD', DEAD .. queue, now, id)
  call('HSET', DEAD_RESULTS .. queue, id, result)
  local gone = call('ZRANGEBYSCORE', DEAD .. queue, '-inf', now - keep_dead_ms, 'LIMIT', 0, 100)
  local surplus = math.min(100, call('ZCARD', DEAD .. queue) - #gone - DEAD_SET_LIMIT)
  if surplus > 0 then
    gone = call('ZRANGE', DEAD .. queue, 0, #gone + surplus - 1)
  end
  if #gone > 0 then
    call('ZREM', DEAD .. queue, unpack(gone))
    call('HDEL', DEAD_RESULTS .. queue, unpack(gone))
  end
  call('PEXPIRE', DEAD .. queue, keep_dead_ms)
  call('PEXPIRE', DEAD_RESULTS .. queue, keep_dead_ms)
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
    bury(id, queue, result)
  end
  if ttl == '0' then
    call('SET', RESULT .. id, result)
  elseif ttl ~= '-1' then
    call('SET', RESULT .. id, result, 'PX', ttl)
  end
  local n = #doomed
  doomed[n + 1], doomed[n + 2] = JOB .. id, ATTEMPTS .. id
  if keep_ms ~= '0' then
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
  local score = tonumber(string.match(lease, '|(%-?%d+)|%d+$'))
  local priority = priority_of(score)
  if call('EXISTS', PARENTS .. id) == 1 then
    score = FAR_FUTURE + priority  -- it was leased only to record its abort
  elseif delay_ms == '0' then
    if score >= FAR_FUTURE then
      score = in_order(now, priority)  -- its parents have ended since it was leased
    end
    due_queues[queue] = true
  else
    local due = now + delay_ms
    score = score_at(queue, id, due, priority, now)
    deferred[queue] = math.min(due, deferred[queue] or due)
  end
  call('ZADD', queue, score, id)
  call('DEL', LEASE .. id)
  call('PERSIST', JOB .. id)
  if attempts ~= '' then
    call('SET', ATTEMPTS .. id, attempts)
  end
  if kind ~= 'retry' and call('DECR', ATTEMPTS .. id) <= 0 then
    call('DEL', ATTEMPTS .. id)
  end
end

-- The lease stays; its record now says that the job must not run again.
local function acknowledge_early(id, lease)
  local head, crashes = string.match(lease, '^(.*|)(%d+)$')
  call('SET', LEASE .. id, head .. math.max(tonumber(crashes), EARLY), 'KEEPTTL')
end

-- What the job had taken of its limits is given back; a new spec takes the place of the old one.
local function settle_spec(id, queue, token, kind, unstarted, new_spec)
  local spec = has_extras(queue) and spec_of(queue, id)
  if spec then
    give_back(queue, id, spec, now, kind == 'end' or kind == 'dead', due_queues)
  end
  if spec and unstarted then
    take_back_start(id, spec, now, token, due_queues)
  end
  if kind == 'limit' and new_spec ~= '' then
    call('HSET', SPECS .. queue, id, new_spec)
  elseif kind == 'limit' then
    call('HDEL', SPECS .. queue, id)
  end
end

for i = 0, count - 1 do
  local at = 3 + i * 8
  local id, queue, token, kind = argv[at], argv[at + 1], argv[at + 2], argv[at + 3]
  local unstarted = string.sub(kind, -1) == '!'
  if unstarted then
    kind = string.sub(kind, 1, -2)
  end
  local lease = leases[i + 1]
  if lease and string.sub(lease, 1, #token + 1) == token .. '|' then
    verdicts[i + 1] = '1'
    local error = argv[at + 7]
    if error ~= '' then
      note_error(id, error)
    end
    if kind ~= 'early' and (kind == 'limit' or has_extras(queue)) then
      settle_spec(id, queue, token, kind, unstarted or kind == 'limit', argv[at + 6])
    end
    if kind == 'early' then
      acknowledge_early(id, lease)
    elseif kind == 'end' or kind == 'dead' then
      finish_job(id, queue, kind, argv[at + 4], argv[at + 5], argv[at + 6])
      if error ~= '' then
        keep_history(id, argv[at + 5])
      end
    else
      put_back(id, queue, kind, argv[at + 4], lease, kind == 'limit' and '' or argv[at + 6])
    end
  else
    verdicts[i + 1] = '0'
  end
end

for queue, list in pairs(removals) do
  call('ZREM', queue, unpack(list))
  if extras[queue] then
    call('ZREM', PROMOTE .. queue, unpack(list))
  end
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
