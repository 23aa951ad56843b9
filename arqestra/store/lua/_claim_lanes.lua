-- Part of claim.lua: jobs that wait in lanes. Needs _claim_take.

-- The first job of a lane: take it, let the gate wait, or send it on to the lane of another limit. A served gate goes
-- behind those that are open.
local function visit_lane(limit)
  local head = call('ZRANGE', lane_of(queue, limit), 0, 0, 'WITHSCORES')
  local id, order = head[1], tonumber(head[2])
  if not id then
    call('ZREM', GATES .. queue, limit)
    call('SREM', LANES .. limit, queue)
    return
  end
  local spec, packed = spec_of(queue, id)
  local blocked, at = refusal(id, spec or {}, now)
  if blocked == limit then
    call('ZADD', GATES .. queue, 'XX', math.max(at, now + 1), limit)
  elseif blocked then
    unpark(queue, id, limit)
    park(queue, id, blocked, order, at)
  else
    call('ZADD', GATES .. queue, 'XX', back_of_line(queue, now), limit)
    unpark(queue, id, limit)
    local crashes = string.match(call('GET', LEASE .. id) or '', '|%-?%d+|(%d+)$')
    admit(id, spec or {}, now)
    take(id, order, crashes and crashes + 1 or 0, '', packed)
  end
end

local function take_from_lanes(want)
  local goal, visit = #ids + want, 0
  while #ids < goal and visit < LANE_VISITS do
    local limit = call('ZRANGEBYSCORE', GATES .. queue, '-inf', '(' .. now + 1, 'LIMIT', 0, 1)[1]
    if not limit then
      return
    end
    visit = visit + 1
    visit_lane(limit)
  end
end

-- Lanes and queue share the slots half and half, so that neither starves the other; a single slot goes to them in turns.
local function take_jobs(want)
  if not extras then
    return take_due(want)
  end
  promote(queue, now)
  local goal = #ids + want
  if want == 1 and number % 2 == 0 then
    take_due(1)
  else
    take_from_lanes(math.ceil(want / 2))
    take_due(goal - #ids)
  end
  if #ids < goal then
    take_from_lanes(goal - #ids)
  end
end
