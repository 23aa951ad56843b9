-- Schedules. Each has a name that is its own in this Redis, and belongs to the queue that its jobs go to, its home.
--
--   SCHEDULE_QUEUES       set: queues that have schedules
--   SCHEDULES .. home     sorted set: name -> when its next tick is fired (ms); 0: somebody has to find that out;
--                         NEVER_DUE_MS: it is paused, over, or code that nobody runs any more
--   SCHEDULE .. name      hash, the record of a schedule
--       home                   the queue that it belongs to
--       spec, payload, extra   the definition: JSON, a job's payload as a template, its priority, limits and lock
--       serializer             of the payload
--       digest, timing         of the definition, and when it is due as text, by which changes are known
--       rev                    how many times it was defined
--       source                 'code': processes define it, and it is fired as long as one of them lives
--                              'api': it was defined at run time
--       gen                    when the latest process started that defines it in code (ms)
--       changed                when it was defined, changed or removed last (ms)
--       mark                   the tick up to which all ticks are dealt with (ms); it goes back only with a wrong clock
--       fired, fired_from      the latest tick that was fired, and the first since one was dropped: these are not fired
--                              again when the clock was put back, or by a new definition
--       paused, removed        '1' or not there
--       problem                why it could not be fired
--       zone                   in which those who fire it read it, if it names none
--       runs                   by which the place of the next run is found
--   RUNS .. name          hash: place -> `fired|due|tick|how|outcome|ended|job id`
--                         how: 't' on time, 'l' late, 'n' by hand, 'd' ticks that were dropped
--                         outcome: '' not yet, 'c' complete, 'f' failed, 'a' aborted, 'x' expired, 's' skipped: an
--                         earlier run had not ended, 'd' dropped: missed, 'r' refused: the id is taken
--   SEEN                  sorted set: name -> when a process last said that it defines it; of those that are over:
--                         since when
--   CLOCK .. home         the latest time that a scheduler has seen
--   REV                   counts what changes a definition or its standing: while it is the same, nobody need compare
--
-- ONE RUN A TICK: schedulers only ever compare and set. A tick is fired by the call that finds the schedule at the
-- revision, the mark and the due time that the scheduler had read. That call moves the mark and the due time on and
-- stores the job. So any number of schedulers may try, a call may be sent twice, and a scheduler may die at any moment.
--
-- CODE AND RUN TIME: what is changed or removed at run time stays so until a process starts that defines the schedule
-- in code. Of two processes that define it differently the one that started later wins, as long as it lives.

-- Silent for so long: the schedules are nobody's. Another process has had the time to take over.
local STALE_MS = 2 * TAKE_OVER_MS
-- How long records are kept of schedules that nobody defines, and of those that are over.
local KEPT_MS = 7 * 86400000
local RUNS_KEPT = 20

local function count_change(c)
  call('INCR', c.k.REV)
  call('PEXPIRE', c.k.REV, 30 * 86400000)
  call('PUBLISH', c.k.SCHEDULE_NEWS, '')
end

-- What code of processes that started at `gen` may do about a schedule: 'same' as it is, 'take' it, let it 'stay', or
-- leave it to 'others', who define it differently.
local function standing(c, name, digest, gen)
  local known, source, stored_gen, changed, removed =
    unpack(call('HMGET', c.k.SCHEDULE .. name, 'digest', 'source', 'gen', 'changed', 'removed'))
  if not known then
    return 'take'
  elseif removed or source == 'api' then
    return gen > tonumber(changed) and 'take' or 'stay'
  elseif known == digest then
    return 'same'
  end
  local seen = tonumber(call('ZSCORE', c.k.SEEN, name) or 0)
  return (gen > tonumber(stored_gen) or seen < c.now - TAKE_OVER_MS) and 'take' or 'others'
end

local function leave_home(c, home, name)
  call('ZREM', c.k.SCHEDULES .. home, name)
  if call('EXISTS', c.k.SCHEDULES .. home) == 0 then
    call('SREM', c.k.SCHEDULE_QUEUES, home)
  end
end

-- The id of the job of a run, if it has not ended.
local function open_job(c, run)
  local id = string.match(run, '^%d+|%d+|%d+|%a|||(.*)$')
  return id and call('EXISTS', c.k.JOB .. id) == 1
end

-- A stock worker that has ended a job leaves its spec.
local function forget_spec(c, home, run)
  local id = string.match(run, '^%d+|%d+|%d+|%a|||(.+)$')
  if id then
    call('HDEL', c.k.SPECS .. home, id)
  end
end

-- Where the next run is noted: in the place of the oldest one whose job has ended, or else of the oldest one. A job
-- that has not ended is remembered, however many ticks are skipped meanwhile.
local function next_slot(c, home, name)
  for _ = 1, RUNS_KEPT do
    local slot = call('HINCRBY', c.k.SCHEDULE .. name, 'runs', 1) % RUNS_KEPT
    local run = call('HGET', c.k.RUNS .. name, slot) or ''
    if not open_job(c, run) then
      forget_spec(c, home, run)
      return slot
    end
  end
  return call('HINCRBY', c.k.SCHEDULE .. name, 'runs', 1) % RUNS_KEPT
end

local function note_run(c, name, slot, fired, due, tick, how, outcome, id)
  call('HSET', c.k.RUNS .. name, slot, table.concat({ fired, due, tick, how, outcome, '', id }, '|'))
end

-- Forget schedules that nobody has defined for long, and those that are over for long.
local function sweep(c)
  for _, name in ipairs(call('ZRANGEBYSCORE', c.k.SEEN, '-inf', c.now - KEPT_MS, 'LIMIT', 0, 100)) do
    local home = call('HGET', c.k.SCHEDULE .. name, 'home')
    call('DEL', c.k.SCHEDULE .. name, c.k.RUNS .. name)
    call('ZREM', c.k.SEEN, name)
    if home then
      leave_home(c, home, name)
    end
    count_change(c)
  end
end

return {
  STALE_MS = STALE_MS,
  count_change = count_change,
  standing = standing,
  leave_home = leave_home,
  open_job = open_job,
  next_slot = next_slot,
  note_run = note_run,
  sweep = sweep,
}
