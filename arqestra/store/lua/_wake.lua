-- Waking workers (docs/protocols.md, "Deliveries and offers"). A worker with free slots and nothing due registers in
-- the queue's waiting set and listens on a channel of its own. Whoever makes a job due pops one worker from the set and
-- publishes to it: exactly one wakes, and no key is left behind where nobody waits. A killed worker has no subscriber:
-- it is dropped, and the next one is tried.
--
-- The longest waiting worker is the timer owner: it alone keeps a timer for the moment at which the next job becomes
-- due, so that a retry that comes due does not wake the whole fleet. The others poll a second later, in case the timer
-- owner died. When the timer owner is woken, the next worker in the set is told the time.

-- Ms until the next job becomes due or the next limit may be tried; nil if there is neither.
local function next_due(c, queue)
  local k, now = c.k, c.now
  local due = call('ZRANGEBYSCORE', k.QUEUE .. queue, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local retry_at = call('ZRANGE', k.RETRY_AT .. queue, 0, 0, 'WITHSCORES')[2]
  if due or retry_at then
    return math.max(0, math.ceil(math.min(due or math.huge, retry_at or math.huge)) - now)
  end
end

-- Tell the timer owner how long it is until the next job becomes due.
local function tell_timer_owner(c, queue)
  local timer_owner = call('ZRANGE', c.k.WAITING .. queue, 0, 0)[1]
  if not timer_owner then
    return
  end
  local delay = next_due(c, queue)
  if delay then
    call('PUBLISH', c.k.WORKER .. timer_owner, 'due ' .. string.format('%.0f', delay))
  end
end

local function wake(c, queue)
  for _ = 1, 100 do
    local worker = call('ZPOPMIN', c.k.WAITING .. queue)[1]
    if not worker then
      return
    end
    if call('PUBLISH', c.k.WORKER .. worker, 'wake') > 0 then
      return tell_timer_owner(c, queue)
    end
  end
end

-- Wake one worker for each queue in which a job became due in this call.
local function wake_all(c)
  for queue in pairs(c.due_queues) do
    wake(c, queue)
  end
end

-- A job was added that becomes due later: only news if nothing else becomes due before it.
local function announce_deferred(c, queue, due)
  local k = c.k
  if call('EXISTS', k.WAITING .. queue) == 1 and call('ZCOUNT', k.QUEUE .. queue, '(' .. c.now, '(' .. due) == 0 then
    tell_timer_owner(c, queue)
  end
end

return {
  next_due = next_due,
  tell_timer_owner = tell_timer_owner,
  wake = wake,
  wake_all = wake_all,
  announce_deferred = announce_deferred,
}
