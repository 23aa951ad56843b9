-- Schedules. They belong to the queue that their jobs go to, their home.
--
--   SCHEDULE_QUEUES       set: queues that have schedules
--   SCHEDULES .. home     sorted set: name -> when its next tick is fired (ms); 0: somebody has to find that out; PARKED: it is
--                         paused, over, or code that nobody runs any more
--   SCHEDULE .. home|name hash, the record of a schedule
--       spec, payload, extra   the definition: JSON, a job's payload as a template, its priority, limits and lock
--       serializer             of the payload
--       digest, timing         of the definition, and when it is due as text, by which changes are known
--       rev                    how many times it was defined
--       source                 'code': processes define it, and it is fired as long as one of them lives; 'api': run time
--       gen                    when the latest process started that defines it in code (ms)
--       changed                when it was changed at run time, or removed (ms)
--       mark                   the tick up to which all ticks are dealt with (ms): it never goes back
--       paused, removed        '1' or not there
--       problem                why nobody fires it
--       runs                   by which the place of the next run is found
--   RUNS .. home|name     hash: place -> `fired|due|tick|how|outcome|ended|job id`
--                         how: 't' on time, 'l' late, 'n' by hand; outcome: '' not yet, 'c' complete, 'f' failed, 'a' aborted,
--                         'x' expired, 's' skipped: an earlier run had not ended, 'd' dropped: missed, 'r' refused: the id is taken
--   SEEN .. home          sorted set: name -> when a process last said that it defines it; of those that are over: since when
--   CLOCK .. home         the latest time that a scheduler has seen
--
-- ONE RUN A TICK: schedulers only ever compare and set. A tick is fired by the script that finds the schedule at the revision
-- and the due time that the scheduler had read, and that script moves the mark and the due time on and stores the job. So
-- any number of schedulers may try, a call may be sent twice, and a scheduler may die at any moment.
--
-- CODE AND RUN TIME: what is changed or removed at run time stays so until a process starts that defines the schedule in
-- code. Of two processes that define it differently the one that started later wins, as long as it lives.

local PARKED = 9e15
local STALE_MS = 60000             -- without a word from a process, its definitions are nobody's
local KEPT_MS = 7 * 86400000       -- how long records are kept of schedules that nobody defines, and of those that are over
local CLOCK_TOLERANCE_MS = 3600000 -- a clock that goes back further was wrong before
local RUNS_KEPT = 20

local function schedule_key(home, name)
  return home .. '|' .. name
end

-- What code of processes that started at `gen` may do about a schedule: 'same' as it is, 'take' it, or let it 'stay'.
local function standing(home, name, digest, gen, now)
  local known, source, stored_gen, changed, removed =
    unpack(call('HMGET', SCHEDULE .. schedule_key(home, name), 'digest', 'source', 'gen', 'changed', 'removed'))
  if not known then
    return 'take'
  elseif removed or source == 'api' then
    return gen > tonumber(changed) and 'take' or 'stay'
  elseif known == digest then
    return 'same'
  end
  local seen = tonumber(call('ZSCORE', SEEN .. home, name) or 0)
  return (gen > tonumber(stored_gen) or seen < now - STALE_MS) and 'take' or 'stay'
end

-- The id of the job of a run, if it has not ended.
local function open_job(run)
  local id = string.match(run, '^%d+|%d+|%d+|%a|||(.*)$')
  return id and call('EXISTS', JOB .. id) == 1
end

-- Where the next run is noted: in the place of the oldest one whose job has ended, or else of the oldest one. A job that
-- has not ended is remembered, however many ticks are skipped meanwhile.
local function next_slot(key)
  for _ = 1, RUNS_KEPT do
    local slot = call('HINCRBY', SCHEDULE .. key, 'runs', 1) % RUNS_KEPT
    if not open_job(call('HGET', RUNS .. key, slot) or '') then
      return slot
    end
  end
  return call('HINCRBY', SCHEDULE .. key, 'runs', 1) % RUNS_KEPT
end

local function note_run(key, slot, fired, due, tick, how, outcome, id)
  call('HSET', RUNS .. key, slot, table.concat({ fired, due, tick, how, outcome, '', id }, '|'))
end

-- Forget schedules that nobody has defined for long, and those that are over for long.
local function sweep(home, now)
  for _, name in ipairs(call('ZRANGEBYSCORE', SEEN .. home, '-inf', now - KEPT_MS, 'LIMIT', 0, 100)) do
    call('DEL', SCHEDULE .. schedule_key(home, name), RUNS .. schedule_key(home, name))
    call('ZREM', SCHEDULES .. home, name)
    call('ZREM', SEEN .. home, name)
    if call('EXISTS', SCHEDULES .. home, SEEN .. home) == 0 then
      call('SREM', SCHEDULE_QUEUES, home)
    end
  end
end
