-- The leases of the jobs that a claim has taken, and their part of its reply. `t` is explained in _claim.
-- USES  Score, SetAll, ClaimCases

-- Write the leases; add the jobs to the reply, and the queue of each job to `runs`.
local function lease_taken(c, t, jobs, runs, count_attempt)
  local n = #t.ids
  if n == 0 then
    return
  end
  local k = c.k
  local job_names, attempt_names = {}, {}
  for i = 1, n do
    job_names[i], attempt_names[i] = k.JOB .. t.ids[i], k.ATTEMPTS .. t.ids[i]
  end
  local payloads = call('MGET', unpack(job_names))
  local attempts = call('MGET', unpack(attempt_names))
  -- As texts, because they are written often: Lua would format a number each time.
  local lease_end, ttl = string.format('%.0f', c.now + t.lease_ms), string.format('%.0f', t.lease_ms + t.margin_ms)
  local head = t.token .. '|' .. lease_end .. '|'
  local ordinary = count_attempt and not t.has_aborts
  local records, scores, counts, at = {}, {}, {}, #jobs
  for i = 1, n do
    local id, payload, owner = t.ids[i], payloads[i], t.owners[i]
    local attempt = attempts[i] and Score.count_of(attempts[i]) or 0
    local position = t.positions[i]
    local case = t.special[i] or (position and not (ordinary and payload) and { 0, '', position })
    if not payload and call('EXISTS', k.RESULT .. id) == 1 then
      ClaimCases.remove_ghost(c, t, owner, id, case)
    else
      local starts, crashes, reply_case = true, '0', ''
      if case or not ordinary then
        starts, crashes, reply_case = ClaimCases.start(c, t, id, case, count_attempt)
      elseif position then
        reply_case = '0  ' .. position
      end
      if starts then
        attempt = attempt + 1
        local m = #counts
        counts[m + 1], counts[m + 2] = attempt_names[i], attempt == 1 and '1' or attempt
      end
      -- %.0f: Lua writes numbers of 15 digits and more with an exponent
      local due = t.due_texts[i] or string.format('%.0f', math.floor(t.dues[i]))
      local r = #records
      records[r + 1], records[r + 2] = t.lease_names[i] or k.LEASE .. id, head .. due .. '|' .. crashes
      local list = scores[owner]
      if not list then
        list = {}
        scores[owner] = list
      end
      local m = #list
      list[m + 1], list[m + 2] = lease_end, id
      jobs[at + 1], jobs[at + 2], jobs[at + 3] = id, payload, attempt
      jobs[at + 4], jobs[at + 5] = Score.due_of(t.dues[i]), reply_case
      at = at + 5
      runs[#runs + 1] = owner
    end
  end
  SetAll.set_all(records, ttl)
  for owner, list in pairs(scores) do
    call('ZADD', k.QUEUE .. owner, unpack(list))
  end
  if #counts > 0 then
    call('MSET', unpack(counts))
  end
end

return { lease_taken = lease_taken }
