-- The claim of a plain queue: no limits, priorities, flows or aborts, and none of its due jobs has ever been leased.
-- Nearly every claim is one. It does no more than a lease needs:
--
--   ZRANGE   the first jobs
--   MGET     what is known of them
--   PSETEX   the leases
--   ZADD     the ends of the leases as scores
--   MSET     the attempts
--
-- Jobs are in a list of ids and scores, as ZRANGE gives them: `due`.
-- USES  Score, SetAll, Sized

local MOST = 300  -- jobs: three keys of each go into one MGET

-- The first jobs of a queue, up to `want`, and how many of them are due. By their place in the queue, because that
-- costs half of a search by score; those that are not due come last.
local function first_due(c, queue, want)
  local due = call('ZRANGE', c.k.QUEUE .. queue, 0, want - 1, 'WITHSCORES')
  local n = #due / 2
  while n > 0 and tonumber(due[2 * n]) > c.now do
    n = n - 1
  end
  return due, n
end

-- Put the names of what may be known of n jobs into a list, behind `at`: leases, payloads, attempts.
local function put_names(c, due, n, names, at)
  local k = c.k
  local job, lease, attempts = k.JOB, k.LEASE, k.ATTEMPTS
  for i = 1, n do
    local id = due[2 * i - 1]
    names[at + i], names[at + n + i], names[at + 2 * n + i] = lease .. id, job .. id, attempts .. id
  end
end

-- Whether the jobs are free and have nothing special. `known` has the values of the names.
local function are_free(due, n, known, at)
  for i = 1, n do
    local score = tonumber(due[2 * i])
    if known[at + i] or not known[at + n + i] or score % 1 ~= 0 or score == Score.STOCK_ABORT_SCORE then
      return false
    end
  end
  return true
end

-- Write the leases of n jobs; adds the jobs to the reply.
local function lease(c, queue, token, lease_ms, margin_ms, due, n, names, known, at, reply)
  -- As texts, because they are written often: Lua would format a number each time.
  local lease_end = string.format('%.0f', c.now + lease_ms)
  local head = token .. '|' .. lease_end .. '|'
  local records, scores, counts = Sized.list(2 * n), Sized.list(2 * n), Sized.list(2 * n)
  local put = 5
  for i = 1, n do
    local id, due_text, value, name = due[2 * i - 1], due[2 * i], 2 * i, 2 * i - 1
    local count = known[at + 2 * n + i]
    local attempt = count and Score.count_of(count) + 1 or 1
    records[name], records[value] = names[at + i], head .. due_text .. '|0'
    scores[name], scores[value] = lease_end, id
    counts[name], counts[value] = names[at + 2 * n + i], count and attempt or '1'
    reply[put + 1], reply[put + 2], reply[put + 3] = id, known[at + n + i], attempt
    reply[put + 4], reply[put + 5] = Score.due_of(tonumber(due_text)), ''
    put = put + 5
  end
  SetAll.set_all(records, lease_ms + margin_ms)
  call('ZADD', c.k.QUEUE .. queue, unpack(scores))
  call('MSET', unpack(counts))
end

-- Lease up to `want` due jobs; adds them to the reply. Returns how many; nil, and nothing is done, if one of them is
-- not plain.
local function lease_due(c, t, q, want, reply)
  if want > MOST then
    return nil
  elseif want <= 0 then
    q.more = q.others == 0 or q.due_count > 0
    return 0
  end
  local due, n = first_due(c, q.name, want)
  if n == 0 then
    return 0
  end
  local names = Sized.list(3 * n)
  put_names(c, due, n, names, 0)
  local known = call('MGET', unpack(names))
  if not are_free(due, n, known, 0) then
    return nil
  end
  lease(c, q.name, t.token, t.lease_ms, t.margin_ms, due, n, names, known, 0, reply)
  return n
end

return {
  MOST = MOST,
  first_due = first_due,
  put_names = put_names,
  are_free = are_free,
  lease = lease,
  lease_due = lease_due,
}
