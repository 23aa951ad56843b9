-- The due jobs of a queue, in its order. `t` and `q` are explained in _claim.
-- USES  Score, Specs, ClaimTake, ClaimCases

local SCAN_LIMIT = 5000      -- entries inspected in one claim: bounds its time
local PAGE = 250             -- entries a page after the first

-- Take up to `want` due jobs, in the queue's order. Entries stay where they are until the end of the claim, so the
-- search continues after those that it has read (`passed`).
local function take_due(c, t, q, want)
  local k, ids = c.k, t.ids
  local goal, inspected, size = #ids + want, 0, want
  while #ids < goal and inspected < SCAN_LIMIT do
    local first = q.passed or 0
    local page = call('ZRANGEBYSCORE', k.QUEUE .. q.name, '-inf', c.now, 'WITHSCORES', 'LIMIT', first, size)
    local entries, n, throttled_before = #page / 2, #ids, t.throttled
    if entries == 0 then
      return
    end
    local names = {}
    for i = 1, entries do
      names[i] = k.LEASE .. page[2 * i - 1]
    end
    local leases, packed = call('MGET', unpack(names)), ClaimTake.specs_of(c, q, page, 1, 2)
    for i = 1, entries do
      if n >= goal then
        entries = i - 1
        break
      end
      local id, due = page[2 * i - 1], page[2 * i]
      local score = tonumber(due)
      local spec = packed[i]
      if leases[i] or score % 1 ~= 0 or score == Score.STOCK_ABORT_SCORE or t.seen[id]
          or (spec and not Specs.is_position_only(spec)) then
        ClaimCases.judge(c, t, q, id, score, leases[i], spec)
        n = #ids
      else
        n = n + 1
        t.positions[n] = spec
        ids[n], t.dues[n], t.owners[n], t.due_texts[n], t.lease_names[n] = id, score, q.name, due, names[i]
        if t.several then
          t.seen[id] = true  -- another queue may have an entry of this id
        end
      end
    end
    q.passed = first + entries - (t.throttled - throttled_before)
    inspected, size = inspected + entries, PAGE
  end
end

return { take_due = take_due }
