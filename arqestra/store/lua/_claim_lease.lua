-- Part of claim.lua: the leases of the jobs that were taken. Needs _claim_take, `Cases`.

-- A text that is no count is 0: arithmetic on it would end every claim of the queue with an error.
local function count_of(text)
  return #text <= 10 and string.find(text, '^%d+$') and tonumber(text) or 0
end

-- Write the leases; add the jobs to the reply, and the queue of each job to `runs`.
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
  -- As texts, because they are written often: Lua would format a number each time.
  local lease_end, ttl = string.format('%.0f', now + lease_ms), string.format('%.0f', lease_ms + margin_ms)
  local head = token .. '|' .. lease_end .. '|'
  local ordinary = count_attempt and not has_aborts
  local records, scores, counts, at = {}, {}, {}, #jobs
  for i = 1, n do
    local id, payload, attempt, owner = ids[i], payloads[i], attempts[i] and count_of(attempts[i]) or 0, owners[i]
    local place = places[i]
    local case = special[i] or (place and not (ordinary and payload) and { 0, '', place })
    if not payload and call('EXISTS', RESULT .. id) == 1 then
      Cases.remove_ghost(owner, id, case)
    else
      local starts, crashes, reply_case = true, '0', ''
      if case or not ordinary then
        starts, crashes, reply_case = Cases.start(id, case, count_attempt)
      elseif place then
        reply_case = '0  ' .. place
      end
      if starts then
        attempt = attempt + 1
        local k = #counts
        counts[k + 1], counts[k + 2] = attempt_names[i], attempt == 1 and '1' or attempt
      end
      -- %.0f: Lua writes numbers of 15 digits and more with an exponent
      local due = due_texts[i] or string.format('%.0f', math.floor(dues[i]))
      local r = #records
      records[r + 1], records[r + 2] = lease_names[i] or LEASE .. id, head .. due .. '|' .. crashes
      local list = scores[owner]
      if not list then
        list = {}
        scores[owner] = list
      end
      local k = #list
      list[k + 1], list[k + 2] = lease_end, id
      jobs[at + 1], jobs[at + 2], jobs[at + 3], jobs[at + 4], jobs[at + 5] = id, payload, attempt, due_of(dues[i]), reply_case
      at = at + 5
      runs[#runs + 1] = owner
    end
  end
  set_all(records, ttl)
  for owner, list in pairs(scores) do
    call('ZADD', QUEUE .. owner, unpack(list))
  end
  if #counts > 0 then
    call('MSET', unpack(counts))
  end
end
