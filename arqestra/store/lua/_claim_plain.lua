-- The claim of a plain queue: no limits, priorities, flows or aborts, and none of its due jobs has ever been leased.
-- Nearly every claim is one. It does no more than a lease needs:
--
--   ZRANGEBYSCORE  the first due jobs
--   MGET           what is known of them
--   PSETEX         the leases
--   ZADD           the ends of the leases as scores
--   MSET           the attempts
-- USES  Score, SetAll

local MOST = 300  -- jobs: three keys of each go into one MGET

-- Lease up to `want` due jobs; adds them to the reply. Returns how many; nil, and nothing is done, if one of them is
-- not plain.
local function lease_due(c, t, q, want, reply)
  local k = c.k
  if want > MOST then
    return nil
  elseif want <= 0 then
    q.more = q.others == 0 or q.due_count > 0
    return 0
  end
  local due = call('ZRANGEBYSCORE', k.QUEUE .. q.name, '-inf', c.now, 'WITHSCORES', 'LIMIT', 0, want)
  local n = #due / 2
  if n == 0 then
    return 0
  end
  local job, lease, attempts = k.JOB, k.LEASE, k.ATTEMPTS
  local names = {}
  for i = 1, n do
    local id = due[2 * i - 1]
    names[i], names[n + i], names[2 * n + i] = lease .. id, job .. id, attempts .. id
  end
  local known = call('MGET', unpack(names))
  for i = 1, n do
    local score = tonumber(due[2 * i])
    if known[i] or not known[n + i] or score % 1 ~= 0 or score == Score.STOCK_ABORT_SCORE then
      return nil
    end
  end
  -- As texts, because they are written often: Lua would format a number each time.
  local lease_end, ttl = string.format('%.0f', c.now + t.lease_ms), string.format('%.0f', t.lease_ms + t.margin_ms)
  local head = t.token .. '|' .. lease_end .. '|'
  local records, scores, counts, at = {}, {}, {}, #reply
  for i = 1, n do
    local id, due_text = due[2 * i - 1], due[2 * i]
    local attempt = known[2 * n + i] and Score.count_of(known[2 * n + i]) + 1 or 1
    local r = 2 * i - 1
    records[r], records[r + 1] = names[i], head .. due_text .. '|0'
    scores[r], scores[r + 1] = lease_end, id
    counts[r], counts[r + 1] = names[2 * n + i], attempt == 1 and '1' or attempt
    reply[at + 1], reply[at + 2], reply[at + 3] = id, known[n + i], attempt
    reply[at + 4], reply[at + 5] = Score.due_of(tonumber(due_text)), ''
    at = at + 5
  end
  SetAll.set_all(records, ttl)
  call('ZADD', k.QUEUE .. q.name, unpack(scores))
  call('MSET', unpack(counts))
  return n
end

return { lease_due = lease_due }
