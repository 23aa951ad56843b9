-- Store 1..n jobs and wake a worker.
--
-- ARGV  1: time in ms or ''
--       2: '1' if this call may have been made before and its reply was lost
--       then groups of jobs that have all in common but id and payload: queue, when, unique, attempts, extra, number of
--       jobs, and for each of them id and payload
--         when      '' due at once | '+ms' due that much later | '=ms' due at that time
--         unique    '' if the id was generated; else a nonce: the caller chose the id, and it is refused if it exists
--         attempts  attempts that count as started already (arq's _job_try less one)
--         extra     '' | four digits, that many bytes of msgpack { priority, limits, lock or false }, spec or ''
--                   (Redis' msgpack has no byte strings, so the spec stands behind)
--                   lock: { name, until, what to do if it is held, ttl in ms or 0, ms that it may put the job off
--                   or 0 }
-- RETURNS  one character for each job: '1' accepted, '0' refused, '2' another job, which has the lock, stands for it;
--          where there is a '2', a list of that string, and id and queue of each of those other jobs
-- EVENTS   wakes one waiting worker for each queue that got a due job; the first of these jobs may go along (_delivery)
--
-- REPEAT   payload and result of a job with a chosen id contain the nonce of the call that made it, and a generated id
--          that has a payload or a result was accepted before. Only a job that ended in the meantime and whose result
--          is not kept leaves no trace, and runs again.
-- USES  Wake, Delivery, Storing

-- One job that is due and has nothing special: nearly every call.
local function enqueue_plain(c, queue, id, payload)
  local k = c.k
  call('SET', k.JOB .. id, payload)
  call('ZADD', k.QUEUE .. queue, c.now_text, id)
  if call('EXISTS', k.WAITING .. queue) == 1 then
    Delivery.wake_with(c, queue, id, payload)
  end
  return '1'
end

-- A group of jobs that are due and have nothing special.
local function add_plain(c, e, argv, queue, first, last)
  local list = e.plain[queue]
  if not list then
    list = {}
    e.plain[queue] = list
    e.firsts[queue] = e.firsts[queue] or first
  end
  local job, payloads, verdicts, now_text = c.k.JOB, e.payloads, e.verdicts, c.now_text
  for i = first, last, 2 do
    local id, n, m = argv[i], #list, #payloads
    list[n + 1], list[n + 2] = now_text, id
    payloads[m + 1], payloads[m + 2] = job .. id, argv[i + 1]
    verdicts[#verdicts + 1] = '1'
  end
end

-- A group of other jobs.
local function store_group(c, e, argv, at, first, last, is_plain)
  local queue, when, nonce, attempts = argv[at], argv[at + 1], argv[at + 2], argv[at + 3]
  local priority, spec, limits, lock = Storing.extras_of(argv[at + 4])
  for i = first, last, 2 do
    local verdict, duplicate, duplicate_queue =
      Storing.store(c, queue, argv[i], when, nonce, attempts, argv[i + 1], priority, spec, limits, lock)
    e.verdicts[#e.verdicts + 1] = verdict
    if is_plain and verdict == '1' then
      e.firsts[queue] = e.firsts[queue] or i
    end
    if duplicate then
      local n = #e.duplicates
      e.duplicates[n + 1], e.duplicates[n + 2] = duplicate, duplicate_queue
    end
  end
end

local function write_plain(c, e)
  local payloads = e.payloads
  for first = 1, #payloads, BATCH do
    call('MSET', unpack(payloads, first, math.min(first + BATCH - 1, #payloads)))
  end
  for queue, list in pairs(e.plain) do
    for first = 1, #list, BATCH do
      call('ZADD', c.k.QUEUE .. queue, unpack(list, first, math.min(first + BATCH - 1, #list)))
    end
    c.due_queues[queue] = true
  end
end

-- Wake a worker for each queue that got a due job; the first of these jobs may go along.
local function wake_for(c, e, argv)
  for queue in pairs(c.due_queues) do
    local first = e.firsts[queue]
    if not first then
      Wake.wake(c, queue)
    elseif call('EXISTS', c.k.WAITING .. queue) == 1 then
      Delivery.wake_with(c, queue, argv[first], argv[first + 1])
    end
  end
end

return function(c, argv)
  c.resent = argv[2] == '1'
  c.now_text = string.format('%.0f', c.now)  -- a number is written anew each time
  if #argv == 10 and argv[4] == '' and argv[5] == '' and argv[6] == '0' and argv[7] == '' and not c.resent then
    return enqueue_plain(c, argv[3], argv[9], argv[10])
  end
  -- plain: queue -> score, id, score, id, ...; payloads: name, payload, name, payload, ...; firsts: queue -> where the
  -- first of its jobs stands that is due and has nothing special
  local e = { verdicts = {}, duplicates = {}, firsts = {}, plain = {}, payloads = {} }
  local at = 3
  while argv[at] do
    local first, last = at + 6, at + 5 + 2 * argv[at + 5]
    local is_plain = argv[at + 1] == '' and argv[at + 4] == '' and argv[at + 3] == '0' and not c.resent
    if is_plain and argv[at + 2] == '' then
      add_plain(c, e, argv, argv[at], first, last)
    else
      store_group(c, e, argv, at, first, last, is_plain)
    end
    at = last + 1
  end
  write_plain(c, e)
  if c.storing then
    Storing.write_stored(c)
  end
  wake_for(c, e, argv)
  if c.storing then
    Storing.announce_stored(c)
  end
  local verdict_text = table.concat(e.verdicts)
  if #e.duplicates > 0 then
    return { verdict_text, unpack(e.duplicates) }
  end
  return verdict_text
end
