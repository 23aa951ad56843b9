-- What is known of a job.
--
-- ARGV  1: time in ms or ''
--       2: queue
--       3: job id
--       4: '1' with the payload and the errors of its attempts, 's' the result is told as
--       '' if there is one
-- RETURNS  { result or false, score or false, lease record or false, now, payload or false, errors }
-- FLAGS  no-writes

return function(c, argv)
  local id = argv[3]
  local result
  if argv[4] == 's' then
    result = call('EXISTS', c.k.RESULT .. id) == 1 and ''
  else
    result = call('GET', c.k.RESULT .. id)
  end
  return {
    result,
    call('ZSCORE', c.k.QUEUE .. argv[2], id),
    call('GET', c.k.LEASE .. id),
    c.now,
    argv[4] == '1' and call('GET', c.k.JOB .. id),
    argv[4] == '1' and call('LRANGE', c.k.ERRORS .. id, 0, -1) or {},
  }
end
