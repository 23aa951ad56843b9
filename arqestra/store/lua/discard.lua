-- Take jobs out of the dead set for good. Their results stay for as long as they are kept.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       then job ids
-- RETURNS  how many there were
-- REPEAT   what is gone stays gone, and is not counted.
-- FLAGS  allow-oom

return function(c, argv)
  local dead, dead_results = c.k.DEAD .. argv[2], c.k.DEAD_RESULTS .. argv[2]
  local removed = 0
  for i = 3, #argv do
    removed = removed + call('ZREM', dead, argv[i])
    call('HDEL', dead_results, argv[i])
  end
  return removed
end
