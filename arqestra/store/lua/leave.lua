-- A worker waits no longer: no wake-up is to be spent on it.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: worker id
-- RETURNS  1 if it was registered, else 0
-- EVENTS   the next in line becomes the lookout

-- @include _clock
-- @include _wake

call('ZREM', RESTING .. KEYS[1], ARGV[2])
local removed = call('ZREM', WAITING .. KEYS[1], ARGV[2])
if removed == 1 then
  appoint(KEYS[1], clock(ARGV[1]))
end
return removed
