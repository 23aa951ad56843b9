-- Part of claim.lua: the leases of what was taken.

-- A lock that is held until the job starts is free now.
local function unlock_started(id, packed)
  for _, entry in ipairs(cmsgpack.unpack(packed)) do
    if entry[1] == 'u' and entry[3] == 'started' then
      Limits.mark_started(id, entry[2], true)
    end
  end
end

-- A job has ended without our finish: what it had taken is free. Marks queues in `freed`.
local function settle_ended(owner, id, admitted)
  local spec = spec_of(owner, id)
  if spec then
    Limits.give_back(owner, id, spec, now, true, freed)
    if admitted then
      Limits.take_back_start(id, spec, now, token, freed)
    end
  end
end

-- Stock workers end jobs that have a lock and know nothing of specs: a few of these are looked at now and then.
local function sweep_specs(owner)
  for _, id in ipairs(call('HRANDFIELD', SPECS .. owner, SPECS_SWEPT)) do
    if not call('ZSCORE', owner, id) then
      Limits.fetch_from_lane(owner, id)  -- so that whoever waits in a lane has a spec: `all_wait_in_lanes` counts on it
      if call('EXISTS', JOB .. id) == 0 then
        settle_ended(owner, id, false)
      end
      call('HDEL', SPECS .. owner, id)  -- a job of that id and another queue keeps what it has
    end
  end
end

-- The part of the reply for one job: how it is to be run, and under which limits it was admitted.
local function mark_of(i)
  if crash_counts[i] == 0 and flags[i] == '' and not specs[i] then
    return ''
  end
  return crash_counts[i] .. ' ' .. flags[i] .. ' ' .. (specs[i] or '')
end

-- Write the leases; adds the jobs to the reply, and to `runs` how many belong to which queue.
local function lease_taken(jobs, runs, count_attempt)
  local n = #ids
  if n == 0 then
    return
  end
  local job_names, attempt_names = {}, {}
  for i = 1, n do
    job_names[i], attempt_names[i] = JOB .. ids[i], ATTEMPTS .. ids[i]
  end
  local payloads = call('MGET', unpack(job_names))
  local attempts = call('MGET', unpack(attempt_names))
  local lease_end = now + lease_ms
  local lease_head = token .. '|' .. lease_end .. '|'
  local ttl_ms = lease_ms + margin_ms
  local scores, counts = {}, {}
  for i = 1, n do
    local id, payload, attempt, owner = ids[i], payloads[i], tonumber(attempts[i] or 0), owners[i]
    if not payload and call('EXISTS', RESULT .. id) == 1 then
      call('ZREM', owner, id)  -- a ghost: it has ended, only its queue entry stayed
      call('DEL', ATTEMPTS .. id, LEASE .. id)
      call('ZREM', PROMOTE .. owner, id)
      settle_ended(owner, id, specs[i])
    else
      if flags[i] == '' and has_aborts and (tonumber(call('ZSCORE', ABORTS, id) or 0) % 1) > 0 then
        flags[i] = 'abort'  -- a flow was cancelled: whatever this worker allows
      end
      if flags[i] == '' and count_attempt then
        attempt = attempt + 1
        counts[#counts + 1] = ATTEMPTS .. id
        counts[#counts + 1] = attempt
        if specs[i] and not is_place_only(specs[i]) then
          unlock_started(id, specs[i])
        end
      end
      -- %.0f: Lua writes numbers of 15 digits and more with an exponent
      local record = string.format('%s%.0f|%d', lease_head, math.floor(dues[i]), crash_counts[i])
      call('SET', LEASE .. id, record, 'PX', ttl_ms)
      local list = scores[owner]
      if not list then
        list = {}
        scores[owner] = list
      end
      list[#list + 1] = lease_end
      list[#list + 1] = id
      local at = #jobs
      jobs[at + 1], jobs[at + 2], jobs[at + 3] = id, payload, attempt
      jobs[at + 4] = due_of(dues[i])
      jobs[at + 5] = mark_of(i)
      runs[#runs + 1] = owner
    end
  end
  for owner, list in pairs(scores) do
    call('ZADD', owner, unpack(list))
  end
  if #counts > 0 then
    call('MSET', unpack(counts))
  end
end
