-- Waking workers. A worker with free slots and nothing due registers in the queue's waiting set and listens on a channel
-- of its own; whoever makes a job due pops one worker from the set and publishes to it: exactly one wakes, and no key is
-- left behind where nobody waits. A killed worker has no subscriber: it is dropped and the next one is tried.
--
-- The longest waiting worker is the timer owner: it alone keeps a timer for the moment at which the next job becomes due, so
-- that a retry that comes due does not wake the whole fleet. The others poll a second later, in case the timer owner died.
-- When the timer owner is woken, the next worker in the set is told the time.

-- Ms until the next job becomes due or the next limit may be tried; nil if there is neither.
local function next_due(queue, now)
  local due = call('ZRANGEBYSCORE', QUEUE .. queue, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local retry_at = call('ZRANGE', RETRY_AT .. queue, 0, 0, 'WITHSCORES')[2]
  if due or retry_at then
    return math.max(0, math.ceil(math.min(due or math.huge, retry_at or math.huge)) - now)
  end
end

-- Tell the timer owner how long it is until the next job becomes due.
local function tell_timer_owner(queue, now)
  local timer_owner = call('ZRANGE', WAITING .. queue, 0, 0)[1]
  if not timer_owner then
    return
  end
  local delay = next_due(queue, now)
  if delay then
    call('PUBLISH', WORKER .. timer_owner, 'due ' .. string.format('%.0f', delay))
  end
end

local function wake(queue, now)
  for _ = 1, 100 do
    local worker = call('ZPOPMIN', WAITING .. queue)[1]
    if not worker then
      return
    end
    if call('PUBLISH', WORKER .. worker, 'wake') > 0 then
      return tell_timer_owner(queue, now)
    end
  end
end

-- A job was added that becomes due later: only news if nothing else becomes due before it.
local function announce_deferred(queue, due, now)
  if call('EXISTS', WAITING .. queue) == 1 and call('ZCOUNT', QUEUE .. queue, '(' .. now, '(' .. due) == 0 then
    tell_timer_owner(queue, now)
  end
end
