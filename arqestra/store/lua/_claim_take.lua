-- Jobs that a claim takes. Nearly all are free, have no limits and have never crashed; ClaimCases judges the others.
-- `t` and `q` are explained in _claim.
-- USES  Specs

-- A job is taken: its lease is written at the end of the claim.
local function take(t, q, id, due, crashes, flag, spec)
  local n = #t.ids + 1
  t.ids[n], t.dues[n], t.owners[n] = id, due, q.name
  if crashes > 0 or flag ~= '' or spec then
    t.special[n] = { crashes, flag, spec }
  end
  t.seen[id] = true
end

local NO_SPECS = {}

-- The packed specs of jobs in a list of ids, or of ids and scores.
local function specs_of(c, q, list, first, step)
  if not q.extras or Specs.all_throttled(c, q.name) then
    return NO_SPECS
  end
  local names = {}
  for i = first, #list, step do
    names[#names + 1] = list[i]
  end
  return call('HMGET', c.k.SPECS .. q.name, unpack(names))
end

return { take = take, specs_of = specs_of }
