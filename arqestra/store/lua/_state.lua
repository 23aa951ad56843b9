-- The state of a job, from its score and its lease record.
-- USES  Lease

local function state_of(score, record, now)
  if Lease.is_leased(record, now) then
    return 'running'
  elseif score >= PARKED_SCORE then
    return 'waiting'
  elseif score >= THROTTLED_SCORE then
    return 'held'
  end
  return score > now and 'deferred' or 'queued'
end

-- Lease records of entries of a sorted set (id, score, id, score, ...), at most BATCH.
local function leases_of(c, entries)
  local names = {}
  for i = 1, #entries, 2 do
    names[#names + 1] = c.k.LEASE .. entries[i]
  end
  return #names > 0 and call('MGET', unpack(names)) or {}
end

return {
  state_of = state_of,
  leases_of = leases_of,
}
