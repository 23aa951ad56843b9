-- What is known of a job.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: job id   3: '1' with the payload and the errors of its attempts, 's' the result is told as
--       '' if there is one
-- RETURNS  { result or false, score or false, lease record or false, now, payload or false, errors }

-- @include _clock

local id = ARGV[2]
local result
if ARGV[3] == 's' then
  result = call('EXISTS', RESULT .. id) == 1 and ''
else
  result = call('GET', RESULT .. id)
end
return {
  result,
  call('ZSCORE', KEYS[1], id),
  call('GET', LEASE .. id),
  clock(ARGV[1]),
  ARGV[3] == '1' and call('GET', JOB .. id),
  ARGV[3] == '1' and call('LRANGE', ERRORS .. id, 0, -1) or {},
}
