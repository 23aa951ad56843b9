-- Write the outcomes of 1..n leased jobs. The script leaves a job alone if its lease record does not carry the token: the
-- worker lost the lease, and whoever holds the job now decides. It does not compare the end of the lease: a lease that ran
-- out, and that nobody took, is still good.
--
-- KEYS  1: queue of the first job (for routing)
-- ARGV  1: time in ms or ''   2: ms to keep a job in the dead set
--       then groups of jobs that differ in id and result only: queue, token, kind, number, result ttl, error, number of
--       jobs, then id and result of each
--
--         kind         number           result             does the attempt count?  what happens
--         'end'        keep id for ms   the result or ''   -        complete: its result is written, the rest deleted
--         'fail'       keep id for ms   the result or ''   -        failed for good, and the worker keeps no dead set
--         'dead'       keep id for ms   the result         -        failed for good: also put into the dead set
--         'abort'      keep id for ms   the result or ''   -        aborted: as 'fail'
--         'expire'     keep id for ms   the result or ''   -        expired: as 'fail'
--         'retry'      delay in ms      attempts, payload  yes      due again after the delay; 0: at its old place
--         'release'    delay in ms      attempts, payload  no       due again after the delay; 0: at its old place
--         'interrupt'  delay in ms      attempts, payload  no       as 'release'; after 100 times for a job, as 'retry'
--         'limit'      0                the new spec       no       due again at its old place, with this limit spec
--         'early'      0                ''                 yes      it goes on running; it will not run again
--         'park'       delay in ms      seen, payload      no       a workflow waits: due when it has news, or after the
--                                                                   delay; -1: only when it has news
--         'again'      0                state, payload     anew     a workflow continues as new: its history is forgotten
--
--         A worker says 'dead' if it has a dead set (keep_dead is not 0), else 'fail'. See update_for in
--         worker/run/updates.py.
--         number       "keep id for ms": a job with this id cannot be enqueued for so long; 0: not at all
--         result       attempts: attempts started, or '' if Redis has the right count. seen: events of its log that the
--                      workflow has seen. state: events seen, nonces of signals not taken, steps that still run.
--                      payload: a line feed and the payload that replaces the job's; in 'again' it is always there, in
--                      the others only if it changed
--         kind .. '!'  the job did not start in this attempt: the rate limits do not count it. Always so for 'limit'
--         result ttl   ms | '0' for ever | '-1' keep no result
--         error        this attempt's entry in the job's history | '+' no entry, but there may be a history | '' neither
-- RETURNS  one character for each job: '1' written, '2' there is no lease record, '0' its key holds something else
-- EVENTS   publishes the end of each job; wakes a worker for jobs that are due again; settles the children of flows' nodes
--
-- A call may be repeated after a lost reply. An outcome that the first call wrote has no lease record any more: '2'. Two
-- exceptions: with "keep id for ms" the key holds '1', and the repeat returns '0'. 'early' keeps its lease, so the repeat
-- finds it and writes the same again: '1'. After a repeat, codec.verdicts takes '2' as written (but not for 'early') and
-- '0' as unknown: another worker may have taken a job that the first call put back.
--
-- The parts below are pasted in, and share the locals of this file. Each line says what the part gives.

-- clock
-- @include _clock
-- in_order, priority_of, score_at
-- @include _score
-- wake, announce_deferred
-- @include _wake
-- spec_of, all_throttled, is_node_only, place_in_flow
-- @include _specs
-- set_all
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
local groups = {}            -- where each group starts in argv
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
local without_specs = {}     -- queues whose jobs in this call have no spec

-- Read the specs of all jobs at once from the first queue: nearly always all jobs are in it. For a job of another queue the
-- spec that this finds is not used.
local function read_specs()
  if all_throttled(first_queue) then
    without_specs[first_queue] = true
    return
  end
  for i, packed in ipairs(call('HMGET', SPECS .. first_queue, unpack(ids))) do
    specs[ids[i]] = packed
  end
end

-- Whether a queue has extras: specs, or deferred jobs with a priority. Few queues do.
local function has_extras(queue)
  local known = extras[queue]
  if known == nil then
    known = call('EXISTS', SPECS .. queue, PROMOTE .. queue) > 0
    extras[queue] = known
  end
  return known
end

local kept, kept_ms = {}, '0'  -- results to write: name, value, name, value, ...; and their TTL

-- A TTL out of bounds makes the script fail here, and the caller sends each outcome again alone. So write results before
-- changing later jobs: these need their leases for the second try.
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

-- Collect the end of a job: its result, if it is kept, and the keys to delete.
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

-- Cases.settle (all kinds), Cases.end_member, Cases.end_workflows
-- @module Cases _finish_cases

read_specs()
local i = 0
for _, place in ipairs(groups) do
  local queue, token, kind = argv[place], argv[place + 1], argv[place + 2]
  local number, ttl, error = argv[place + 3], argv[place + 4], argv[place + 5]
  local head, is_first = token .. '|', queue == first_queue
  local ends = LETTERS[kind] and kind ~= 'dead' and error == ''
  local has_specs = not without_specs[queue] and has_extras(queue)
  -- One table for all jobs of the group: the loop fills in each job in turn.
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
  if call('EXISTS', FLOWS, ENDED_FLOWS) > 0 then  -- every stored workflow is in one of these
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
