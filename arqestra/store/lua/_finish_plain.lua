-- The ends of jobs of a plain queue: no limits, priorities, flows or aborts; none keeps its id. Nearly every turn has
-- no other outcomes. It does no more than an end needs:
--
--   MGET     the leases
--   PSETEX   the results
--   ZREM     the jobs from the queue
--   DEL      their payloads, attempts and leases
--   PUBLISH  the ends
--
-- Of jobs that failed it also writes the entries of their histories, and the dead set.
-- USES  Special, SetAll, JobEnds, Failures

local ENDS = { ['end'] = true, fail = true, dead = true, abort = true, expire = true }

-- Id and result of a job, or id, result and entry.
local function step_of(argv, at)
  return argv[at + 5] == '=' and 3 or 2
end

local function next_group(argv, at)
  return at + 7 + step_of(argv, at) * argv[at + 6]
end

-- Whether the outcomes in argv, from first to last, are of that kind.
local function is_plain(c, argv, first, last)
  local queue, at = argv[first], first
  while at <= last do
    if argv[at] ~= queue or not ENDS[argv[at + 2]] or argv[at + 3] ~= '0' then
      return false
    end
    at = next_group(argv, at)
  end
  local special = Special.of_call(c, queue)
  return not (special.aborts or special.flows or Special.of_queue(c, queue).limits)
end

local function read_leases(c, f, argv, first, last)
  local names, lease, at = f.lease_names, c.k.LEASE, first
  while at <= last do
    local next_at = next_group(argv, at)
    for i = at + 7, next_at - 1, step_of(argv, at) do
      names[#names + 1] = lease .. argv[i]
    end
    at = next_at
  end
  return call('MGET', unpack(names))
end

local function write_results(results, ttl)
  if #results == 0 or ttl == '-1' then
    return
  elseif ttl == '0' then
    call('MSET', unpack(results))
  else
    SetAll.set_all(results, ttl)
  end
end

-- Write the results of one group, and collect what else is to be written.
local function end_group(c, f, argv, at)
  local k = c.k
  local queue, head, kind, ttl, error = argv[at], argv[at + 1] .. '|', argv[at + 2], argv[at + 4], argv[at + 5]
  local step = step_of(argv, at)
  local verdicts, ended, doomed, results = f.verdicts, f.ended, f.doomed, {}
  for i = at + 7, next_group(argv, at) - 1, step do
    local id, result = argv[i], argv[i + 1]
    local number = #verdicts + 1
    local lease = f.leases[number]
    if not lease or string.find(lease, head, 1, true) ~= 1 then
      verdicts[number] = lease and '0' or '2'
    else
      verdicts[number] = '1'
      local n, m, r = #ended, #doomed, #results
      ended[n + 1] = id
      results[r + 1], results[r + 2] = k.RESULT .. id, result
      doomed[m + 1], doomed[m + 2], doomed[m + 3] = k.JOB .. id, k.ATTEMPTS .. id, f.lease_names[number]
      if error ~= '' then
        f.histories[#f.histories + 1] = { id = id, ttl = ttl, entry = step == 3 and argv[i + 2] or '' }
      end
      if kind == 'dead' then
        Failures.bury(c, f.dead, id, queue, result)
      end
    end
  end
  write_results(results, ttl)
end

-- Write them; returns the verdicts.
local function finish(c, argv, first, last, keep_dead_ms)
  local f = { lease_names = {}, verdicts = {}, ended = {}, doomed = {}, histories = {}, dead = {} }
  f.leases = read_leases(c, f, argv, first, last)
  local at = first
  while at <= last do
    end_group(c, f, argv, at)
    at = next_group(argv, at)
  end
  if #f.ended > 0 then
    for _, history in ipairs(f.histories) do
      Failures.note(c, history.id, history.entry)
      Failures.keep_history(c, history.id, history.ttl)
    end
    call('ZREM', c.k.QUEUE .. argv[first], unpack(f.ended))
    call('DEL', unpack(f.doomed))
    Failures.write_dead(c, f.dead, keep_dead_ms)
    JobEnds.publish(c, f.ended)
  end
  return table.concat(f.verdicts)
end

return { is_plain = is_plain, finish = finish }
