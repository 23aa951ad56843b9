-- Note that a workflow is blocked by code: that of a worker does not fit its history. It is tried again, later each
-- time (docs/protocols.md, "Replay of workflows").
--
-- ARGV  1: time in ms or ''
--       2: queue of the workflow
--       3: job id, which is the flow's
--       4: token
--       5: why, for people
--       6: ms of the first pause, doubled with each try
--       7: the longest pause in ms
-- RETURNS  { 'lost' } its lease is lost | { 'new' } it has not begun, so there is nothing to fit
--          | { 'blocked', tries so far, ms until the next one, ms since the first, '1' if this was no try: it was woken
--              before its time, by an event, say }
-- REPEAT   a lease is counted once.
-- USES  Lease

-- A workflow that is blocked says so at each try. One that did not for so long is none any more.
local BLOCKED_SEEN_MS = 900000
local MOST_DOUBLINGS = 30

return function(c, argv)
  local k, now, queue, flow, token = c.k, c.now, argv[2], argv[3], argv[4]
  local why, first_pause_ms, longest_pause_ms = argv[5], tonumber(argv[6]), tonumber(argv[7])
  local name, blocked_flows = k.FLOW .. flow, k.BLOCKED .. queue
  local lease = call('GET', k.LEASE .. flow)
  if not Lease.has_token(lease, token) then
    return { 'lost' }
  end
  local kind, state, started, blocked = unpack(call('HMGET', name, 'kind', 'state', 'started', 'blocked'))
  if kind ~= 'w' or state ~= 'running' or not started then
    return { 'new' }
  end
  local since, due, tries, early, last_token = string.match(blocked or '', '^(%d+) (%d+) (%d+) (%d) (%S+)$')
  since, due, tries = tonumber(since or now), tonumber(due or 0), tonumber(tries or 0)
  if last_token ~= token then
    early = now < due and '1' or '0'
    if early == '0' then
      due = now + math.min(first_pause_ms * 2 ^ math.min(tries, MOST_DOUBLINGS), longest_pause_ms)
      tries = tries + 1
    end
  end
  call('HSET', name, 'blocked', string.format('%.0f %.0f %d %s %s', since, due, tries, early, token), 'blocked_by', why)
  call('ZADD', blocked_flows, now, flow)
  call('ZREMRANGEBYSCORE', blocked_flows, '-inf', now - BLOCKED_SEEN_MS)
  call('PEXPIRE', blocked_flows, BLOCKED_SEEN_MS)
  return { 'blocked', tries, math.max(1, due - now), now - since, early }
end
