-- A worker waits no longer: no wake-up is to be spent on it.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: worker id
--       4: number of the offer on which it took in a job last, or 0
--       5: number of its latest claim or offer
-- RETURNS  1 if it was registered, else 0
-- EVENTS   the next in line becomes the timer owner; or, if jobs are due, is woken: the worker that leaves may have
--          been woken for them, and has not heard or not heeded it
-- USES  Wake, Offer
-- FLAGS  allow-oom

return function(c, argv)
  local queue = argv[2]
  local ended, back = Offer.withdraw_offer(c, argv[3], argv[5], argv[4])
  if not ended then
    return 0  -- it came late: the worker has come back meanwhile
  end
  if back then
    Wake.wake(c, back)
  end
  call('ZREM', c.k.RESTING .. queue, argv[3])
  local removed = call('ZREM', c.k.WAITING .. queue, argv[3])
  if call('EXISTS', c.k.WAITING .. queue) == 1 then
    local retry_at = call('ZRANGE', c.k.RETRY_AT .. queue, 0, 0, 'WITHSCORES')[2]
    if call('ZCOUNT', c.k.QUEUE .. queue, '-inf', c.now) > 0 or (retry_at and tonumber(retry_at) <= c.now) then
      Wake.wake(c, queue)
    elseif removed == 1 then
      Wake.tell_timer_owner(c, queue)
    end
  end
  return removed
end
