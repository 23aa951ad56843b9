-- The ends of jobs, collected and written together: one command for all results, one for all keys that go.
--
-- In `f`: kept, kept_ms (results to write: name, value, ...; and their TTL), doomed (keys to delete), removals (queue
-- -> ids that leave it), spec_removals (queue -> ids that leave SPECS), ended (ids).
-- USES  Special, SetAll

-- A TTL out of bounds makes the call fail here, and the caller sends each outcome again alone. So write results before
-- changing later jobs: these need their leases for the second try.
local function write_results(f)
  if #f.kept == 0 then
    return
  elseif f.kept_ms == '0' then
    call('MSET', unpack(f.kept))
  else
    SetAll.set_all(f.kept, f.kept_ms)
  end
  f.kept = {}
end

-- Collect the end of a job: its result, if it is kept, and the keys to delete.
local function add(c, f, id, queue, lease_name, keep_ms, ttl, result)
  local k = c.k
  if ttl ~= '-1' then
    if ttl ~= f.kept_ms then
      write_results(f)
      f.kept_ms = ttl
    end
    local kept = f.kept
    local n = #kept
    kept[n + 1], kept[n + 2] = k.RESULT .. id, result
  end
  local doomed = f.doomed
  local n = #doomed
  doomed[n + 1], doomed[n + 2] = k.JOB .. id, k.ATTEMPTS .. id
  if keep_ms ~= '0' then
    write_results(f)
    call('SET', lease_name, '1', 'PX', keep_ms)
  else
    doomed[n + 3] = lease_name
  end
  if f.has_aborts then
    call('ZREM', k.ABORTS, id)
  end
  local list = f.removals[queue]
  if not list then
    list = {}
    f.removals[queue] = list
  end
  list[#list + 1] = id
  f.ended[#f.ended + 1] = id
end

-- Write what was collected.
local function write(c, f)
  local k = c.k
  write_results(f)
  for queue, list in pairs(f.removals) do
    call('ZREM', k.QUEUE .. queue, unpack(list))
    if Special.of_queue(c, queue).limits then
      call('ZREM', k.PROMOTE .. queue, unpack(list))
    end
  end
  for queue, list in pairs(f.spec_removals) do
    call('HDEL', k.SPECS .. queue, unpack(list))
  end
  local doomed = f.doomed
  for first = 1, #doomed, 900 do
    call('DEL', unpack(doomed, first, math.min(first + 899, #doomed)))
  end
end

-- Tell who waits for the jobs.
local function publish(c, ended)
  local done = c.k.DONE
  if #ended == 1 then
    call('PUBLISH', done .. ended[1], '')
    return
  end
  local channels = {}
  for i, id in ipairs(ended) do
    channels[i] = done .. id
  end
  local listeners = call('PUBSUB', 'NUMSUB', unpack(channels))
  for i = 1, #channels do
    if listeners[2 * i] > 0 then
      call('PUBLISH', channels[i], '')
    end
  end
end

return { add = add, write_results = write_results, write = write, publish = publish }
