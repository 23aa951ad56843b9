-- Note that a job is given back because a worker does not know its function.
--
-- ARGV  1: time in ms or ''
--       2: the note of the job
--       3: when the job was enqueued (another time: another job of this id)
--       4: token of the lease
--       5: ms to keep the note
-- RETURNS  { how often it was given back, this time included, ms since the first time }
-- REPEAT   a lease is counted once.

return function(c, argv)
  local key = argv[2]
  local enqueued, token, since, count = unpack(call('HMGET', key, 'enqueued', 'token', 'since', 'count'))
  if enqueued ~= argv[3] then
    token, since, count = '', c.now, 0
  end
  count = tonumber(count)
  if token ~= argv[4] then
    count = count + 1
  end
  since = tonumber(since)
  call('HSET', key, 'enqueued', argv[3], 'token', argv[4], 'since', string.format('%.0f', since), 'count', count)
  call('PEXPIRE', key, argv[5])
  return { count, math.max(0, c.now - since) }
end
