-- A worker waits no longer: no wake-up is to be spent on it.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: worker id   3: number of the offer on which it took in a job last, or 0
--       4: number of its latest claim or offer
-- RETURNS  1 if it was registered, else 0
-- EVENTS   the next in line becomes the timer owner; or, if jobs are due, is woken: the worker that leaves may have been
--          woken for them, and has not heard or not heeded it

-- @include _clock
-- @include _wake
-- @include _offer

local queue, now = name_of(KEYS[1]), clock(ARGV[1])
local ended, back = withdraw_offer(ARGV[2], ARGV[4], ARGV[3])
if not ended then
  return 0  -- it came late: the worker has come back meanwhile
end
if back then
  wake(back, now)
end
call('ZREM', RESTING .. queue, ARGV[2])
local removed = call('ZREM', WAITING .. queue, ARGV[2])
if call('EXISTS', WAITING .. queue) == 1 then
  local retry_at = call('ZRANGE', RETRY_AT .. queue, 0, 0, 'WITHSCORES')[2]
  if call('ZCOUNT', QUEUE .. queue, '-inf', now) > 0 or (retry_at and tonumber(retry_at) <= now) then
    wake(queue, now)
  elseif removed == 1 then
    tell_timer_owner(queue, now)
  end
end
return removed
