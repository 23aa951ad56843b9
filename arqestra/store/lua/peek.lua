-- What is known of a job.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: job id
--       4: '1' with the payload and the errors of its attempts | 's' a result is told as '' | else neither
-- RETURNS  { result or false, score or false, lease record or false, now, payload or false, errors }
-- REPEAT   it changes nothing.
-- FLAGS  no-writes

return function(c, argv)
  local k, queue, id = c.k, argv[2], argv[3]
  local in_full, is_short = argv[4] == '1', argv[4] == 's'
  local result
  if is_short then
    result = call('EXISTS', k.RESULT .. id) == 1 and ''
  else
    result = call('GET', k.RESULT .. id)
  end
  return {
    result,
    call('ZSCORE', k.QUEUE .. queue, id),
    call('GET', k.LEASE .. id),
    c.now,
    in_full and call('GET', k.JOB .. id),
    in_full and call('LRANGE', k.ERRORS .. id, 0, -1) or {},
  }
end
