-- Fire ticks: each stores its job, moves the mark on and says when the next one is due, or does nothing.
--
-- KEYS  1: home
-- ARGV  1: time in ms or ''
--       then for each tick:
--       name, due, revision, mark, to mark, next, note, overlap, tick, queue, job id, when, attempts, payload, extra
--         due, revision, mark  as they were read: if they have changed since, another scheduler was faster; due '': by hand
--         to mark         the tick up to which all is dealt with after this one
--         next            when the next one is due (ms), or '' if there is none
--         note            't' on time | 'l' late | 'n' by hand | 'd' ticks up to the mark are dropped, and `tick` is the last of
--                         them | '' nothing to note | '!' nobody can fire it: the payload says why
--         overlap         'skip' if an earlier run has not ended, or ''
--         job id          '' if there is no job
--         when ...        as in enqueue.lua; chosen ids have their name for a nonce
-- RETURNS  one character for each: '1' fired | '.' done, there was no job | '0' it has changed | 'e' it is not due yet
--          | 's' skipped: an earlier run has not ended | 'r' refused: a job of this id exists | '2' fired: another job, which
--          has the lock, stands for it; where there is a '2', a list of that string, and id and queue of each of those jobs
-- EVENTS   wakes workers
--
-- Repeating the call is harmless: what was fired has changed.

-- @include _clock
-- @include _score
-- @include _wake
-- @include _limits

local argv = ARGV
local now = clock(argv[1])
local resent = false

-- @include _store
-- @include _schedule

local home = KEYS[1]
local verdicts, stand_ins = {}, {}

local function earlier_runs(key)
  for _, run in ipairs(call('HVALS', RUNS .. key)) do
    if open_job(run) then
      return true
    end
  end
  return false
end

-- The job of a tick, noted among the schedule's runs; the run's slot is in the job's spec.
local function start_run(key, due, at)
  due = due == '0' and argv[at + 8] or due  -- it was to be planned
  local id = argv[at + 10]
  if argv[at + 7] == 'skip' and earlier_runs(key) then
    note_run(key, next_slot(key), now, due, argv[at + 8], argv[at + 6], 's', '')
    return 's'
  end
  local priority, spec, limits, lock = extras_of(argv[at + 14])
  local entries = spec == '' and {} or cmsgpack.unpack(spec)
  local slot = next_slot(key)
  entries[#entries + 1] = { 's', key, slot }
  local verdict, stand_in, stand_in_queue = store(
    argv[at + 9], id, argv[at + 11], id, argv[at + 12], argv[at + 13], priority, cmsgpack.pack(entries), limits, lock
  )
  if verdict ~= '0' or argv[at + 6] ~= 'n' then  -- a run by hand that is refused was sent before
    note_run(key, slot, now, due, argv[at + 8], argv[at + 6], verdict == '0' and 'r' or '', stand_in or id)
  end
  if stand_in then
    stand_ins[#stand_ins + 1], stand_ins[#stand_ins + 2] = stand_in, stand_in_queue
  end
  return verdict == '0' and 'r' or verdict
end

local function fire(at)
  local name, key = argv[at], schedule_key(home, argv[at])
  local due = argv[at + 1]
  local rev, mark, removed, problem = unpack(call('HMGET', SCHEDULE .. key, 'rev', 'mark', 'removed', 'problem'))
  if not rev or removed then
    return '0'
  elseif due == '' then
    return start_run(key, math.floor(now), at)
  end
  local stored = call('ZSCORE', SCHEDULES .. home, name)
  if rev ~= argv[at + 2] or tonumber(mark) ~= tonumber(argv[at + 3]) or tonumber(stored or -1) ~= tonumber(due) then
    return '0'
  elseif tonumber(due) > now then
    return 'e'
  end
  local note, verdict = argv[at + 6], '.'
  if note == '!' then
    call('HSET', SCHEDULE .. key, 'problem', argv[at + 13])
    call('ZADD', SCHEDULES .. home, argv[at + 5], name)
    return verdict
  end
  if problem then
    call('HDEL', SCHEDULE .. key, 'problem')
  end
  call('HSET', SCHEDULE .. key, 'mark', argv[at + 4])
  call('ZADD', SCHEDULES .. home, argv[at + 5] == '' and PARKED or argv[at + 5], name)
  if argv[at + 5] == '' and call('HGET', SCHEDULE .. key, 'source') == 'api' then
    call('ZADD', SEEN .. home, now, name)
  end
  if argv[at + 10] ~= '' then
    verdict = start_run(key, due, at)
  elseif note ~= '' then
    note_run(key, next_slot(key), now, due, argv[at + 8], note, note, '')
  end
  return verdict
end

for at = 2, #argv, 15 do
  verdicts[#verdicts + 1] = fire(at)
end
write_stored()
if #stand_ins > 0 then
  return { table.concat(verdicts), unpack(stand_ins) }
end
return table.concat(verdicts)
