-- Fire ticks: each stores its job, moves the mark on and says when the next one is due, or does nothing.
--
-- ARGV  1: time in ms or ''
--       2: home
--       then for each tick:
--       name, due, revision, mark, to mark, next, note, overlap, tick, queue, job id, when, attempts, payload, extra
--         due, revision, mark  as they were read: if they have changed since, another scheduler was faster
--                              due '': by hand
--         to mark         the tick up to which all is dealt with after this one
--         next            when the next one is due (ms), or '' if there is none
--         note            't' on time | 'l' late | 'n' by hand | '' nothing to note
--                         'd' ticks up to the mark are dropped, and `tick` is the last of them
--                         '!' it could not be fired: the payload says why, and nothing moves on
--         overlap         'skip' if an earlier run has not ended, or ''
--         job id          '' if there is no job
--         when ...        as in enqueue.lua; chosen ids have their name for a nonce
-- RETURNS  one character for each: '1' fired | '.' done, there was no job | '0' it has changed | 'e' it is not due yet
--          'x' its job cannot be stored, nothing was done | 's' skipped: an earlier run has not ended
--          'r' refused: a job of this id exists | '2' fired: another job, which has the lock, stands for it
--          Where there is a '2', a list of that string, and id and queue of each of those jobs.
-- EVENTS   wakes workers
-- REPEAT   what was fired has changed
--
-- What it works on, beside `c` (_call), is `f`: home, duplicates (id and queue of jobs that stand for others), queues
-- (name -> whether jobs can be put in it).
-- USES  Wake, Storing, Schedule

-- Whether an earlier run of a schedule has not ended.
local function earlier_runs(c, name)
  for _, run in ipairs(call('HVALS', c.k.RUNS .. name)) do
    if Schedule.open_job(c, run) then
      return true
    end
  end
  return false
end

-- Whether jobs can be put in a queue.
local function is_queue(c, f, queue)
  if f.queues[queue] == nil then
    local kind = call('TYPE', c.k.QUEUE .. queue).ok
    f.queues[queue] = kind == 'zset' or kind == 'none'
  end
  return f.queues[queue]
end

-- What is stored with the job of a tick, decoded; nil if that cannot be done. Lua has no rollback: one schedule that
-- cannot be fired must not end the script in the middle of the others.
local function decoded_job(c, f, argv, at)
  local readable, priority, spec, limits, lock = pcall(Storing.extras_of, argv[at + 14])
  if not readable or type(priority) ~= 'number' or type(limits) ~= 'table' or (lock and #lock ~= 5) then
    return nil
  end
  local entries = {}
  if spec ~= '' then
    readable, entries = pcall(cmsgpack.unpack, spec)
  end
  if not readable or type(entries) ~= 'table' or not is_queue(c, f, argv[at + 9]) then
    return nil
  end
  return { priority = priority, entries = entries, limits = limits, lock = lock }
end

-- The job of a tick, noted among the schedule's runs; the run's slot is in the job's spec.
local function start_run(c, f, name, due, argv, at, job)
  local id, tick, how = argv[at + 10], argv[at + 8], argv[at + 6]
  due = due == '0' and tick or due  -- it was to be planned
  if argv[at + 7] == 'skip' and earlier_runs(c, name) then
    Schedule.note_run(c, name, Schedule.next_slot(c, f.home, name), c.now, due, tick, how, 's', '')
    return 's'
  end
  local slot = Schedule.next_slot(c, f.home, name)
  job.entries[#job.entries + 1] = { 's', name, slot }
  local verdict, duplicate, duplicate_queue = Storing.store(
    c, argv[at + 9], id, argv[at + 11], id, argv[at + 12], argv[at + 13], job.priority, cmsgpack.pack(job.entries),
    job.limits, job.lock
  )
  if verdict ~= '0' or how ~= 'n' then  -- a run by hand that is refused was sent before
    Schedule.note_run(c, name, slot, c.now, due, tick, how, verdict == '0' and 'r' or '', duplicate or id)
  end
  if duplicate then
    local n = #f.duplicates
    f.duplicates[n + 1], f.duplicates[n + 2] = duplicate, duplicate_queue
  end
  return verdict == '0' and 'r' or verdict
end

-- Move a schedule on to its next tick.
local function move_on(c, home, name, argv, at)
  local key = c.k.SCHEDULE .. name
  call('HSET', key, 'mark', argv[at + 4])
  if argv[at + 10] ~= '' then
    call('HDEL', key, 'problem')
  end
  call('ZADD', c.k.SCHEDULES .. home, argv[at + 5] == '' and NEVER_DUE_MS or argv[at + 5], name)
  if argv[at + 5] == '' and call('HGET', key, 'source') == 'api' then
    call('ZADD', c.k.SEEN, c.now, name)
  end
end

-- Whether a tick was fired before the clock was put back; else it is noted that it is fired, as the latest of those
-- that were fired without one being dropped.
local function was_fired(c, name, tick, from, latest)
  if latest and tick <= latest then
    return from and tick >= from
  end
  call('HSET', c.k.SCHEDULE .. name, 'fired', string.format('%.0f', tick))
  if not from then
    call('HSET', c.k.SCHEDULE .. name, 'fired_from', string.format('%.0f', tick))
  end
  return false
end

-- One tick; returns its character.
local function fire(c, f, argv, at)
  local name, due, note = argv[at], argv[at + 1], argv[at + 6]
  local rev, mark, removed, from, latest =
    unpack(call('HMGET', c.k.SCHEDULE .. name, 'rev', 'mark', 'removed', 'fired_from', 'fired'))
  if not rev or removed then
    return '0'
  end
  if due == '' then
    local job = decoded_job(c, f, argv, at)
    return job and start_run(c, f, name, math.floor(c.now), argv, at, job) or 'x'
  elseif note == '!' then
    if rev == argv[at + 2] then
      call('HSET', c.k.SCHEDULE .. name, 'problem', argv[at + 13])
    end
    return '.'
  end
  local stored = tonumber(call('ZSCORE', c.k.SCHEDULES .. f.home, name) or -1)
  if rev ~= argv[at + 2] or tonumber(mark) ~= tonumber(argv[at + 3]) or stored ~= tonumber(due) then
    return '0'
  elseif tonumber(due) > c.now then
    return 'e'
  end
  local has_job = argv[at + 10] ~= ''
  local job = has_job and decoded_job(c, f, argv, at)
  if has_job and not job then
    return 'x'
  end
  move_on(c, f.home, name, argv, at)
  if has_job then
    if was_fired(c, name, tonumber(argv[at + 8]), from and tonumber(from), latest and tonumber(latest)) then
      return '.'
    end
    return start_run(c, f, name, due, argv, at, job)
  elseif note ~= '' then
    call('HDEL', c.k.SCHEDULE .. name, 'fired_from')
    Schedule.note_run(c, name, Schedule.next_slot(c, f.home, name), c.now, due, argv[at + 8], note, note, '')
  end
  return '.'
end

return function(c, argv)
  local f = { home = argv[2], duplicates = {}, queues = {} }
  local verdicts = {}
  for at = 3, #argv, 15 do
    verdicts[#verdicts + 1] = fire(c, f, argv, at)
  end
  if c.storing then
    Storing.write_stored(c)
  end
  Wake.wake_all(c)  -- a job that waits under a limit is in no addition
  if c.storing then
    Storing.announce_stored(c)
  end
  if #f.duplicates > 0 then
    return { table.concat(verdicts), unpack(f.duplicates) }
  end
  return table.concat(verdicts)
end
