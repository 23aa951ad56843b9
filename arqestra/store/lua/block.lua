-- Note that a workflow is blocked by code: that of a worker does not fit its history. It is tried again, later each time.
--
-- KEYS  1: queue of the workflow
-- ARGV  1: time in ms or ''   2: job id, which is the flow's   3: token   4: why, for people
--       5: ms of the first pause, doubled with each try   6: the longest
-- RETURNS  { 'lost' } its lease is lost | { 'new' } it has not begun, so there is nothing to fit
--          | { 'blocked', tries so far, ms until the next one, ms since the first, '1' if this was no try: it was woken
--              before its time, by an event, say }
--
-- Repeating the call is harmless: a lease is counted once.

-- @include _clock
-- @include _lease

-- A workflow that is blocked says so at each try. One that did not for so long is none any more.
local BLOCKED_SEEN_MS = 900000

local queue, flow, token = name_of(KEYS[1]), ARGV[2], ARGV[3]
local now = clock(ARGV[1])
local name, key = FLOW .. flow, BLOCKED .. queue
local lease = call('GET', LEASE .. flow)
if not has_token(lease, token) then
  return { 'lost' }
end
local kind, state, started, blocked = unpack(call('HMGET', name, 'kind', 'state', 'started', 'blocked'))
if kind ~= 'w' or state ~= 'running' or not started then
  return { 'new' }
end
local since, due, tries, early, last = string.match(blocked or '', '^(%d+) (%d+) (%d+) (%d) (%S+)$')
since, due, tries = tonumber(since or now), tonumber(due or 0), tonumber(tries or 0)
if last ~= token then
  early = now < due and '1' or '0'
  if early == '0' then
    due = now + math.min(tonumber(ARGV[5]) * 2 ^ math.min(tries, 30), tonumber(ARGV[6]))
    tries = tries + 1
  end
end
call('HSET', name, 'blocked', string.format('%.0f %.0f %d %s %s', since, due, tries, early, token), 'blocked_by', ARGV[4])
call('ZADD', key, now, flow)
call('ZREMRANGEBYSCORE', key, '-inf', now - BLOCKED_SEEN_MS)
call('PEXPIRE', key, BLOCKED_SEEN_MS)
return { 'blocked', tries, math.max(1, due - now), now - since, early }
