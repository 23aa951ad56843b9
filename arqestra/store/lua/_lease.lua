-- Who holds a job, by its lease record (LEASE): `token|lease end|due|crashes`. The token is the worker's id, a point
-- and the number of the claim. A stock worker writes `1`: it holds the job as long as the record is there. '-' in the
-- place of the token: the lease has ended and another job has its place under the limits (`disown` in _limits), so the
-- worker can neither extend it nor finish the job; the record keeps the crashes.

-- When a lease of ours ends; nil of a stock worker's.
local function lease_end_of(record)
  return tonumber(string.match(record, '|(%d+)|%-?%d+|%d+$'))
end

-- Whether a worker holds the job, or had it and could take it up again.
local function has_holder(record)
  return record and string.sub(record, 1, 2) ~= '-|'
end

-- Whether a worker holds the job now.
local function is_leased(record, now)
  return has_holder(record) and (lease_end_of(record) or now + 1) > now
end

-- Whether the lease is the one with that token.
local function has_token(record, token)
  return record and string.sub(record, 1, #token + 1) == token .. '|'
end

-- The worker of ours that the record names; nil of a stock worker's, and of nobody's.
local function worker_of(record)
  return record and string.match(record, '^([^.|]+)%.')
end

-- End of the lease, when the job became due, and crashes, as texts; nil of a stock worker's.
local function fields_of(record)
  return string.match(record, '|(%d+)|(%-?%d+)|(%d+)$')
end

return {
  lease_end_of = lease_end_of,
  has_holder = has_holder,
  is_leased = is_leased,
  has_token = has_token,
  worker_of = worker_of,
  fields_of = fields_of,
}
