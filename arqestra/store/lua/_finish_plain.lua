-- The ends of jobs of a plain queue: no limits, priorities, flows or aborts; all in one group, none keeps its id.
-- Nearly every turn has no other outcomes. It does no more than an end needs:
--
--   MGET     the leases
--   PSETEX   the results
--   ZREM     the jobs from the queue
--   DEL      their payloads, attempts and leases
--   PUBLISH  the ends
-- USES  Special, SetAll, JobEnds

local ENDS = { ['end'] = true, fail = true, abort = true, expire = true }

-- Whether the outcomes in argv, from first to last, are of that kind.
local function is_plain(c, argv, first, last)
  if not ENDS[argv[first + 2]] or argv[first + 3] ~= '0' or argv[first + 5] ~= '' then
    return false
  end
  local queue, special = argv[first], Special.of_call(c, argv[first])
  return first + 6 + 2 * argv[first + 6] == last
    and not (special.aborts or special.flows or Special.of_queue(c, queue).limits)
end

-- Write them; returns the verdicts.
local function finish(c, argv, first, last)
  local k = c.k
  local queue, head, ttl = argv[first], argv[first + 1] .. '|', argv[first + 4]
  local lease_names = {}
  for i = first + 7, last, 2 do
    lease_names[#lease_names + 1] = k.LEASE .. argv[i]
  end
  local leases = call('MGET', unpack(lease_names))
  local verdicts, ended, results, doomed = {}, {}, {}, {}
  for i = 1, #lease_names do
    local id, lease = argv[first + 5 + 2 * i], leases[i]
    if not lease or string.find(lease, head, 1, true) ~= 1 then
      verdicts[i] = lease and '0' or '2'
    else
      verdicts[i] = '1'
      local n = #ended
      ended[n + 1] = id
      results[2 * n + 1], results[2 * n + 2] = k.RESULT .. id, argv[first + 6 + 2 * i]
      doomed[3 * n + 1], doomed[3 * n + 2], doomed[3 * n + 3] = k.JOB .. id, k.ATTEMPTS .. id, lease_names[i]
    end
  end
  if #ended > 0 then
    if ttl == '0' then
      call('MSET', unpack(results))
    elseif ttl ~= '-1' then
      SetAll.set_all(results, ttl)
    end
    call('ZREM', k.QUEUE .. queue, unpack(ended))
    call('DEL', unpack(doomed))
    JobEnds.publish(c, ended)
  end
  return table.concat(verdicts)
end

return { is_plain = is_plain, finish = finish }
