-- Write what became of 1..n leased jobs. A job whose lease record does not carry the token is left alone: its lease was
-- lost, and whoever holds it decides.
--
-- KEYS  1: queue of the first job (for routing)
-- ARGV  1: time in ms or ''   2: ms to keep a job in the dead set
--       then for each job: id, queue, token, kind, number, result ttl, result, error
--         kind    'end'      it is complete: write the result, delete the rest    number: ms to keep the id taken, or 0
--                 'fail', 'abort', 'expire'  the same, without success            number: the same
--                 'dead'     as 'fail', and keep its result in the dead set       number: the same
--                 'park'     of a workflow that waits: run it again when it has news, or number ms from now (-1: not)
--                 'again'    of a workflow: forget its history, and run it with the payload in the place of the result,
--                            behind a line: events seen, nonces of signals not taken, steps that still run
--                 'retry'    run it again number ms from now; number 0: at its old place in the queue
--                 'release'  the same, and the attempt does not count
--                 'limit'    the same, at its old place, now with the spec that is in the place of the result
--                 'early'    it goes on running; if its worker dies now it is not run again
--                 with a '!' behind it: the job did not start in this attempt, as 'limit' always says
--         result      of 'retry' and 'release': the number of attempts started, if it differs from the one counted;
--                     of 'park': how many events of its log it has seen; of all three, behind a line feed: the payload
--                     that takes the place of the job's
--         result ttl  ms | '0' for ever | '-1' no result is kept
--         error       of the attempt, for the job's history | '+' it may have a history | '' it has none
-- RETURNS  one character for each job: '1' written, '0' the lease was lost
-- EVENTS   publishes the end of each job; wakes a worker for what is due again; settles the children of flows' nodes
--
-- Repeating the call is harmless: what was written has no lease record any more.

-- @include _clock
-- @include _score
-- @include _wake
-- @include _specs
-- @module Limits _limits
-- @module Flow _flow
-- @include _run_end

local DEAD_SET_LIMIT = 10000
local HISTORY_LIMIT = 20
local EARLY = 1000           -- crashes of a job that may run at most once: more than any limit

local argv = ARGV            -- a local is found faster than a global
local now = clock(argv[1])
local keep_dead_ms = tonumber(argv[2])
local count = (#argv - 2) / 8
local verdicts, ended, due_queues, deferred = {}, {}, {}, {}
local removals = {}          -- queue -> ids
local spec_removals = {}     -- queue -> ids
local doomed = {}            -- keys to delete
local extras = {}            -- queue -> whether it has extras
local LETTERS = { ['end'] = 'c', fail = 'f', dead = 'f', abort = 'a', expire = 'x' }
local has_aborts = call('EXISTS', ABORTS) == 1

local lease_names = {}
for i = 0, count - 1 do
  lease_names[#lease_names + 1] = LEASE .. argv[3 + i * 8]
end
local leases = call('MGET', unpack(lease_names))
local specs = {}             -- id -> packed spec, of the queues that have some
local without_specs = {}     -- queues of whose jobs here none has a spec

-- Specs are read for all jobs of the first queue at once: nearly always that is all of them.
local function read_specs()
  local queue, ids = argv[4], {}
  if all_wait_in_lanes(queue) then
    without_specs[queue] = true
    return
  end
  for i = 0, count - 1 do
    if argv[4 + i * 8] == queue then
      ids[#ids + 1] = argv[3 + i * 8]
    end
  end
  for i, packed in ipairs(call('HMGET', SPECS .. queue, unpack(ids))) do
    specs[ids[i]] = packed
  end
end

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

-- A node of a flow ends. Its result is kept as long as the flow; the state says what becomes of it then.
local function finish_node(flow, number, kind, ttl, only_child, is_output)
  local mark = ttl == '-1' and not is_output and '0' or ttl == '0' and '!' or ''
  Flow.end_node(flow, number, LETTERS[kind] .. mark, now, due_queues, only_child)
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
  local line_end = string.find(attempts, '\n', 1, true)
  if line_end then
    call('SET', JOB .. id, string.sub(attempts, line_end + 1))
    attempts = string.sub(attempts, 1, line_end - 1)
  end
  local score = tonumber(string.match(lease, '|(%-?%d+)|%d+$'))
  local priority = priority_of(score)
  if kind == 'again' or (kind == 'park' and call('LLEN', LOG .. id) > tonumber(attempts)) then
    score = in_order(now, priority)  -- it has news already
    due_queues[queue] = true
  elseif kind == 'park' and delay_ms == '-1' then
    score = FAR_FUTURE + priority
  elseif delay_ms == '0' then
    if score >= FAR_FUTURE then
      score = in_order(now, priority)  -- a workflow that was leased only to record its abort
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
  if kind == 'again' then
    call('DEL', ATTEMPTS .. id)
  elseif attempts ~= '' and kind ~= 'park' then
    call('SET', ATTEMPTS .. id, attempts)
  end
  if kind ~= 'retry' and kind ~= 'again' and call('DECR', ATTEMPTS .. id) <= 0 then
    call('DEL', ATTEMPTS .. id)
  end
end

-- The lease stays; its record now says that the job must not run again.
local function acknowledge_early(id, lease)
  local head, crashes = string.match(lease, '^(.*|)(%d+)$')
  call('SET', LEASE .. id, head .. math.max(tonumber(crashes), EARLY), 'KEEPTTL')
end

-- A workflow starts anew: what it had begun is aborted, its history is forgotten, but for events that nobody took. Its
-- steps' numbers go on from there.
local function begin_anew(id, value)
  local head, payload = string.match(value, '^([^\n]*)\n(.*)$')
  local seen, unread, running = string.match(head, '^(%d+) (%S*) (%S*)$')
  for number in string.gmatch(running, '%d+') do
    local node = Flow.node_of(id, tonumber(number))
    if node and Flow.state_of(id, tonumber(number)) == 'q' then
      Flow.abort_node(id, tonumber(number), node, now, due_queues)
    end
  end
  local kept = {}
  for i, event in ipairs(call('LRANGE', LOG .. id, 0, -1)) do
    local nonce = string.match(event, '^g %d+ %d+ (%S+)')
    if nonce and (i > tonumber(seen) or string.find(unread, nonce, 1, true)) then
      kept[#kept + 1] = event
    end
  end
  local base, nodes = unpack(call('HMGET', FLOW .. id, 'base', 'nodes'))
  call('UNLINK', NODES .. id, STATES .. id, LOG .. id)
  for first = 1, #kept, 1000 do
    call('RPUSH', LOG .. id, unpack(kept, first, math.min(first + 999, #kept)))
  end
  Flow.forget_view(id)
  Flow.add_chore('d', tonumber(base or 0) + 1, tonumber(nodes or 0), id)
  call('HSET', FLOW .. id, 'base', nodes or 0)
  call('HDEL', FLOW .. id, 'started', 'cancelled', 'timed_out')
  call('HINCRBY', FLOW .. id, 'rounds', 1)
  call('SET', JOB .. id, payload)
end

-- What the job had taken of its limits is given back; a new spec takes the place of the old one.
local function settle_spec(id, queue, token, kind, unstarted, new_spec)
  local spec
  if has_extras(queue) then
    local packed = specs[id]
    if packed == nil then
      spec = spec_of(queue, id)  -- of another queue than the first
    elseif packed then
      spec = cmsgpack.unpack(packed)
    end
  end
  if spec and LETTERS[kind] and #spec == 1 and (spec[1][1] == 'n' or spec[1][1] == 's') then
    local list = spec_removals[queue] or {}
    spec_removals[queue] = list
    list[#list + 1] = id
  elseif spec then
    Limits.give_back(queue, id, spec, now, LETTERS[kind] ~= nil, due_queues)
  end
  if spec and unstarted then
    Limits.take_back_start(id, spec, now, token, due_queues)
  end
  if kind == 'limit' and new_spec ~= '' then
    call('HSET', SPECS .. queue, id, new_spec)
  elseif kind == 'limit' then
    call('HDEL', SPECS .. queue, id)
  end
  return spec
end

read_specs()
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
    if (kind == 'retry' or kind == 'release' or kind == 'limit') and has_extras(queue) then
      local packed = call('HGET', SPECS .. queue, id)
      if packed and Flow.is_cancelled(packed) then
        kind = 'abort'
        argv[at + 4], argv[at + 5], argv[at + 6] = '0', '-1', ''
      end
    end
    if error ~= '' then
      note_error(id, error)
    end
    local flow, number, only_child, is_output
    if kind ~= 'early' and (kind == 'limit' or (not without_specs[queue] and has_extras(queue))) then
      local spec = settle_spec(id, queue, token, kind, unstarted or kind == 'limit', argv[at + 6])
      if spec and LETTERS[kind] then
        note_run_end(spec, id, LETTERS[kind], now)
        flow, number, only_child, is_output = place_in_flow(spec)
      end
    end
    if kind == 'early' then
      acknowledge_early(id, lease)
    elseif LETTERS[kind] then
      local ttl = argv[at + 5]
      local view = flow and Flow.view_of(flow)
      if view and view.state == 'running' then
        finish_job(id, queue, kind, argv[at + 4], argv[at + 6] == '' and '-1' or '0', argv[at + 6])
        finish_node(flow, number, kind, ttl, only_child, is_output)
      else
        if view then  -- the workflow has ended without it: its result is kept as any job's
          Flow.set_state(flow, number, LETTERS[kind])
        end
        finish_job(id, queue, kind, argv[at + 4], ttl, argv[at + 6])
        if error ~= '' then
          keep_history(id, ttl)
        end
      end
    elseif kind == 'again' then
      begin_anew(id, argv[at + 6])
      put_back(id, queue, kind, '0', lease, '')
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
for queue, list in pairs(spec_removals) do
  call('HDEL', SPECS .. queue, unpack(list))
end
for first = 1, #doomed, 900 do
  call('DEL', unpack(doomed, first, math.min(first + 899, #doomed)))
end
if #ended > 0 then
  local flows = {}
  for i, id in ipairs(ended) do
    flows[i] = FLOW .. id
  end
  if call('EXISTS', unpack(flows)) > 0 then  -- workflows
    for _, id in ipairs(ended) do
      if Flow.exists(id) and call('HGET', FLOW .. id, 'kind') == 'w' then
        Flow.end_flow(id, now, due_queues)
      end
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
if Flow.used and Flow.do_chores(Flow.INLINE, false, now, due_queues) then
  due_queues[argv[4]] = true
end
for queue in pairs(due_queues) do
  wake(queue, now)
end
for queue, due in pairs(deferred) do
  announce_deferred(queue, due, now)
end
return table.concat(verdicts)
