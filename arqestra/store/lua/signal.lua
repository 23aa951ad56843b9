-- Send an event to a workflow that has not ended.
--
-- ARGV  1: time in ms or ''
--       2: queue of the workflow
--       3: job id
--       4: nonce, name and value of the event
--       5: what shows that the job is a workflow, if no record of it runs: the SHA1 of the payload that the caller has
--          read, '' if it has read none, or '*' if it need not be shown
--       6: '1' the nonce is made of the caller's key: the event counts once, however often and by whom it is sent
-- RETURNS  'sent' (now or before) | 'full' | 'missing' no such workflow is queued or runs
--          | { payload } what the caller has to read first; nothing was written
-- REPEAT   who reads the log tells by the nonce.
-- USES  Wake, Flow

local MAX_KEYS, KEYS_TTL_MS = 10000, 30 * 86400000  -- of a workflow: the newest nonces that callers chose

return function(c, argv)
  local queue, flow = argv[2], argv[3]
  local payload = call('GET', c.k.JOB .. flow)
  if not payload then
    return 'missing'
  end
  local kind, state, ended = unpack(call('HMGET', c.k.FLOW .. flow, 'kind', 'state', 'ended'))
  if not (kind == 'w' and state ~= 'ended') and argv[5] ~= '*' and argv[5] ~= redis.sha1hex(payload) then
    return { payload }
  end
  local nonce = string.match(argv[4], '^%S+')
  if argv[6] == '1' then
    local before = call('ZSCORE', c.k.SENT .. flow, nonce)
    if before and tonumber(before) >= tonumber(ended or 0) then  -- not of an earlier life of this id
      return 'sent'
    end
  end
  if call('LLEN', c.k.LOG .. flow) >= MAX_EVENTS then
    return 'full'
  end
  if call('HSETNX', c.k.FLOW .. flow, 'kind', 'w') == 1 then
    call('HSET', c.k.FLOW .. flow, 'created', c.now, 'queue', queue, 'state', 'running', 'keep', 3600000)
    call('ZADD', c.k.FLOWS, c.now, flow)
  end
  if argv[6] == '1' then
    call('ZADD', c.k.SENT .. flow, c.now, nonce)
    call('ZREMRANGEBYRANK', c.k.SENT .. flow, 0, -MAX_KEYS - 1)
    call('PEXPIRE', c.k.SENT .. flow, KEYS_TTL_MS)
  end
  call('RPUSH', c.k.LOG .. flow, 'g 0 ' .. string.format('%.0f', c.now) .. ' ' .. argv[4])
  Flow.notify(c, flow)
  Wake.wake_all(c)
  return 'sent'
end
