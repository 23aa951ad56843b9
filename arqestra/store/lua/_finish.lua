-- Writing the outcomes of leased jobs, a part of a turn (docs/protocols.md, "Leases and fencing"). It leaves a job
-- alone if its lease record does not carry the token: the worker lost the lease, and whoever holds the job now decides.
-- It does not compare the end of the lease: a lease that ran out, and that nobody took, is still good.
--
-- Read _finish_alike and _finish_plain first: nearly every call ends in one of them. The code below is for the others:
-- jobs that go back to their queue, limits, flows, aborts, ids that stay taken. The arguments are explained here for
-- all of them.
--
-- ARGV  groups of jobs that differ in id, data and entry only. A group: queue, token, kind, ms, result ttl, error, how
--       many jobs, then id and data of each; with the error '=' id, data and entry of each. For example, two results
--       that are kept for an hour, and a failed attempt that runs again after 5 s:
--
--         arq:queue  w1.7  end    0     3600000  ''  2  id  result  id  result
--         arq:queue  w1.7  retry  5000  -1       =   1  id  ''  entry
--
--         kind         ms           data                     does the attempt count?  what happens
--         'end'        keep the id  the result or ''         -        complete: its result is written, the rest deleted
--         'fail'       keep the id  the result or ''         -        failed for good, and the worker has no dead set
--         'dead'       keep the id  the result               -        failed for good: also put into the dead set
--         'abort'      keep the id  the result or ''         -        aborted: as 'fail'
--         'expire'     keep the id  the result or ''         -        expired: as 'fail'
--         'retry'      delay        attempts [LF payload]    yes      due again after the delay; 0: at its old place
--         'release'    delay        attempts [LF payload]    no       due again after the delay; 0: at its old place
--         'interrupt'  delay        attempts [LF payload]    no       as 'release'; after 100 times as 'retry'
--         'limit'      0            the new spec             no       due again at its old place, with this limit spec
--         'early'      0            ''                       yes      it goes on running; it will not run again
--         'park'       delay        seen [LF payload]        no       a workflow waits: due when it has news, or after
--                                                                     the delay; -1: only when it has news
--         'again'      0            state LF payload         anew     a workflow continues as new, without its history
--
--         A worker says 'dead' if it has a dead set (keep_dead is not 0), else 'fail'. See update_for in
--         worker/run/updates.py.
--         ms           "keep the id": a job with this id cannot be enqueued for so long; 0: not at all
--         data         one text. attempts: attempts started, or '' if Redis has the right count. seen: how many events
--                      of its log the workflow has seen. state: events seen, nonces of signals not taken, steps that
--                      still run. LF payload: a line feed and the payload that replaces the job's; in [] if it changed
--         kind .. '!'  the job did not start in this attempt: the rate limits do not count it. Always so for 'limit'
--         result ttl   ms | '0' for ever | '-1' keep no result
--         error        '=' this attempt has an entry in the job's history | '+' none, but there may be a history | ''
--                      neither
-- RETURNS  one character for each job: '1' written, '2' there is no lease record, '0' its key holds something else
-- EVENTS   publishes the end of each job; wakes a worker for jobs that are due again; goes on with the flows whose
--          nodes ended
--
-- REPEAT   a second call finds no lease record of a job whose end or return the first one wrote, and answers '2'. Two
--          kinds of outcomes leave a record: an end that keeps the id leaves '1' there, so the second call answers
--          '0'; 'early' leaves the lease, so the second call writes the same once more and answers '1'. Python
--          (codec.verdicts) therefore takes '2' of a call that was sent again as written (but not for 'early'), and '0'
--          as unknown: the first call may have put the job back, and another worker has taken it since.
--
-- What it works on, beside `c` (_call), is `f`: the arguments in lists by job (ids, results, entries, lease_names,
-- leases), and what is written at the end for all jobs together (JobEnds).
-- USES  Special, Specs, Wake, Flow, JobEnds, Failures, FinishAlike, FinishPlain, FinishCases

-- Kinds of ends that write nothing into the dead set, nor into the job's history if there is no error.
local ENDS_WITHOUT_FAILURE_RECORDS = { ['end'] = true, fail = true, abort = true, expire = true }

-- The ids, results, entries and names of leases of all jobs, and where each group starts in argv.
local function parse(c, f, argv, first, last)
  local ids, results, entries, lease_names, lease = f.ids, f.results, f.entries, f.lease_names, c.k.LEASE
  local at, n = first, 0
  while at <= last do
    f.groups[#f.groups + 1] = at
    local step = argv[at + 5] == '=' and 3 or 2
    local group_end = at + 6 + step * argv[at + 6]
    for i = at + 7, group_end, step do
      n = n + 1
      ids[n], results[n], lease_names[n] = argv[i], argv[i + 1], lease .. argv[i]
      entries[n] = step == 3 and argv[i + 2]
    end
    at = group_end + 1
  end
end

-- Read the specs of all jobs at once from the first queue: nearly always all jobs are in it. For a job of another queue
-- the spec that this finds is not used.
local function read_specs(c, f)
  local queue = f.first_queue
  if not Special.of_queue(c, queue).limits or Specs.all_throttled(c, queue) then
    f.without_specs[queue] = true
    return
  end
  for i, packed in ipairs(call('HMGET', c.k.SPECS .. queue, unpack(f.ids))) do
    f.specs[f.ids[i]] = packed
  end
end

-- The outcomes of one group.
local function finish_group(c, f, argv, at, i)
  local queue, token, kind = argv[at], argv[at + 1], argv[at + 2]
  local ms, ttl, error = argv[at + 3], argv[at + 4], argv[at + 5]
  local head, is_first = token .. '|', queue == f.first_queue
  local ends = ENDS_WITHOUT_FAILURE_RECORDS[kind] and error == ''
  local has_specs = not f.without_specs[queue] and Special.of_queue(c, queue).limits
  -- One table for all jobs of the group: the loop fills in each job in turn.
  local ending = { queue = queue, token = token, kind = kind, ms = ms, ttl = ttl, error = error }
  for _ = 1, argv[at + 6] do
    i = i + 1
    local id, lease = f.ids[i], f.leases[i]
    local spec = is_first and f.specs[id]
    if not lease or string.find(lease, head, 1, true) ~= 1 then  -- has_token (_lease), without a call for each job
      f.verdicts[i] = lease and '0' or '2'
    else
      f.verdicts[i] = '1'
      if ends and (not has_specs or (is_first and not spec)) then
        JobEnds.add(c, f, id, queue, f.lease_names[i], ms, ttl, f.results[i])
      else
        ending.id, ending.result, ending.lease_name = id, f.results[i], f.lease_names[i]
        ending.error = f.entries[i] or error
        if ends and is_first and Specs.is_node_only(spec) then
          FinishCases.end_node(c, f, ending, spec)
        else
          JobEnds.write_results(f)
          FinishCases.write_outcome(c, f, ending, lease, has_specs)
        end
      end
    end
  end
  return i
end

local function finish(c, argv, first, last, keep_dead_ms)
  local verdicts = FinishAlike.finish(c, argv, first, last)
  if verdicts then
    return verdicts
  end
  if FinishPlain.is_plain(c, argv, first, last) then
    return FinishPlain.finish(c, argv, first, last, keep_dead_ms)
  end
  local f = {
    ids = {}, results = {}, entries = {}, lease_names = {}, leases = {}, groups = {},
    verdicts = {}, ended = {}, doomed = {},
    deferred = {},                             -- queue -> when a job is due again that is deferred
    removals = {}, spec_removals = {},         -- queue -> ids
    specs = {},                                -- of the first queue: id -> packed spec
    without_specs = {},                        -- queues whose jobs here have none
    dead = {},                                 -- queue -> what goes into its dead set
    kept = {}, kept_ms = '0',                  -- results to write: name, value, name, value, ...; and their TTL
    keep_dead_ms = keep_dead_ms, first_queue = argv[first], is_special = false,
    has_aborts = Special.of_call(c, argv[first]).aborts,
  }
  parse(c, f, argv, first, last)
  f.leases = call('MGET', unpack(f.lease_names))
  read_specs(c, f)
  local i = 0
  for _, at in ipairs(f.groups) do
    i = finish_group(c, f, argv, at, i)
  end
  JobEnds.write(c, f)
  Failures.write_dead(c, f.dead, keep_dead_ms)
  if #f.ended > 0 then
    if Special.of_call(c, f.first_queue).flows then  -- every stored workflow is in one of its keys
      FinishCases.end_workflows(c, f)
    end
    JobEnds.publish(c, f.ended)
  end
  if c.flows and Flow.run_continuations(c, Flow.INLINE, false) then
    c.due_queues[f.first_queue] = true
  end
  if c.flows or f.is_special then
    c.flows = nil
    Special.forget(c)
  end
  if next(c.due_queues) then
    Wake.wake_all(c)
    c.due_queues = {}
  end
  for queue, due in pairs(f.deferred) do
    Wake.announce_deferred(c, queue, due)
  end
  return table.concat(f.verdicts)
end

return { finish = finish }
