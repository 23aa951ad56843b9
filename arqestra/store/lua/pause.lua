-- Pause or resume a queue for the whole fleet: no claim takes from a paused queue. What runs goes on.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: '1' pause, '0' resume
-- RETURNS  1 if it was not so before, else 0
-- EVENTS   resume wakes the workers that rest

if ARGV[2] == '1' then
  return call('SADD', PAUSED, name_of(KEYS[1]))
end
local resumed = call('SREM', PAUSED, name_of(KEYS[1]))
for _, worker in ipairs(call('ZRANGE', RESTING .. name_of(KEYS[1]), 0, 999)) do
  call('PUBLISH', WORKER .. worker, 'wake')
end
call('DEL', RESTING .. name_of(KEYS[1]))
return resumed
