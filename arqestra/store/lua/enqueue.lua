-- Store 1..n jobs and wake a worker.
--
-- KEYS  1: queue of the first job (for routing)
-- ARGV  1: time in ms or ''   2: '1' if this call may have been made before and its reply was lost
--       then groups of jobs that have all in common but these two: queue, when, unique, attempts, extra, number of jobs,
--       and for each of them id and payload
--         when      '' due at once | '+ms' due that much later | '=ms' due at that time
--         unique    '' if the id was generated; else a nonce: the caller chose the id, and it is refused if it exists
--         attempts  attempts that count as started already (arq's _job_try less one)
--         extra     '' | four digits, that many bytes of msgpack { priority, limits, lock or false }, spec or ''
--                   (Redis' msgpack has no byte strings, so the spec stands behind)
--                   lock: { name, until, what to do if it is held, ttl in ms or 0, ms that it may put the job off or 0 }
-- RETURNS  one character for each job: '1' accepted, '0' refused, '2' another job, which has the lock, stands for it;
--          where there is a '2', a list of that string, and id and queue of each of those other jobs
-- EVENTS   wakes one waiting worker for each queue that got a due job; the first of these jobs may go along (_deliver)
--
-- Repeating the call is harmless: payload and result of a job with a chosen id contain the nonce of the call that made it,
-- and a generated id that has a payload or a result was accepted before. Only a job that ended in the meantime and whose
-- result is not kept leaves no trace, and runs again.

-- @include _clock

local argv = ARGV            -- a local is found faster
local now = clock(argv[1])
local resent = argv[2] == '1'
local now_text = string.format('%.0f', now)  -- a number is written anew each time

-- @module Delivery _deliver

-- Nearly every call is of one job that is due and has nothing special.
if #argv == 10 and argv[4] == '' and argv[5] == '' and argv[6] == '0' and argv[7] == '' and not resent then
  local queue, id, payload = argv[3], argv[9], argv[10]
  call('SET', JOB .. id, payload)
  call('ZADD', QUEUE .. queue, now_text, id)
  if call('EXISTS', WAITING .. queue) == 1 then
    Delivery.wake_with(queue, id, payload)
  end
  return '1'
end

local due_queues = {}

-- @module Storing _store

local verdicts, duplicates = {}, {}
local firsts = {}            -- queue -> place of the first job that is due and has nothing special
local plain, payloads = {}, {}  -- of plain jobs: queue -> score, id, score, id, ...; name, payload, name, payload, ...
local at = 3
while argv[at] do
  local queue, when, nonce, attempts, extra = argv[at], argv[at + 1], argv[at + 2], argv[at + 3], argv[at + 4]
  local first, last = at + 6, at + 5 + 2 * argv[at + 5]
  local is_plain = when == '' and extra == '' and attempts == '0' and not resent
  if is_plain and nonce == '' then
    local list = plain[queue]
    if not list then
      list = {}
      plain[queue] = list
      firsts[queue] = firsts[queue] or first
    end
    for i = first, last, 2 do
      local id, n, k = argv[i], #list, #payloads
      list[n + 1], list[n + 2] = now_text, id
      payloads[k + 1], payloads[k + 2] = JOB .. id, argv[i + 1]
      verdicts[#verdicts + 1] = '1'
    end
  else
    for i = first, last, 2 do
      local verdict, duplicate, duplicate_queue =
        Storing.store(queue, argv[i], when, nonce, attempts, argv[i + 1], Storing.extras_of(extra))
      verdicts[#verdicts + 1] = verdict
      if is_plain and verdict == '1' then
        firsts[queue] = firsts[queue] or i
      end
      if duplicate then
        duplicates[#duplicates + 1], duplicates[#duplicates + 2] = duplicate, duplicate_queue
      end
    end
  end
  at = last + 1
end
for k = 1, #payloads, BATCH do
  call('MSET', unpack(payloads, k, math.min(k + BATCH - 1, #payloads)))
end
for queue, list in pairs(plain) do
  for first = 1, #list, BATCH do
    call('ZADD', QUEUE .. queue, unpack(list, first, math.min(first + BATCH - 1, #list)))
  end
  due_queues[queue] = true
end
if Storing.used then
  Storing.write_stored()
end
for queue in pairs(due_queues) do
  local first = firsts[queue]
  if not first then
    Delivery.wake(queue, now)
  elseif call('EXISTS', WAITING .. queue) == 1 then
    Delivery.wake_with(queue, argv[first], argv[first + 1])
  end
end
if Storing.used then
  Storing.announce_stored()
end
local verdict_text = table.concat(verdicts)
if #duplicates > 0 then
  return { verdict_text, unpack(duplicates) }
end
return verdict_text
