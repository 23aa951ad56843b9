-- Pause or resume a queue for the whole fleet: no claim takes from a paused queue. What runs goes on.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: '1' pause, '0' resume
-- RETURNS  1 if it was not so before, else 0
-- EVENTS   resume wakes the workers that rest

return function(c, argv)
  if argv[3] == '1' then
    return call('SADD', c.k.PAUSED, argv[2])
  end
  local resumed = call('SREM', c.k.PAUSED, argv[2])
  for _, worker in ipairs(call('ZRANGE', c.k.RESTING .. argv[2], 0, 999)) do
    call('PUBLISH', c.k.WORKER .. worker, 'wake')
  end
  call('DEL', c.k.RESTING .. argv[2])
  return resumed
end
