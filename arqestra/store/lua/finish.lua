-- Write what became of 1..n leased jobs. A job whose lease record does not carry the token is left alone: its lease was
-- lost, and whoever holds it decides.
--
-- KEYS  1: queue of the first job (for routing)
-- ARGV  1: time in ms or ''   2: ms to keep a job in the dead set
--       then groups of jobs that have all in common but these two: queue, token, kind, number, result ttl, error,
--       number of jobs, and for each of them id and result
--         kind    'end'      it is complete: write the result, delete the rest    number: ms to keep the id taken, or 0
--                 'fail', 'abort', 'expire'  the same, without success            number: the same
--                 'dead'     as 'fail', and keep its result in the dead set       number: the same
--                 'park'     of a workflow that waits: run it again when it has news, or number ms from now (-1: not)
--                 'again'    of a workflow: forget its history, and run it with the payload in the place of the result,
--                            behind a line: events seen, nonces of signals not taken, steps that still run
--                 'retry'    run it again number ms from now; number 0: at its old place in the queue
--                 'release'  the same, and the attempt does not count
--                 'interrupt'  as 'release', of a job that had begun to run; as 'retry' when that has happened often
--                 'limit'    the same, at its old place, now with the spec that is in the place of the result
--                 'early'    it goes on running; if its worker dies now it is not run again
--                 with a '!' behind it: the job did not start in this attempt, as 'limit' always says
--         result      of 'retry' and 'release': the number of attempts started, if it differs from the one counted;
--                     of 'park': how many events of its log it has seen; of all three, behind a line feed: the payload
--                     that takes the place of the job's
--         result ttl  ms | '0' for ever | '-1' no result is kept
--         error       of the attempt, for the job's history | '+' it may have a history | '' it has none
-- RETURNS  one character for each job: '1' written, '0' another lease is there, '2' there is none
-- EVENTS   publishes the end of each job; wakes a worker for what is due again; settles the children of flows' nodes
--
-- Repeating the call is harmless: what was written has no lease record any more.

-- @include _clock
-- @include _score
-- @include _wake
-- @include _specs
-- @include _set_all
-- @module Limits _limits
-- @module Flow _flow

local argv = ARGV            -- a local is found faster
local now = clock(argv[1])
local verdicts, ended, due_queues, deferred = {}, {}, {}, {}
local removals = {}          -- queue -> ids
local spec_removals = {}     -- queue -> ids
local doomed = {}            -- keys to delete
local extras = {}            -- queue -> whether it has extras
local LETTERS = { ['end'] = 'c', fail = 'f', dead = 'f', abort = 'a', expire = 'x' }
local has_aborts = call('EXISTS', ABORTS) == 1

local ids, results, lease_names = {}, {}, {}
local groups = {}            -- places among the arguments
local at = 3
while argv[at] do
  groups[#groups + 1] = at
  local last = at + 6 + 2 * argv[at + 6]
  for i = at + 7, last, 2 do
    local n = #ids + 1
    ids[n], results[n], lease_names[n] = argv[i], argv[i + 1], LEASE .. argv[i]
  end
  at = last + 1
end
local leases = call('MGET', unpack(lease_names))
local first_queue = argv[3]
local specs = {}             -- of the first queue: id -> packed spec
local without_specs = {}     -- queues of whose jobs here none has a spec

-- Specs are read for all jobs at once: nearly always all are of the first queue. What is read for those of others is not
-- used.
local function read_specs()
  if all_throttled(first_queue) then
    without_specs[first_queue] = true
    return
  end
  for i, packed in ipairs(call('HMGET', SPECS .. first_queue, unpack(ids))) do
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

local kept, kept_ms = {}, '0'  -- results to be written: name, value, name, value, ...; and their TTL

-- Redis refuses a TTL that is out of bounds, and the caller then sends each outcome alone. So this comes before what is
-- written at once of the jobs behind: they must still have their leases.
local function write_results()
  if #kept == 0 then
    return
  elseif kept_ms == '0' then
    call('MSET', unpack(kept))
  else
    set_all(kept, kept_ms)
  end
  kept = {}
end

-- Note the result of a job, or none, and the keys that go.
local function finish_job(id, queue, lease_name, keep_ms, ttl, result)
  if ttl ~= '-1' then
    if ttl ~= kept_ms then
      write_results()
      kept_ms = ttl
    end
    local n = #kept
    kept[n + 1], kept[n + 2] = RESULT .. id, result
  end
  local n = #doomed
  doomed[n + 1], doomed[n + 2] = JOB .. id, ATTEMPTS .. id
  if keep_ms ~= '0' then
    write_results()
    call('SET', lease_name, '1', 'PX', keep_ms)
  else
    doomed[n + 3] = lease_name
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

-- @module Cases _finish_cases

read_specs()
local i = 0
for _, place in ipairs(groups) do
  local queue, token, kind = argv[place], argv[place + 1], argv[place + 2]
  local number, ttl, error = argv[place + 3], argv[place + 4], argv[place + 5]
  local head, is_first = token .. '|', queue == first_queue
  local ends = LETTERS[kind] and kind ~= 'dead' and error == ''
  local has_specs = not without_specs[queue] and has_extras(queue)
  -- One table for all jobs of the group: each in its turn is filled in.
  local ending = { queue = queue, token = token, kind = kind, number = number, ttl = ttl, error = error }
  for _ = 1, argv[place + 6] do
    i = i + 1
    local id, lease, spec = ids[i], leases[i], is_first and specs[ids[i]]
    if not lease or string.find(lease, head, 1, true) ~= 1 then  -- has_token (_lease) without a call: this loop is hot
      verdicts[i] = lease and '0' or '2'
    else
      verdicts[i] = '1'
      if ends and (not has_specs or (is_first and not spec)) then
        finish_job(id, queue, lease_names[i], number, ttl, results[i])
      else
        ending.id, ending.result, ending.lease_name = id, results[i], lease_names[i]
        if ends and is_first and is_node_only(spec) then
          Cases.end_member(ending, spec)
        else
          write_results()
          Cases.settle(ending, lease, has_specs)
        end
      end
    end
  end
end

write_results()
for queue, list in pairs(removals) do
  call('ZREM', QUEUE .. queue, unpack(list))
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
  if call('EXISTS', FLOWS, ENDED_FLOWS) > 0 then  -- each workflow of which something is kept is in one of these
    Cases.end_workflows()
  end
  local channels = {}
  for i, id in ipairs(ended) do
    channels[i] = DONE .. id
  end
  local listeners = call('PUBSUB', 'NUMSUB', unpack(channels))
  for i = 1, #channels do
    if listeners[2 * i] > 0 then
      call('PUBLISH', channels[i], '')
    end
  end
end
if Flow.used and Flow.run_continuations(Flow.INLINE, false, now, due_queues) then
  due_queues[first_queue] = true
end
for queue in pairs(due_queues) do
  wake(queue, now)
end
for queue, due in pairs(deferred) do
  announce_deferred(queue, due, now)
end
return table.concat(verdicts)
