-- Send an event to a workflow that has not ended (docs/protocols.md, "Replay of workflows").
--
-- ARGV  1: time in ms or ''
--       2: queue of the workflow
--       3: job id, which is the flow's
--       4: nonce, name and value of the event
--       5: what shows that the job is a workflow, if no record of it runs: the SHA1 of the payload that the caller has
--          read, '' if it has read none, or '*' if it need not be shown
--       6: '1' the nonce is made of the caller's key: the event counts once, however often and by whom it is sent
-- RETURNS  'sent' (now or before) | 'full' | 'missing' no such workflow is queued or runs
--          | { payload } what the caller has to read first; nothing was written
-- EVENTS   tells the worker that holds the workflow, or wakes one
-- REPEAT   who reads the log tells by the nonce.
-- USES  Wake, Flow

local MAX_KEYS, KEYS_TTL_MS = 10000, 30 * 86400000  -- of a workflow: the newest nonces that callers chose
local FIRST_KEEP_MS = 3600000                       -- of a record that is made here, until the workflow says otherwise

return function(c, argv)
  local k, now, queue, flow, event = c.k, c.now, argv[2], argv[3], argv[4]
  local shown, has_key = argv[5], argv[6] == '1'
  local payload = call('GET', k.JOB .. flow)
  if not payload then
    return 'missing'
  end
  local name, sent = k.FLOW .. flow, k.SENT .. flow
  local kind, state, ended = unpack(call('HMGET', name, 'kind', 'state', 'ended'))
  if not (kind == 'w' and state ~= 'ended') and shown ~= '*' and shown ~= redis.sha1hex(payload) then
    return { payload }
  end
  local nonce = string.match(event, '^%S+')
  if has_key then
    local before = call('ZSCORE', sent, nonce)
    if before and tonumber(before) >= tonumber(ended or 0) then  -- not of an earlier life of this id
      return 'sent'
    end
  end
  if call('LLEN', k.LOG .. flow) >= MAX_EVENTS then
    return 'full'
  end
  if call('HSETNX', name, 'kind', 'w') == 1 then
    call('HSET', name, 'created', now, 'queue', queue, 'state', 'running', 'keep', FIRST_KEEP_MS)
    call('ZADD', k.FLOWS, now, flow)
  end
  if has_key then
    call('ZADD', sent, now, nonce)
    call('ZREMRANGEBYRANK', sent, 0, -MAX_KEYS - 1)
    call('PEXPIRE', sent, KEYS_TTL_MS)
  end
  call('RPUSH', k.LOG .. flow, 'g 0 ' .. string.format('%.0f', now) .. ' ' .. event)
  Flow.notify(c, flow)
  Wake.wake_all(c)
  return 'sent'
end
