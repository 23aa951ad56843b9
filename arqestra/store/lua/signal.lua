-- Send an event to a workflow that has not ended.
--
-- KEYS  1: queue of the workflow
-- ARGV  1: time in ms or ''   2: job id   3: nonce, name and value of the event
--       4: what shows that the job is a workflow, if no record of it runs: the SHA1 of the payload that the caller has
--          read, '' if it has read none, or '*' if it need not be shown
--       5: '1' the nonce is made of the caller's key: the event counts once, however often and by whom it is sent
-- RETURNS  'sent' (now or before) | 'full' | 'missing' no such workflow is queued or runs
--          | { payload } what the caller has to read first; nothing was written
--
-- Repeating the call is harmless: who reads the log tells by the nonce.

-- @include _clock
-- @include _score
-- @include _wake
-- @include _specs
-- @module Limits _limits
-- @module Flow _flow

local MAX_KEYS, KEYS_TTL_MS = 10000, 30 * 86400000  -- of a workflow: the newest nonces that callers chose

local queue, flow = name_of(KEYS[1]), ARGV[2]
local now = clock(ARGV[1])
local due_queues = {}
local payload = call('GET', JOB .. flow)
if not payload then
  return 'missing'
end
local kind, state, ended = unpack(call('HMGET', FLOW .. flow, 'kind', 'state', 'ended'))
if not (kind == 'w' and state ~= 'ended') and ARGV[4] ~= '*' and ARGV[4] ~= redis.sha1hex(payload) then
  return { payload }
end
local nonce = string.match(ARGV[3], '^%S+')
if ARGV[5] == '1' then
  local before = call('ZSCORE', SENT .. flow, nonce)
  if before and tonumber(before) >= tonumber(ended or 0) then  -- not of an earlier life of this id
    return 'sent'
  end
end
if call('LLEN', LOG .. flow) >= MAX_EVENTS then
  return 'full'
end
if call('HSETNX', FLOW .. flow, 'kind', 'w') == 1 then
  call('HSET', FLOW .. flow, 'created', now, 'queue', queue, 'state', 'running', 'keep', 3600000)
  call('ZADD', FLOWS, now, flow)
end
if ARGV[5] == '1' then
  call('ZADD', SENT .. flow, now, nonce)
  call('ZREMRANGEBYRANK', SENT .. flow, 0, -MAX_KEYS - 1)
  call('PEXPIRE', SENT .. flow, KEYS_TTL_MS)
end
call('RPUSH', LOG .. flow, 'g 0 ' .. string.format('%.0f', now) .. ' ' .. ARGV[3])
Flow.notify(flow, now, due_queues)
for due_queue in pairs(due_queues) do
  wake(due_queue, now)
end
return 'sent'
