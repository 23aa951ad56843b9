-- Note that a job is given back because a worker does not know its function.
--
-- ARGV  1: time in ms or ''
--       2: key of the job's note
--       3: when the job was enqueued, in ms (another time: another job of this id)
--       4: token of the lease
--       5: ms to keep the note
-- RETURNS  { how often it was given back, this time included, ms since the first time }
-- REPEAT   a lease is counted once.

return function(c, argv)
  local key, enqueued, token, keep_ms = argv[2], argv[3], argv[4], argv[5]
  local noted, last_token, since, count = unpack(call('HMGET', key, 'enqueued', 'token', 'since', 'count'))
  if noted ~= enqueued then
    last_token, since, count = '', c.now, 0
  end
  count = tonumber(count)
  if last_token ~= token then
    count = count + 1
  end
  since = tonumber(since)
  call('HSET', key, 'enqueued', enqueued, 'token', token, 'since', string.format('%.0f', since), 'count', count)
  call('PEXPIRE', key, keep_ms)
  return { count, math.max(0, c.now - since) }
end
