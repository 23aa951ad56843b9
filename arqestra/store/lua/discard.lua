-- Take jobs out of the dead set for good. Their results stay for as long as they are kept.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2...: job ids
-- RETURNS  how many there were

local removed = 0
for i = 2, #ARGV do
  removed = removed + call('ZREM', DEAD .. name_of(KEYS[1]), ARGV[i])
  call('HDEL', DEAD_RESULTS .. name_of(KEYS[1]), ARGV[i])
end
return removed
