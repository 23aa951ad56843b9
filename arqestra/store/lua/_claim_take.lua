-- Part of claim.lua: taking due entries. Nearly all of them are free, have no limits and have never crashed. `Cases` judges
-- the others.

local function take(id, due, crashes, flag, spec)
  local n = #ids + 1
  ids[n], dues[n], owners[n] = id, due, queue
  if crashes > 0 or flag ~= '' or spec then
    special[n] = { crashes, flag, spec }
  end
  seen[id] = true
end

local NO_SPECS = {}
local function specs_of(list, first, step)
  if not extras or all_throttled(queue) then
    return NO_SPECS
  end
  local names = {}
  for i = first, #list, step do
    names[#names + 1] = list[i]
  end
  return call('HMGET', SPECS .. queue, unpack(names))
end

-- Take up to `want` due jobs, in the queue's order. Entries stay where they are until the end of the script, so the search
-- continues after those that it has read (`passed`).
local function take_due(want)
  local goal, looked_at, size = #ids + want, 0, want
  while #ids < goal and looked_at < SCAN_LIMIT do
    local first = passed[queue] or 0
    local page = call('ZRANGEBYSCORE', QUEUE .. queue, '-inf', now, 'WITHSCORES', 'LIMIT', first, size)
    local entries, n, throttled_before = #page / 2, #ids, throttled
    if entries == 0 then
      return
    end
    local names = {}
    for i = 1, entries do
      names[i] = LEASE .. page[2 * i - 1]
    end
    local leases, packed = call('MGET', unpack(names)), specs_of(page, 1, 2)
    for i = 1, entries do
      if n >= goal then
        entries = i - 1
        break
      end
      local id, due = page[2 * i - 1], page[2 * i]
      local score = tonumber(due)
      local spec = packed[i]
      if leases[i] or score % 1 ~= 0 or score == STOCK_ABORT_SCORE or seen[id] or (spec and not is_place_only(spec)) then
        Cases.judge(id, score, leases[i], spec)
        n = #ids
      else
        n = n + 1
        places[n] = spec
        ids[n], dues[n], owners[n], due_texts[n], lease_names[n] = id, score, queue, due, names[i]
        if several then
          seen[id] = true  -- another queue may have an entry of this id
        end
      end
    end
    passed[queue] = first + entries - (throttled - throttled_before)
    looked_at, size = looked_at + entries, PAGE
  end
end
