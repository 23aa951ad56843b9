-- Note that a job is given back because a worker does not know its function.
--
-- KEYS  1: the note of the job
-- ARGV  1: time in ms or ''   2: when the job was enqueued (another time: another job of this id)
--       3: token of the lease   4: ms to keep the note
-- RETURNS  { how often it was given back, this time included, ms since the first time }
--
-- Repeating the call is harmless: a lease is counted once.

-- @include _clock

local key, now = KEYS[1], clock(ARGV[1])
local enqueued, token, since, count = unpack(call('HMGET', key, 'enqueued', 'token', 'since', 'count'))
if enqueued ~= ARGV[2] then
  token, since, count = '', now, 0
end
count = tonumber(count)
if token ~= ARGV[3] then
  count = count + 1
end
since = tonumber(since)
call('HSET', key, 'enqueued', ARGV[2], 'token', ARGV[3], 'since', string.format('%.0f', since), 'count', count)
call('PEXPIRE', key, ARGV[4])
return { count, math.max(0, now - since) }
