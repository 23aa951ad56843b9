-- Make a deferred job due at once; one that waits for its next attempt too.
--
-- KEYS  1: queue
-- ARGV  1: time in ms or ''   2: job id
-- RETURNS  'queued' it is due, from now on or already | 'running' | 'held' by a limit, or a workflow that waits for news
--       | 'missing'

-- @include _clock
-- @include _score
-- @include _lease
-- @include _state
-- @include _wake

local queue, id = name_of(KEYS[1]), ARGV[2]
local now = clock(ARGV[1])
local score = tonumber(call('ZSCORE', QUEUE .. queue, id) or nil)
if not score then
  return 'missing'
end
local state = state_of(score, call('GET', LEASE .. id), now)
if state == 'running' then
  return 'running'
elseif state == 'held' or state == 'waiting' then
  return 'held'
elseif state == 'deferred' then
  call('ZADD', QUEUE .. queue, 'XX', in_order(now, priority_of(score)), id)
  call('ZREM', PROMOTE .. queue, id)
  wake(queue, now)
end
return 'queued'
