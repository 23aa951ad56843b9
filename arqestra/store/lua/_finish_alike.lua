-- The ends of jobs of a plain queue that are all alike: one group, no errors, no lease was lost. Nearly every turn has
-- no other outcomes; `FinishPlain` writes the others of a plain queue. It does no more than an end needs:
--
--   MGET     the leases
--   PSETEX   the results
--   ZREM     the jobs from the queue
--   DEL      their payloads, attempts and leases
--   PUBLISH  the ends
--
-- The outcomes are a group in argv, from `first` to `last` (_finish): so job i has its id at first + 5 + 2 * i.
-- USES  Special, SetAll, JobEnds, Sized

local ENDS_WITHOUT_FAILURE_RECORDS = { ['end'] = true, fail = true, abort = true, expire = true }

-- Whether the outcomes are of that kind, as far as the arguments say.
local function is_one_group(argv, first, last)
  return ENDS_WITHOUT_FAILURE_RECORDS[argv[first + 2]] and argv[first + 3] == '0' and argv[first + 5] == ''
    and first + 6 + 2 * argv[first + 6] == last
end

-- Put the names of the leases into a list, from the start.
local function put_names(c, argv, first, last, names)
  local lease = c.k.LEASE
  for i = 1, (last - first - 6) / 2 do
    names[i] = lease .. argv[first + 5 + 2 * i]
  end
end

-- Whether the first so many values are leases with the token.
local function are_held(token, leases, count)
  local head = token .. '|'
  for i = 1, count do
    local lease = leases[i]
    if not lease or string.find(lease, head, 1, true) ~= 1 then
      return false
    end
  end
  return true
end

-- Write the ends. `names` begins with the names of the leases.
local function write(c, argv, first, last, names)
  local k, queue, ttl = c.k, argv[first], argv[first + 4]
  local job, attempts, result = k.JOB, k.ATTEMPTS, k.RESULT
  local results = { unpack(argv, first + 7, last) }
  local count = #results / 2
  local ended, doomed = Sized.list(count), Sized.list(3 * count)
  for i = 1, count do
    local id = results[2 * i - 1]
    ended[i] = id
    results[2 * i - 1] = result .. id
    doomed[3 * i - 2], doomed[3 * i - 1], doomed[3 * i] = job .. id, attempts .. id, names[i]
  end
  if ttl == '0' then
    call('MSET', unpack(results))
  elseif ttl ~= '-1' then
    SetAll.set_all(results, ttl)
  end
  call('ZREM', k.QUEUE .. queue, unpack(ended))
  call('DEL', unpack(doomed))
  JobEnds.publish(c, ended)
end

-- Write the outcomes if they are of that kind; returns the verdicts. Else nil, and nothing is done.
local function finish(c, argv, first, last)
  if not is_one_group(argv, first, last) or not Special.is_plain(c, argv[first]) then
    return nil
  end
  local count = tonumber(argv[first + 6])
  local names = Sized.list(count)
  put_names(c, argv, first, last, names)
  if not are_held(argv[first + 1], call('MGET', unpack(names)), count) then
    return nil
  end
  write(c, argv, first, last, names)
  return string.rep('1', count)
end

return {
  is_one_group = is_one_group,
  put_names = put_names,
  are_held = are_held,
  write = write,
  finish = finish,
}
