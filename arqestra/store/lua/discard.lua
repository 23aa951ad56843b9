-- Take jobs out of the dead set for good. Their results stay for as long as they are kept.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3...: job ids
-- RETURNS  how many there were
-- FLAGS  allow-oom

return function(c, argv)
  local removed = 0
  for i = 3, #argv do
    removed = removed + call('ZREM', c.k.DEAD .. argv[2], argv[i])
    call('HDEL', c.k.DEAD_RESULTS .. argv[2], argv[i])
  end
  return removed
end
