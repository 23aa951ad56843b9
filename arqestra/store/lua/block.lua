-- Note that a workflow is blocked by code: that of a worker does not fit its history. It is tried again, later each time.
--
-- ARGV  1: time in ms or ''
--       2: queue of the workflow
--       3: job id, which is the flow's
--       4: token
--       5: why, for people
--       6: ms of the first pause, doubled with each try
--       7: the longest
-- RETURNS  { 'lost' } its lease is lost | { 'new' } it has not begun, so there is nothing to fit
--          | { 'blocked', tries so far, ms until the next one, ms since the first, '1' if this was no try: it was woken
--              before its time, by an event, say }
-- REPEAT   a lease is counted once.
-- USES  Lease

return function(c, argv)
  -- A workflow that is blocked says so at each try. One that did not for so long is none any more.
  local BLOCKED_SEEN_MS = 900000

  local queue, flow, token = argv[2], argv[3], argv[4]
  local name, key = c.k.FLOW .. flow, c.k.BLOCKED .. queue
  local lease = call('GET', c.k.LEASE .. flow)
  if not Lease.has_token(lease, token) then
    return { 'lost' }
  end
  local kind, state, started, blocked = unpack(call('HMGET', name, 'kind', 'state', 'started', 'blocked'))
  if kind ~= 'w' or state ~= 'running' or not started then
    return { 'new' }
  end
  local since, due, tries, early, last = string.match(blocked or '', '^(%d+) (%d+) (%d+) (%d) (%S+)$')
  since, due, tries = tonumber(since or c.now), tonumber(due or 0), tonumber(tries or 0)
  if last ~= token then
    early = c.now < due and '1' or '0'
    if early == '0' then
      due = c.now + math.min(tonumber(argv[6]) * 2 ^ math.min(tries, 30), tonumber(argv[7]))
      tries = tries + 1
    end
  end
  call('HSET', name, 'blocked', string.format('%.0f %.0f %d %s %s', since, due, tries, early, token), 'blocked_by', argv[5])
  call('ZADD', key, c.now, flow)
  call('ZREMRANGEBYSCORE', key, '-inf', c.now - BLOCKED_SEEN_MS)
  call('PEXPIRE', key, BLOCKED_SEEN_MS)
  return { 'blocked', tries, math.max(1, due - c.now), c.now - since, early }
end
